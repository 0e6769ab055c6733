package testenv

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
)

// FreeAddr finds a port of 127.0.0.1 that nobody listens on, for a program that
// must be told one. It lies below those that the kernel gives to connections and
// to listeners on port 0, so that hardly anybody takes it before that program
// does; if somebody does, the program fails to start, which is seen.
func FreeAddr() (string, error) {
	low := 32768 // the kernel's default
	if data, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		_, _ = fmt.Sscan(string(data), &low)
	}
	first := max(1024, low-16000)
	var failed error
	for range 100 {
		if low-first < 1000 {
			break // an unusual range: as good as it gets
		}
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", first+rand.IntN(low-first)))
		if err == nil {
			return l.Addr().String(), l.Close()
		}
		failed = err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", errors.Join(failed, err)
	}
	return l.Addr().String(), l.Close()
}
