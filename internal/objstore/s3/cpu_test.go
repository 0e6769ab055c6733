package s3_test

import (
	"syscall"
	"testing"
	"time"
)

// cpu starts to measure the CPU time of this process; the result ends it.
func cpu(b *testing.B) func(*testing.B) (user, sys time.Duration) {
	b.Helper()
	read := func(b *testing.B) (time.Duration, time.Duration) {
		b.Helper()
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano()), time.Duration(u.Stime.Nano())
	}
	user, sys := read(b)
	return func(b *testing.B) (time.Duration, time.Duration) {
		u, s := read(b)
		return u - user, s - sys
	}
}
