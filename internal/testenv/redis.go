package testenv

import (
	"bufio"
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
	"testing"
	"time"
)

// RedisServer is a redis-server of its own: no persistence, no eviction, on
// loopback. It ends with the context that it was started with.
type RedisServer struct {
	addr, program, dir string
	args               []string

	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{}
}

// redisWithin bounds a start of redis-server.
const redisWithin = 20 * time.Second

// StartRedis starts the given redis-server program on a free port; dir, which
// must exist, gets its log. args are further arguments, "--requirepass x".
func StartRedis(ctx context.Context, program, dir string, args ...string) (*RedisServer, error) {
	r := &RedisServer{program: program, dir: dir, args: args}
	// redis-server cannot take any free port by itself, and another process
	// may take the one found here before it does.
	var err error
	for range 5 {
		if r.addr, err = FreeAddr(); err != nil {
			return nil, err
		}
		if err = r.start(ctx); err == nil {
			return r, nil
		}
	}
	return nil, err
}

// Addr returns host:port of the server.
func (r *RedisServer) Addr() string { return r.addr }

// URL returns the redis:// URL of the server.
func (r *RedisServer) URL() string { return "redis://" + r.addr }

func (r *RedisServer) start(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	host, port, err := net.SplitHostPort(r.addr)
	if err != nil {
		return err
	}
	args := append([]string{
		"--bind", host, "--port", port, "--dir", r.dir, "--logfile", filepath.Join(r.dir, "redis.log"),
		"--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction", "--daemonize", "no",
	}, r.args...)
	cmd := exec.CommandContext(ctx, r.program, args...)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting redis-server: %w", err)
	}
	done := make(chan struct{})
	go func() { _ = cmd.Wait(); close(done) }() // how it ended is of no interest
	r.cmd, r.done = cmd, done
	ready, cancel := context.WithTimeout(ctx, redisWithin)
	defer cancel()
	for {
		err := redisPing(r.addr)
		if err == nil {
			return nil
		}
		select {
		case <-done:
			return fmt.Errorf("starting redis-server: it ended at once\n%s", r.tail())
		case <-ready.Done():
			r.end(true)
			return fmt.Errorf("starting redis-server: %w\n%s", err, r.tail())
		case <-time.After(5 * time.Millisecond): // it has no readiness signal without systemd
		}
	}
}

// redisPing asks whether the server answers; "no password given" is an answer.
func redisPing(addr string) error {
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte("PING\r\n")); err != nil {
		return err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return err
	}
	if !strings.HasPrefix(line, "+PONG") && !strings.HasPrefix(line, "-NOAUTH") {
		return errors.New("redis-server says " + strings.TrimSpace(line))
	}
	return nil
}

func (r *RedisServer) tail() string {
	data, err := os.ReadFile(filepath.Join(r.dir, "redis.log"))
	if err != nil {
		return err.Error()
	}
	return string(data[max(0, len(data)-2000):])
}

// end ends the process, if there is one, and waits for its end.
func (r *RedisServer) end(kill bool) {
	if r.cmd == nil {
		return
	}
	if kill {
		_ = r.cmd.Process.Kill() // it may have ended already
	} else {
		_ = r.cmd.Process.Signal(os.Interrupt)
	}
	<-r.done
	r.cmd = nil
}

// Stop ends the server in order and waits for its end. It may be called twice.
func (r *RedisServer) Stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.end(false)
}

// Kill ends the server at once and waits for its end. It may be called twice.
func (r *RedisServer) Kill() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.end(true)
}

// Restart ends the server and starts it again at the same address, to live
// until ctx ends. What it had in memory is lost.
func (r *RedisServer) Restart(ctx context.Context) error {
	r.Stop()
	return r.start(ctx)
}

// Pause stops the server's process, so that it accepts connections and answers
// nothing, until resume is called.
func (r *RedisServer) Pause(t testing.TB) (resume func()) {
	t.Helper()
	signal := func(s syscall.Signal) {
		r.mu.Lock()
		defer r.mu.Unlock()
		if err := r.cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	signal(syscall.SIGSTOP)
	return func() { signal(syscall.SIGCONT) }
}

// Redis starts a redis-server for this test; args are as in StartRedis. Where
// the program is missing the test is skipped, or fails if it must not be.
func Redis(t testing.TB, args ...string) *RedisServer {
	t.Helper()
	program := Need(t, "redis-server", "redis-server")
	r, err := StartRedis(t.Context(), program, t.TempDir(), args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Kill)
	return r
}
