package s3server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/stella-ops/stella/internal/notify"
	"github.com/stella-ops/stella/internal/testenv"
)

// childEnv carries the options of a gateway that is a process of its own.
const childEnv = "STELLA_TESTENV_S3SERVER"

// child are the options as childEnv has them.
type child struct {
	Options
	AccessKey, SecretKey string
}

// StartProcess runs the gateway as a process of its own: the running program
// once more, whose main or TestMain must begin with Child. So there may be
// several, one may be killed, and no working directory moves. ctx ends it.
func StartProcess(ctx context.Context, o Options) (*Server, error) {
	o.defaults()
	if os.Getenv(childEnv) != "" {
		return nil, errors.New("starting versitygw: this process is to be one, but its main did not call s3server.Child")
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if o.Dir, err = filepath.Abs(o.Dir); err != nil {
		return nil, err
	}
	// The file of users must be there before two processes look for it.
	if err := os.MkdirAll(filepath.Join(o.Dir, usersDir), 0o700); err != nil {
		return nil, err
	}
	iam, err := accounts(o)
	if err != nil {
		return nil, fmt.Errorf("starting versitygw: %w", err)
	}
	text, err := json.Marshal(child{o, o.accessKey, o.secretKey})
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), childEnv+"="+string(text))
	if _, err := cmd.StdinPipe(); err != nil { // it ends when this process does, however that ends
		return nil, err
	}
	p, err := testenv.Start(ctx, o.Dir, "versitygw", cmd)
	if err != nil {
		return nil, err
	}
	_, addr, _ := strings.Cut(p.URL(), "://")
	s := o.server(addr, iam)
	s.Process = p
	s.stop = p.Stop
	return s, nil
}

// Child is the gateway's process: if this one is to be that, it runs until
// SIGTERM, and was is true; the caller exits with code. Else it does nothing.
func Child() (code int, was bool) {
	text := os.Getenv(childEnv)
	if text == "" {
		return 0, false
	}
	if err := serve(text); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1, true
	}
	return 0, true
}

func serve(text string) error {
	var c child
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return fmt.Errorf("reading %s: %w", childEnv, err)
	}
	c.accessKey, c.secretKey = c.AccessKey, c.SecretKey
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // until the parent is gone
		cancel()
	}()
	s, err := Start(ctx, c.Options)
	if err != nil {
		return err
	}
	if err := notify.Send("READY=1", "X_STELLA_URL="+s.Endpoint); err != nil {
		return errors.Join(err, s.Stop())
	}
	<-ctx.Done()
	return s.Stop()
}
