package testenv

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Process is a server that runs as a process of its own and tells by
// sd_notify when it is ready and where it listens.
type Process struct {
	Name  string
	Log   string            // path of the file with its output
	Facts map[string]string // what it said: X_STELLA_URL, …
	cmd   *exec.Cmd
	done  chan struct{}
	err   error
	stop  sync.Once
}

// readyWithin bounds the wait for READY=1.
const readyWithin = 60 * time.Second

// Start starts cmd and waits until it says READY=1. Its output goes to a file
// in dir; NOTIFY_SOCKET is set for it.
func Start(ctx context.Context, dir, name string, cmd *exec.Cmd) (*Process, error) {
	return StartWith(ctx, dir, name, cmd, nil)
}

// StartWith is Start with another place for standard output; nil means the
// file in dir.
func StartWith(ctx context.Context, dir, name string, cmd *exec.Cmd, stdout *os.File) (*Process, error) {
	// A socket path has at most 108 bytes, so it cannot live in dir.
	sockDir, err := os.MkdirTemp("", "n")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(sockDir)
	addr := &net.UnixAddr{Name: filepath.Join(sockDir, "s"), Net: "unixgram"}
	conn, err := net.ListenUnixgram("unixgram", addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	log, err := os.OpenFile(filepath.Join(dir, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	if cmd.Env == nil {
		cmd.Env = os.Environ()
	}
	cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+addr.Name)
	cmd.Stdout, cmd.Stderr = log, log
	if stdout != nil {
		cmd.Stdout = stdout
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	p := &Process{Name: name, Log: log.Name(), cmd: cmd, done: make(chan struct{}), Facts: map[string]string{}}
	go func() { p.err = cmd.Wait(); close(p.done) }()
	if err := p.await(ctx, conn); err != nil {
		p.Kill()
		return nil, fmt.Errorf("starting %s: %w\n%s", name, err, p.Tail())
	}
	return p, nil
}

func (p *Process) await(ctx context.Context, conn *net.UnixConn) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Now()) })
	defer stop()
	go func() {
		select {
		case <-p.done:
			conn.SetReadDeadline(time.Now())
		case <-ctx.Done():
		}
	}()
	buf := make([]byte, 4096)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			select {
			case <-p.done:
				return fmt.Errorf("it ended before it was ready: %w", errors.Join(p.err, errors.New("no READY=1")))
			default:
				return fmt.Errorf("waiting for READY=1: %w", err)
			}
		}
		ready := false
		for line := range strings.SplitSeq(string(buf[:n]), "\n") {
			name, value, _ := strings.Cut(line, "=")
			p.Facts[name] = value
			ready = ready || line == "READY=1"
		}
		if ready {
			return nil
		}
	}
}

// URL is where the process says that it listens.
func (p *Process) URL() string { return p.Facts["X_STELLA_URL"] }

// AdminURL is its second, loopback listener.
func (p *Process) AdminURL() string { return p.Facts["X_STELLA_ADMIN_URL"] }

// PID is its process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Signal sends a signal.
func (p *Process) Signal(s syscall.Signal) error { return p.cmd.Process.Signal(s) }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Stop ends the process by SIGTERM, or by SIGKILL if it does not obey in 15 s,
// and returns how it ended.
func (p *Process) Stop() error {
	p.stop.Do(func() {
		_ = p.Signal(syscall.SIGTERM)
		select {
		case <-p.done:
		case <-time.After(15 * time.Second):
			p.Kill()
			p.err = fmt.Errorf("%s ignored SIGTERM", p.Name)
		}
	})
	return p.err
}

// Kill ends the process by SIGKILL and waits for its end.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// Tail returns the last output of the process.
func (p *Process) Tail() string {
	data, _ := os.ReadFile(p.Log)
	if len(data) > 4000 {
		data = data[len(data)-4000:]
	}
	return string(data)
}
