package cli

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/cli/config"
	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/mirror"
	"github.com/stella-ops/stella/internal/objstore"
	"github.com/stella-ops/stella/internal/release"
	"github.com/stella-ops/stella/internal/secret"
	"github.com/stella-ops/stella/internal/ui"
)

// TestReasonsHaveHints walks the source of package release for constants of
// type Reason: each has hints, and is in Reasons.
func TestReasonsHaveHints(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "../release/refusal.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	declared := map[release.Reason]bool{}
	ast.Inspect(f, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if typ, ok := spec.Type.(*ast.Ident); !ok || typ.Name != "Reason" {
			return true
		}
		text, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Error(err)
		}
		declared[release.Reason(text)] = true
		return true
	})
	if len(declared) < 20 || len(declared) != len(release.Reasons()) {
		t.Errorf("%d reasons are declared, Reasons has %d", len(declared), len(release.Reasons()))
	}
	m := &mirrors{config: &config.Config{}, engine: mirror.Mirror{Dir: "/srv/mirror"}}
	for reason := range declared {
		hints := m.hints(mirror.Feed{Name: "advisories"}, reason, "mirror/index.json", "k1")
		if len(hints) == 0 {
			t.Errorf("%s has no hint", reason)
		}
		for _, hint := range hints {
			if strings.ContainsAny(hint, "{}") {
				t.Errorf("%s: a place was not filled in: %s", reason, hint)
			}
		}
	}
	for reason := range reasonHints() {
		if !declared[reason] {
			t.Errorf("there is no reason %q", reason)
		}
	}
}

func TestExplain(t *testing.T) {
	m := &mirrors{config: &config.Config{}, engine: mirror.Mirror{Dir: "/srv/mirror"}}
	f := mirror.Feed{Name: "advisories", Source: objstore.Place{Scheme: objstore.S3, Host: "bucket", Path: "a/latest"}}
	if m.explain(f, nil) != nil {
		t.Error("nothing is an error")
	}
	err := m.explain(f, errors.Join(release.Refuse(release.Equivocation, "two of them"), errors.New("and the disk is full")))
	if fault.KindOf(err) != fault.Trust || !strings.HasPrefix(err.Error(), "feed advisories: refused: equivocation: two of them") ||
		!strings.Contains(strings.Join(fault.HintsOf(err), "\n"), "ls -l /srv/mirror/advisories/evidence") {
		t.Errorf("%v %q", err, fault.HintsOf(err))
	}
	err = m.explain(f, fault.Errorf(fault.Locked, "in use").Hint("wait"))
	if fault.KindOf(err) != fault.Locked || err.Error() != "feed advisories: in use" || len(fault.HintsOf(err)) != 1 {
		t.Errorf("%v %q", err, fault.HintsOf(err))
	}
}

// TestVerdictOfSeveral: a trust failure decides, else the first error does.
func TestVerdictOfSeveral(t *testing.T) {
	e := func(k fault.Kind) error { return fault.Errorf(k, "%s", k).Hint("%s", k) }
	for _, c := range []struct {
		errs []error
		want fault.Kind
	}{
		{[]error{nil, nil}, fault.None},
		{[]error{nil, e(fault.Transient)}, fault.Transient},
		{[]error{e(fault.Transient), e(fault.NotFound)}, fault.Transient},
		{[]error{e(fault.NotFound), nil, e(fault.Transient)}, fault.NotFound},
		{[]error{e(fault.Transient), e(fault.Trust), e(fault.NotFound)}, fault.Trust},
		{[]error{e(fault.Interrupted), e(fault.Trust)}, fault.Trust},
	} {
		err := verdictOf(c.errs)
		if fault.KindOf(err) != c.want {
			t.Errorf("%v is %s, want %s", c.errs, fault.KindOf(err), c.want)
		}
		for _, part := range c.errs {
			if part != nil && (!strings.Contains(err.Error(), part.Error()) || !strings.Contains(strings.Join(fault.HintsOf(err), " "), part.Error())) {
				t.Errorf("%v is not told: %v", part, err)
			}
		}
	}
}

func TestSizes(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 1<<20 - 1: "1.0 MiB", 5 << 30: "5.0 GiB", 1 << 62: "4096.0 PiB"} {
		if got := size(n); got != want {
			t.Errorf("%d is %q, want %q", n, got, want)
		}
	}
	for text, want := range map[string]int64{"1": 1, "1048576B": 1 << 20, "700MiB": 700 << 20, "4GiB": 4 << 30, "2TiB": 2 << 40} {
		if got, err := parseSize(text); err != nil || got != want {
			t.Errorf("%s is %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "GiB", "-1", "1.5GiB", "4GB", "1 GiB", "9999999999999999", "999999999999999TiB"} {
		if got, err := parseSize(text); err == nil {
			t.Errorf("%q is %d", text, got)
		}
	}
}

func TestHTTPSCredentials(t *testing.T) {
	dir := t.TempDir()
	ref := func(text string) secret.Ref {
		path := filepath.Join(dir, rand.Text())
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return secret.Ref("file:" + path)
	}
	for want, h := range map[string]config.MirrorHTTPS{
		"":                   {},
		"Bearer abc":         {Token: ref("abc\n")},
		"Basic bWU6aHVudGVy": {Username: "me", Password: ref("hunter")},
	} {
		authorize, err := httpsCredentials(h)
		if err != nil {
			t.Fatal(err)
		}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://x.example", nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := authorize(r); err != nil || r.Header.Get("Authorization") != want {
			t.Errorf("%q, %v; want %q", r.Header.Get("Authorization"), err, want)
		}
	}
	for _, h := range []config.MirrorHTTPS{{Token: ref("abc\r\nX-Evil: 1")}, {Username: "me", Password: ref("a\x00b")}, {Token: "file:/nonexistent"}} {
		if _, err := httpsCredentials(h); fault.KindOf(err) != fault.Config || strings.Contains(err.Error(), "Evil") {
			t.Errorf("%v", err)
		}
	}
}

// TestFeedsSideBySide: a feed that waits holds up no other.
func TestFeedsSideBySide(t *testing.T) {
	m := &mirrors{feeds: []mirror.Feed{{Name: "slow"}, {Name: "quick"}}}
	ready := make(chan struct{})
	errs := m.each(t.Context(), func(_ context.Context, _ *mirror.Mirror, f mirror.Feed) error {
		if f.Name == "slow" {
			<-ready // which only the other one opens
			return errors.New("slow")
		}
		close(ready)
		return nil
	}, nil)
	if len(errs) != 2 || errs[0] == nil || errs[1] != nil {
		t.Errorf("%v", errs)
	}
}

// TestMirrorProgress: nobody is bothered with what is over within a second;
// after that there is a rate and the time left.
func TestMirrorProgress(t *testing.T) {
	app, out, errs := testApp(t, "")
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	app.Now = func() time.Time { return now }
	app.Streams.Now = app.Now
	p := newMirrorReport(app, app.Streams.Events("stella.test/v1"))
	p.notify(mirror.Event{Type: mirror.Found, Feed: "a", ExportID: "one", Members: 4, Total: 40 << 20})
	p.notify(mirror.Event{Type: mirror.Progress, Feed: "a", ExportID: "one", Bytes: 1 << 20, Total: 40 << 20})
	if errs.String() != "" {
		t.Errorf("at once: %q", errs)
	}
	now = now.Add(10 * time.Second)
	p.notify(mirror.Event{Type: mirror.Progress, Feed: "a", ExportID: "one", Members: 1, Bytes: 10 << 20, Total: 40 << 20})
	p.notify(mirror.Event{Type: mirror.Restarted, Feed: "a", Text: "the source changed"})
	want := "a: 1/4 members, 10.0 MiB of 40.0 MiB, 1.0 MiB/s, 30s left\nwarning: a: the source changed; beginning again\n"
	if errs.String() != want || out.String() != "" {
		t.Errorf("%q, want %q; %q", errs, want, out)
	}
}

// TestMirrorProgressJSON: one event of a feed in five seconds.
func TestMirrorProgressJSON(t *testing.T) {
	app, out, _ := testApp(t, "")
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	app.Now = func() time.Time { return now }
	app.Streams.Now, app.Streams.Format = app.Now, ui.JSON
	p := newMirrorReport(app, app.Streams.Events("stella.test/v1"))
	for i := range 100 { // 9.9 seconds
		p.notify(mirror.Event{Type: mirror.Progress, Feed: "a", Bytes: int64(i) << 10, Total: 100 << 10})
		now = now.Add(100 * time.Millisecond)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	var last struct {
		Type string `json:"type"`
		mirrorProgress
	}
	if len(lines) != 2 || json.Unmarshal([]byte(lines[1]), &last) != nil {
		t.Fatalf("%d events: %s", len(lines), out)
	}
	if last.Type != "progress" || last.Feed != "a" || last.Bytes != 50<<10 || last.Rate != 10<<10 || last.Left != 5 {
		t.Errorf("%+v", last)
	}
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
