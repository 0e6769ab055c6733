// Package notify speaks the sd_notify protocol to a service manager.
//
// It guarantees that without NOTIFY_SOCKET every call is a no-op that returns
// nil, so a server behaves the same under systemd, in a test harness and on a
// terminal.
package notify

import (
	"fmt"
	"net"
	"os"
	"strings"
)

// Send sends the given assignments ("READY=1", "STATUS=…") as one datagram.
// Assignments must not contain newlines; names of our own begin with X_STELLA_.
func Send(assignments ...string) error {
	addr := os.Getenv("NOTIFY_SOCKET")
	if addr == "" {
		return nil
	}
	for _, a := range assignments {
		if strings.ContainsRune(a, '\n') {
			return fmt.Errorf("notifying service manager: newline in %q", a)
		}
	}
	if strings.HasPrefix(addr, "@") {
		addr = "\x00" + addr[1:] // abstract namespace, sd_notify(3)
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: addr, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("notifying service manager: %w", err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(strings.Join(assignments, "\n"))); err != nil {
		return fmt.Errorf("notifying service manager: %w", err)
	}
	return nil
}
