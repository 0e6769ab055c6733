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
	"syscall"
	"time"

	"github.com/stella-ops/stella/internal/authority"
	"github.com/stella-ops/stella/internal/testenv"
)

// roleEnv makes this program a server.
const (
	roleEnv    = "BENCH_AUTHORITY_ROLE"
	roleServer = "server"
	roleFloor  = "floor"
)

// memoryStore is the connection string of a store in memory.
const memoryStore = "memory"

// serve runs the Authority.
func serve() int {
	go tellCPU()
	return authority.Main(os.Args[1:], environ(), io.Discard, os.Stderr)
}

// tellCPU answers each line on standard input with the CPU time used so far.
func tellCPU() {
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		fmt.Println(selfCPU().Nanoseconds())
	}
}

// selfCPU is the processor time this process has used, all threads.
func selfCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
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

// process is this program in one of its roles.
type process struct {
	proc      *testenv.Process
	bootstrap string
	roots     *testenv.CA // of client certificates
	in        io.WriteCloser
	out       *bufio.Scanner
}

func startServer(ctx context.Context, ca *testenv.CA, dir, storage string) (*process, error) {
	keys := filepath.Join(dir, "keys")
	if err := os.MkdirAll(keys, 0o700); err != nil {
		return nil, err
	}
	roots, err := testenv.NewCA(dir)
	if err != nil {
		return nil, err
	}
	bootstrap := rand.Text() + rand.Text()
	if err := os.WriteFile(filepath.Join(dir, "bootstrap"), []byte(bootstrap), 0o600); err != nil {
		return nil, err
	}
	cert, key, err := ca.Issue("bench")
	if err != nil {
		return nil, err
	}
	// The limits are on, so that counting is measured, and never reached.
	config := fmt.Sprintf(`schemaVersion: 1
issuer: https://127.0.0.1:0
listen: 127.0.0.1:0
tls: {certificate: %s, key: %s}
mtls: {listen: 127.0.0.1:0, tenants: [{tenant: bench, roots: %q}]}
admin: {listen: "127.0.0.1:0"}
storage: {connectionString: %q, databaseName: %q, acceptDataLoss: %v}
signing: {keyDirectory: %s, createIfMissing: true}
security: {rateLimiting: {token: {permitLimit: 1000000, window: "00:00:01"}, authorize: {permitLimit: 1000000, window: "00:00:01"}}}
bootstrap: {apiKey: "file:%s"}
`, cert, key, roots.CertFile, storage, "bench_"+filepath.Base(dir), storage == memoryStore, keys, filepath.Join(dir, "bootstrap"))
	path := filepath.Join(dir, "authority.yaml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		return nil, err
	}
	p, err := start(ctx, dir, roleServer, "--config", path)
	if err != nil {
		return nil, err
	}
	p.bootstrap, p.roots = bootstrap, roots
	return p, nil
}

func startFloor(ctx context.Context, ca *testenv.CA, dir string) (*process, error) {
	cert, key, err := ca.Issue("floor")
	if err != nil {
		return nil, err
	}
	return start(ctx, dir, roleFloor, cert, key)
}

func start(ctx context.Context, dir, role string, args ...string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Env = append(os.Environ(), roleEnv+"="+role)
	p := &process{}
	if p.in, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	p.out = bufio.NewScanner(r)
	if p.proc, err = testenv.StartWith(ctx, dir, role, cmd, w); err != nil {
		return nil, err
	}
	return p, w.Close()
}

func (p *process) stop() { _ = p.proc.Stop() }

// cpu asks the process for the CPU time it has used.
func (p *process) cpu() (time.Duration, error) {
	if _, err := io.WriteString(p.in, "cpu\n"); err != nil {
		return 0, fmt.Errorf("asking %s for its CPU time: %w", p.proc.Name, err)
	}
	if !p.out.Scan() {
		return 0, fmt.Errorf("%s ended: %s", p.proc.Name, p.proc.Tail())
	}
	n, err := strconv.ParseInt(p.out.Text(), 10, 64)
	return time.Duration(n), err
}
