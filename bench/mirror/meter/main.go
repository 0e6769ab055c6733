// Command meter runs another command and writes, to file descriptor 3, how long
// that took and what the kernel's accounting (getrusage(2)) says of it and of
// the children it waited for: wall, CPU (user and system) in nanoseconds, peak
// resident memory in bytes.
//
// It guarantees that the peak is that of the command or at most about 2.5 MiB:
// on Linux a process that was started by a big one begins with the big one's
// peak as its own, so whoever measures has to be small, and this links nothing.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "meter: usage: meter COMMAND [ARGUMENT...]")
		os.Exit(2)
	}
	syscall.CloseOnExec(3)
	cmd := exec.Command(os.Args[1], os.Args[2:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	began := time.Now()
	err := cmd.Run()
	wall := time.Since(began)
	if cmd.ProcessState == nil {
		fmt.Fprintln(os.Stderr, "meter:", err)
		os.Exit(127)
	}
	if err := tell(cmd.ProcessState, wall); err != nil {
		fmt.Fprintln(os.Stderr, "meter:", err)
		os.Exit(126)
	}
	if code := cmd.ProcessState.ExitCode(); code >= 0 {
		os.Exit(code)
	}
	fmt.Fprintln(os.Stderr, "meter:", err) // a signal ended it
	os.Exit(125)
}

func tell(p *os.ProcessState, wall time.Duration) error {
	usage, ok := p.SysUsage().(*syscall.Rusage)
	if !ok {
		return fmt.Errorf("no resource usage on %s", runtime.GOOS)
	}
	peak := int64(usage.Maxrss)
	if runtime.GOOS == "linux" {
		peak *= 1024 // getrusage(2): kilobytes there, bytes elsewhere
	}
	_, err := fmt.Fprintf(os.NewFile(3, "result"), "%d %d %d\n", wall, p.UserTime()+p.SystemTime(), peak)
	return err
}
