package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/stella-ops/stella/internal/authority"
	"github.com/stella-ops/stella/internal/testenv"
)

// roleEnv makes this program the server.
const roleEnv = "BENCH_AUTHORITY_ROLE"

// serve runs the Authority and answers each line on standard input with the
// CPU time used so far.
func serve() int {
	go func() {
		in := bufio.NewScanner(os.Stdin)
		for in.Scan() {
			fmt.Println(selfCPU().Nanoseconds())
		}
	}()
	return authority.Main(os.Args[1:], environ(), io.Discard, os.Stderr)
}

// environ leaves out what would configure another Authority.
func environ() []string {
	var out []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, authority.EnvPrefix) {
			out = append(out, kv)
		}
	}
	return out
}

type server struct {
	proc      *testenv.Process
	bootstrap string
	in        io.WriteCloser
	out       *bufio.Scanner
}

func startServer(ctx context.Context, ca *testenv.CA, dir, storage string) (*server, error) {
	keys := filepath.Join(dir, "keys")
	if err := os.MkdirAll(keys, 0o700); err != nil {
		return nil, err
	}
	s := &server{bootstrap: rand.Text() + rand.Text()}
	if err := os.WriteFile(filepath.Join(dir, "bootstrap"), []byte(s.bootstrap), 0o600); err != nil {
		return nil, err
	}
	cert, key, err := ca.Issue("bench")
	if err != nil {
		return nil, err
	}
	config := fmt.Sprintf(`schemaVersion: 1
issuer: https://127.0.0.1:0
listen: 127.0.0.1:0
tls: {certificate: %s, key: %s}
storage: {connectionString: %q, databaseName: bench, acceptDataLoss: %v}
signing: {keyDirectory: %s, createIfMissing: true}
security: {rateLimiting: {token: {permitLimit: 1000000, window: "00:00:01"}, authorize: {permitLimit: 1000000, window: "00:00:01"}}}
bootstrap: {apiKey: "file:%s"}
`, cert, key, storage, storage == "memory", keys, filepath.Join(dir, "bootstrap"))
	path := filepath.Join(dir, "authority.yaml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, "--config", path)
	cmd.Env = append(os.Environ(), roleEnv+"=server")
	if s.in, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	s.out = bufio.NewScanner(r)
	if s.proc, err = testenv.StartWith(ctx, dir, "authority", cmd, w); err != nil {
		return nil, err
	}
	return s, w.Close()
}

func (s *server) stop() { _ = s.proc.Stop() }

// cpu asks the server for the CPU time it has used.
func (s *server) cpu() (time.Duration, error) {
	if _, err := io.WriteString(s.in, "cpu\n"); err != nil {
		return 0, fmt.Errorf("asking the server for its CPU time: %w", err)
	}
	if !s.out.Scan() {
		return 0, fmt.Errorf("the server ended: %s", s.proc.Tail())
	}
	n, err := strconv.ParseInt(s.out.Text(), 10, 64)
	return time.Duration(n), err
}
