package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// sample is what one run took.
type sample struct {
	wall, cpu time.Duration
	peak      int64         // bytes
	server    time.Duration // CPU of the gateway meanwhile
}

const (
	// runWithin bounds one run of a tool.
	runWithin = 20 * time.Minute
	// shown bounds what is repeated of a tool's complaints, in bytes.
	shown = 1000
)

// measure runs a contestant once.
func (b *bench) measure(ctx context.Context, c *contestant, f *feed, target string) (sample, error) {
	env, err := b.environment(c)
	if err != nil {
		return sample{}, err
	}
	read, write, err := os.Pipe()
	if err != nil {
		return sample{}, err
	}
	defer read.Close()
	ctx, cancel := context.WithTimeout(ctx, runWithin)
	defer cancel()
	cmd := exec.CommandContext(ctx, b.meter, append([]string{c.program}, c.args(f, target)...)...)
	var complaints bytes.Buffer
	cmd.Env, cmd.Dir, cmd.ExtraFiles = env, b.dir, []*os.File{write}
	cmd.Stderr = &complaints
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // so that what it starts ends with it
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	before := b.gatewayCPU()
	err = cmd.Run()
	after := b.gatewayCPU()
	_ = write.Close()
	if err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
		return sample{}, fmt.Errorf("%s: %w: %s", c.name, err, tail(complaints.String()))
	}
	text, err := io.ReadAll(io.LimitReader(read, 1<<10))
	if err != nil {
		return sample{}, err
	}
	s := sample{server: after - before}
	if _, err := fmt.Sscan(string(text), &s.wall, &s.cpu, &s.peak); err != nil {
		return sample{}, fmt.Errorf("reading the figures of %s: %w", c.name, err)
	}
	return s, nil
}

func tail(text string) string {
	if text = strings.TrimSpace(text); len(text) > shown {
		text = "…" + text[len(text)-shown:]
	}
	return text
}

// gatewayCPU is the processor time that the gateway has used; 0 where the
// system does not tell.
func (b *bench) gatewayCPU() time.Duration {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", b.server.Process.PID()))
	if err != nil {
		return 0
	}
	// proc_pid_stat(5): utime and stime are fields 14 and 15, in hundredths of
	// a second; the name, field 2, may hold anything but ends in the last ")".
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(fields) < 13 {
		return 0
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	if errors.Join(err1, err2) != nil {
		return 0
	}
	return time.Duration(user+system) * (time.Second / 100)
}

// target makes an empty folder, and what the contestants need to use it.
func (b *bench) target(f *feed) (string, error) {
	b.serial++
	target := b.path(fmt.Sprintf("target-%d", b.serial))
	if err := os.Mkdir(target, 0o755); err != nil {
		return "", err
	}
	return target, b.configure(f, target)
}

// flush writes out the dirty pages of the file system, so that nobody pays for
// those of another.
func flush(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return os.NewSyscallError("syncfs", unix.Syncfs(int(d.Fd())))
}
