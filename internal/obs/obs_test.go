package obs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/stella-ops/stella/internal/secret"
)

const jwt = "eyJhbGciOiJFUzI1NiIsInR5cCI6ImF0K2p3dCJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl"

func TestLogsHoldNoSecret(t *testing.T) {
	u, err := url.Parse("https://user:hunter2@host/path?token=hunter2")
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{"text", "json"} {
		var b bytes.Buffer
		log := NewLogger(&b, format, new(slog.LevelVar))
		log.LogAttrs(t.Context(), slog.LevelInfo, "msg",
			slog.String("token", "hunter2"), slog.String("client_secret", "hunter2"), slog.String("Authorization", "hunter2"),
			slog.String("client-assertion", "hunter2"), slog.String("DPoP", "hunter2"), slog.Any("password", []byte("hunter2")),
			slog.Group("cookie", slog.String("value", "hunter2")), slog.Group("g", slog.String("refresh_token", "hunter2")),
			slog.Any("header", http.Header{"X": {"hunter2"}}), slog.Any("url", u), slog.Any("body", []byte("hunter2")),
			slog.Any("err", fmt.Errorf("calling: %w", errors.New("bad token "+jwt+", Bearer hunter2hunter2hunter2"))),
			slog.String("text", "got "+jwt), slog.String("two", jwt+","+jwt), slog.Any("value", secret.New([]byte("hunter2"))),
			slog.Any("secret", secret.New([]byte("hunter2"))))
		log.With(slog.String("api_key", "hunter2")).InfoContext(t.Context(), "x")
		if out := b.String(); strings.Contains(out, "hunter2") || strings.Contains(out, "eyJ") {
			t.Errorf("%s: %s", format, out)
		}
	}
}

func TestLogsKeepFacts(t *testing.T) {
	var b bytes.Buffer
	NewLogger(&b, "json", new(slog.LevelVar)).LogAttrs(t.Context(), slog.LevelInfo, "msg",
		slog.String("token_type", "DPoP"), slog.String("key_id", "k1"), slog.Int("tokens", 3), slog.String("secret_file", "/run/x"),
		slog.String("dpop_jkt", "abc"), slog.Any("err", errors.New("basic problem with a bearer")), slog.String("text", "eyJ"))
	var line map[string]any
	if err := json.Unmarshal(b.Bytes(), &line); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]any{
		"token_type": "DPoP", "key_id": "k1", "tokens": 3.0, "secret_file": "/run/x", "dpop_jkt": "abc",
		"err": "basic problem with a bearer", "text": "eyJ",
	} {
		if line[key] != want {
			t.Errorf("%s is %v, want %v", key, line[key], want)
		}
	}
}

func TestLogsAreOneLine(t *testing.T) {
	evil := "x\nlevel=ERROR msg=forged\r\x1b[2K\u2028"
	for _, format := range []string{"text", "json"} {
		var b bytes.Buffer
		NewLogger(&b, format, new(slog.LevelVar)).LogAttrs(t.Context(), slog.LevelInfo, evil, slog.String(evil, evil), slog.Any("err", errors.New(evil)))
		if out := b.String(); strings.Count(out, "\n") != 1 || strings.ContainsAny(out, "\r\x1b\u2028") {
			t.Errorf("%s: %q", format, out)
		}
	}
}

func TestLevelFollowsVariable(t *testing.T) {
	var b bytes.Buffer
	level := new(slog.LevelVar)
	log := NewLogger(&b, "text", level)
	log.DebugContext(t.Context(), "hidden")
	level.Set(slog.LevelDebug)
	log.DebugContext(t.Context(), "shown")
	if out := b.String(); strings.Contains(out, "hidden") || !strings.Contains(out, "shown") {
		t.Error(out)
	}
}

func TestFormat(t *testing.T) {
	env := func(name string) func(string) string {
		return func(n string) string {
			if n == name {
				return "1"
			}
			return ""
		}
	}
	for _, c := range []struct {
		env  string
		tty  bool
		want string
	}{{"", true, "text"}, {"", false, "json"}, {"JOURNAL_STREAM", true, "json"}, {"NOTIFY_SOCKET", true, "json"}} {
		if got := Format(env(c.env), c.tty); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}

func TestRegistry(t *testing.T) {
	reg := NewRegistry("test")
	if err := CheckNames(reg); err != nil {
		t.Error(err)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, f := range families {
		found[f.GetName()] = true
	}
	for _, name := range []string{"stella_build_info", "go_goroutines", "process_cpu_seconds_total"} {
		if !found[name] {
			t.Errorf("%s is missing", name)
		}
	}
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: "log_messages_total", Help: "x"})
	reg.MustRegister(c)
	if err := CheckNames(reg); err == nil || !strings.Contains(err.Error(), "log_messages_total") {
		t.Errorf("a foreign name is %v", err)
	}
	if err := CheckNames(reg, "log_messages_total"); err != nil {
		t.Error(err)
	}
}

func FuzzScrub(f *testing.F) {
	f.Add("got " + jwt + " and Bearer abcdefghijklmnopqrst")
	f.Add(`{"a":"` + jwt + `","b":"` + jwt + `"}`)
	f.Fuzz(func(t *testing.T, text string) {
		once := Scrub(text)
		if Scrub(once) != once {
			t.Fatalf("%q is not stable: %q, %q", text, once, Scrub(once))
		}
		if strings.Contains(Scrub(text+" "+jwt), jwt) {
			t.Fatalf("a token survives behind %q", text)
		}
	})
}
