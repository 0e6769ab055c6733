package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/stella-ops/stella/internal/signals"
	"github.com/stella-ops/stella/internal/testenv"
)

// Who is in the lab besides the operator.
const (
	peopleID   = "stella-cli" // the public client that people log in with
	robotID    = "nightly-sync"
	machineID  = "mirror-host"
	personName = "ada"
	// personPassword protects nothing: the lab ends with the tour.
	personPassword = "correct horse battery staple"
	personScopes   = "feedser.jobs.trigger"
)

// somebody writes a configuration for somebody in the lab and returns the
// environment for commands that they type.
func (l *lab) somebody(name, auth string) ([]string, error) {
	home := filepath.Join(l.Dir, name)
	if err := os.Mkdir(home, 0o700); err != nil {
		return nil, err
	}
	conf := fmt.Sprintf(`authority:
  url: %s
  ca_file: %s
auth:
  scopes: [%s]
  audience: %s
  token_cache: %s
%stenant: %s
`, l.Issuer, l.CA.CertFile, personScopes, testenv.LoadAudience, filepath.Join(home, "tokens"), auth, testenv.Tenant)
	path := filepath.Join(home, "stella.yaml")
	return []string{"STELLA_CONFIG=" + path}, os.WriteFile(path, []byte(conf), 0o600)
}

// person: somebody logs in on a terminal without a browser, and decides in a
// browser elsewhere.
func (t *tourist) person(ctx context.Context) error {
	t.title("A person logs in")
	if err := t.RegisterPublic(ctx, peopleID, personScopes, testenv.LoadAudience); err != nil {
		return err
	}
	if err := t.RegisterUser(ctx, personName, personPassword, personScopes); err != nil {
		return err
	}
	env, err := t.somebody("person", "  client_id: "+peopleID+"\n")
	if err != nil {
		return err
	}
	someone := t.as(env)
	if err := someone.login(ctx, 3, "somebody who denies", func(p *testenv.Person, complete string) error {
		_, err := p.Decide(ctx, complete, false)
		return err
	}); err != nil {
		return err
	}
	if err := someone.login(ctx, 0, "somebody who mistypes the password, then approves", func(p *testenv.Person, complete string) error {
		right := p.Password
		p.Password = "wrong password"
		page, err := p.SignIn(ctx, complete)
		if err != nil {
			return err
		}
		if page.Status != http.StatusForbidden {
			return fmt.Errorf("a wrong password: %d", page.Status)
		}
		p.Password = right
		_, err = p.Decide(ctx, complete, true)
		return err
	}); err != nil {
		return err
	}
	for _, verb := range []string{"whoami", "status"} {
		if _, err := someone.stella(ctx, 0, "auth", verb); err != nil {
			return err
		}
	}
	t.proved("a person logs in on a terminal without a browser", "denied: exit 3; approved: a token bound to the terminal's key")
	return t.refreshed(ctx, someone)
}

// refreshed: when the access token has ended, the next one needs no person.
func (t *tourist) refreshed(ctx context.Context, someone *tourist) error {
	for range 60 {
		out, err := someone.unseen(ctx, 0, "auth", "login", "--output", "json")
		if err != nil {
			return err
		}
		var r struct {
			Fetched bool `json:"fetched"`
		}
		if err := json.Unmarshal([]byte(out), &r); err != nil {
			return err
		}
		if r.Fetched {
			t.proved("a login goes on without the person", "a new token by a refresh token that works once")
			return nil
		}
		if err := signals.Sleep(ctx, 200*time.Millisecond); err != nil {
			return err
		}
	}
	return errors.New("the token was never refreshed")
}

// guessing: who tries passwords is stopped, and learns nothing.
func (t *tourist) guessing(ctx context.Context) error {
	t.title("Somebody guesses passwords")
	for _, name := range []string{"bo", "nobody-of-that-name"} {
		if name == "bo" {
			if err := t.RegisterUser(ctx, name, personPassword, personScopes); err != nil {
				return err
			}
		}
		tries := 0
		status := 0
		for ; tries < 10 && status != http.StatusTooManyRequests; tries++ {
			page, err := t.guess(ctx, name, "guess")
			if err != nil {
				return err
			}
			status = page.Status
		}
		page, err := t.guess(ctx, name, personPassword)
		if err != nil {
			return err
		}
		if tries != 5 || page.Status != http.StatusTooManyRequests {
			return fmt.Errorf("%s: locked out after %d guesses, then %d", name, tries, page.Status)
		}
	}
	t.proved("guessing locks a name out, the right password included", "5 guesses, and the same for a name that nobody has")
	return nil
}

func (t *tourist) guess(ctx context.Context, name, word string) (*testenv.Page, error) {
	form := strings.NewReader("client_id=" + peopleID)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.Issuer+"/device_authorization", form)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := t.CA.Client().Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var begun struct {
		Complete string `json:"verification_uri_complete"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<16)).Decode(&begun); err != nil {
		return nil, err
	}
	p, err := t.Person(name, word)
	if err != nil {
		return nil, err
	}
	return p.SignIn(ctx, begun.Complete)
}

// as is the tour as somebody else.
func (t *tourist) as(env []string) *tourist {
	return &tourist{lab: t.lab, out: t.out, env: env}
}

// login runs the login command while decide does what a person does in a
// browser.
func (t *tourist) login(ctx context.Context, want int, who string, decide func(p *testenv.Person, complete string) error) error {
	args := []string{"auth", "login", "--no-qr", "--output", "json"}
	fmt.Fprintf(t.out, "\n$ stella %s     # %s, in a browser elsewhere\n", strings.Join(args, " "), who)
	cmd := as("stella", args...)
	cmd.Env = append(cmd.Env, t.environment()...)
	cmd.Stderr = t.out
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(os.Interrupt) })
	defer stop()
	decided := t.decide(bufio.NewReader(stdout), decide)
	if decided != nil {
		_ = cmd.Process.Signal(os.Interrupt)
	}
	code := 0
	if exit := (*exec.ExitError)(nil); errors.As(cmd.Wait(), &exit) {
		code = exit.ExitCode()
		fmt.Fprintf(t.out, "(exit %d)\n", code)
	}
	switch {
	case decided != nil:
		return decided
	case code != want:
		return fmt.Errorf("stella auth login: exit %d, expected %d", code, want)
	}
	return nil
}

// decide reads where to decide from the command's output, lets it be done, and
// shows the rest.
func (t *tourist) decide(out *bufio.Reader, decide func(p *testenv.Person, complete string) error) error {
	first, err := firstValue(out)
	if err != nil {
		return err
	}
	fmt.Fprintf(t.out, "%s\n", first)
	var begun struct {
		Complete string `json:"verification_uri_complete"`
	}
	if err := json.Unmarshal(first, &begun); err != nil || begun.Complete == "" {
		return fmt.Errorf("the login does not say where to approve it: %.300s", first)
	}
	p, err := t.Person(personName, personPassword)
	if err != nil {
		return err
	}
	if err := decide(p, begun.Complete); err != nil {
		return err
	}
	_, err = io.Copy(t.out, out)
	return err
}

// firstValue reads one JSON value, over one line or several.
func firstValue(r *bufio.Reader) ([]byte, error) {
	var text []byte
	for {
		line, err := r.ReadBytes('\n')
		text = append(text, line...)
		if json.Valid(text) {
			return bytes.TrimSpace(text), nil
		}
		if err != nil {
			return nil, fmt.Errorf("reading the command's output: %w", err)
		}
	}
}
