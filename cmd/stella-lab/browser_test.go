package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/testenv"
	"github.com/stella-ops/stella/internal/testenv/browser"
)

// terminal is a person's place, in which stella is typed.
type terminal struct{ config string }

func (l *lab) terminal(t *testing.T, name string) *terminal {
	t.Helper()
	home := filepath.Join(l.Dir, name)
	if err := os.Mkdir(home, 0o700); err != nil {
		t.Fatal(err)
	}
	s := &terminal{filepath.Join(home, "stella.yaml")}
	conf := fmt.Sprintf("authority: {url: %q, ca_file: %q}\nauth: {client_id: %s, scopes: [%s], audience: %q, token_cache: %q}\ntenant: %s\n",
		l.Issuer, l.CA.CertFile, personalID, testenv.LoadScope, testenv.LoadAudience, filepath.Join(home, "tokens"), testenv.Tenant)
	if err := os.WriteFile(s.config, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *terminal) stella(args ...string) *exec.Cmd {
	cmd := as("stella", args...)
	cmd.Env = append(cmd.Env, "STELLA_CONFIG="+s.config)
	return cmd
}

// whoami is who the terminal acts for.
func (s *terminal) whoami(t *testing.T) string {
	t.Helper()
	out, err := s.stella("auth", "whoami", "--output", "json").Output()
	if err != nil {
		t.Fatalf("whoami: %v\n%s", err, out)
	}
	var who struct {
		Verified bool   `json:"verified"`
		Username string `json:"username"`
	}
	if err := json.Unmarshal(out, &who); err != nil || !who.Verified {
		t.Fatalf("whoami: %v\n%s", err, out)
	}
	return who.Username
}

// login is a stella auth login that waits for its person.
type login struct {
	page, code string // as the terminal shows them
	cmd        *exec.Cmd
	out        bytes.Buffer
	rest       chan string // standard error behind the code
	hang       *time.Timer
}

var (
	shownPage = regexp.MustCompile(`^  (https://\S+)$`)
	shownCode = regexp.MustCompile(`^  ([A-Z]{4}-[A-Z]{4})$`)
)

// login types stella auth login and reads what there is to do.
func (s *terminal) login(t *testing.T, args ...string) *login {
	t.Helper()
	g := &login{cmd: s.stella(append([]string{"auth", "login", "--device", "--no-qr"}, args...)...), rest: make(chan string, 1)}
	g.cmd.Stdout = &g.out
	stderr, err := g.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := g.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	g.hang = time.AfterFunc(slowest, func() { _ = g.cmd.Process.Kill() })
	t.Cleanup(func() { g.hang.Stop(); _ = g.cmd.Process.Kill() })
	lines := bufio.NewScanner(stderr)
	var before strings.Builder
	for g.code == "" && lines.Scan() {
		fmt.Fprintln(&before, lines.Text())
		if m := shownPage.FindStringSubmatch(lines.Text()); m != nil {
			g.page = m[1]
		}
		if m := shownCode.FindStringSubmatch(lines.Text()); m != nil {
			g.code = m[1]
		}
	}
	if g.page == "" || g.code == "" {
		t.Fatalf("no page or no code is shown:\n%s", before.String())
	}
	go func() {
		var b strings.Builder
		for lines.Scan() {
			fmt.Fprintln(&b, lines.Text())
		}
		g.rest <- b.String()
	}()
	return g
}

// ends waits for the end of the command and insists on its exit code.
func (g *login) ends(t *testing.T, want int, says string) {
	t.Helper()
	rest := <-g.rest // before Wait, which closes the pipe
	err := g.cmd.Wait()
	g.hang.Stop()
	code := 0
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	if all := g.out.String() + rest; code != want || !strings.Contains(all, says) {
		t.Fatalf("auth login ends with %d, want %d and %q:\n%s", code, want, says, all)
	}
}

// shows insists on the status and the text of the page, checks that everybody
// can use it, and takes a picture.
func shows(t *testing.T, b *browser.Browser, name string, got, want int, text string) {
	t.Helper()
	if page := b.Text(); got != want || !strings.Contains(page, text) {
		t.Fatalf("%s: status %d, want %d with %q; %s shows\n%s", name, got, want, text, b.URL(), page)
	}
	b.Accessible(name)
	b.Screenshot(strings.ReplaceAll(name, " ", "-"))
}

func signIn(b *browser.Browser, name, password string) int {
	b.Fill("#username", name)
	b.Fill("#password", password)
	return b.Click("button")
}

// TestLoginInBrowser: a person at a terminal and in a browser, both real, from
// the code to the token: with a wrong code, a wrong password, somebody who is
// locked out, and somebody else who has seen the code.
func TestLoginInBrowser(t *testing.T) {
	testenv.Need(t, "chromium", "chromium") // before much is started
	l := startLab(t, testenv.FleetOptions{Lifetimes: unhurried()})
	if err := l.RegisterPublic(t.Context(), personalID, testenv.LoadScope, testenv.LoadAudience); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ana", "bob"} {
		if err := l.RegisterUser(t.Context(), name, password, testenv.LoadScope); err != nil {
			t.Fatal(err)
		}
	}
	cert := filepath.Join(l.Dir, "issuer.crt")
	b, second := browser.New(t, cert), browser.New(t, cert)
	b.Resize(1100, 900)
	second.Resize(1100, 900)
	terminal := l.terminal(t, "ana")

	first := terminal.login(t)
	if first.page != l.Issuer+"/device" {
		t.Errorf("the page is %s", first.page)
	}
	shows(t, b, "lab enter", b.Open(first.page), 200, "Enter your code")
	b.Fill("#user_code", "BBBB-BBBB")
	shows(t, b, "lab wrong code", b.Click("button"), 404, "not known or has expired")
	b.Fill("#user_code", strings.ToLower(strings.ReplaceAll(first.code, "-", " ")))
	shows(t, b, "lab sign in", b.Click("button"), 200, first.code)
	shows(t, b, "lab wrong password", signIn(b, "ana", "wrong password"), 403, "do not match")
	status := 0
	for range 6 { // the sixth is not looked at
		status = signIn(b, "bob", "wrong password")
	}
	shows(t, b, "lab locked out", status, 429, "Too many failed attempts for this user name.")
	if status := signIn(b, "bob", password); status != 429 {
		t.Errorf("the right password of somebody who is locked out: %d", status)
	}
	shows(t, b, "lab consent", signIn(b, "ana", password), 200, "act for you?")
	shows(t, b, "lab approved", b.Click("button[value=approve]"), 200, "Your terminal goes on")
	first.ends(t, 0, "Logged in.")
	if who := terminal.whoami(t); who != "ana" {
		t.Errorf("logged in as %q", who)
	}

	again := terminal.login(t, "--force")
	b.Open(again.page)
	b.Fill("#user_code", again.code)
	b.Click("button")
	consent := signIn(b, "ana", password)
	second.Open(again.page)
	second.Fill("#user_code", again.code)
	shows(t, second, "lab another browser", second.Click("button"), 409, "another browser")
	shows(t, b, "lab consent again", consent, 200, again.code)
	shows(t, b, "lab denied", b.Click("button[value=deny]"), 200, "Nothing was granted")
	again.ends(t, 3, "the login was refused")
	if who := terminal.whoami(t); who != "ana" {
		t.Errorf("a login that was denied has changed who one is: %q", who)
	}
}
