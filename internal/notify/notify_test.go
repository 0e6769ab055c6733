package notify

import (
	"net"
	"os"
	"path/filepath"
	"testing"
)

func TestSend(t *testing.T) {
	dir, err := os.MkdirTemp("", "n") // a socket path has at most 108 bytes
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	for _, name := range []string{filepath.Join(dir, "s"), "@stella-notify-test-" + filepath.Base(dir)} {
		addr := name
		if addr[0] == '@' {
			addr = "\x00" + addr[1:]
		}
		conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: addr, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		t.Setenv("NOTIFY_SOCKET", name)
		if err := Send("READY=1", "X_STELLA_URL=http://localhost:1"); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 200)
		n, err := conn.Read(buf)
		if err != nil || string(buf[:n]) != "READY=1\nX_STELLA_URL=http://localhost:1" {
			t.Errorf("%s: got %q, %v", name, buf[:n], err)
		}
	}
}

func TestSendWithoutManager(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if err := Send("READY=1"); err != nil {
		t.Error(err)
	}
}

func TestSendRefuses(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "nobody"))
	if err := Send("READY=1"); err == nil {
		t.Error("nobody listens, and no error")
	}
	if err := Send("STATUS=a\nREADY=1"); err == nil {
		t.Error("a forged assignment was sent")
	}
}
