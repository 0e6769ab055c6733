package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/cli/config"
	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/mirror"
	"github.com/stella-ops/stella/internal/mirror/store"
	"github.com/stella-ops/stella/internal/release"
)

// TestJudge: each verdict, beside one that differs in one thing.
func TestJudge(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	good := func() *mirror.Status {
		return &mirror.Status{
			Feed: "a", Shown: store.Facts{Feed: "a", ExportID: "two", Layout: store.Signed}, Previous: "one", Releases: []string{"one", "two"},
			Newest: release.Pin{ExportID: "two"}, Contact: store.Contact{At: now},
		}
	}
	refusal := func(at time.Time, why release.Reason) *store.LastRefusal {
		return &store.LastRefusal{At: at, Refusal: store.Refusal{Reason: why, Message: "because"}}
	}
	for name, c := range map[string]struct {
		change  func(*mirror.Status)
		verdict mirrorVerdict
		next    string
	}{
		"good":                   {func(*mirror.Status) {}, verdictOK, ""},
		"refused":                {func(s *mirror.Status) { s.Refused = refusal(now, release.Rollback) }, verdictRefused, "stella mirror rollback --feed a --to EXPORT"},
		"refused before contact": {func(s *mirror.Status) { s.Refused = refusal(now.Add(-time.Second), release.Rollback) }, verdictOK, ""},
		"refused at first":       {func(s *mirror.Status) { *s = mirror.Status{Feed: "a", Refused: refusal(now, release.KeyUnknown)} }, verdictRefused, "add the key to keys"},
		"nothing yet":            {func(s *mirror.Status) { *s = mirror.Status{Feed: "a"} }, verdictNever, "stella mirror sync --feed a"},
		"held":                   {func(s *mirror.Status) { s.Held, s.Shown.ExportID = true, "one" }, verdictHeld, "stella mirror rollback --feed a --to two --reason TEXT"},
		"held, newest is pruned": {func(s *mirror.Status) { s.Held, s.Shown.ExportID, s.Releases = true, "one", []string{"one"} }, verdictHeld, "until a newer release comes"},
		"held at the newest":     {func(s *mirror.Status) { s.Held = true }, verdictOK, ""},
		"stale":                  {func(s *mirror.Status) { s.Stale = "it has expired" }, verdictStale, "stella mirror sync --feed a"},
		"refused for being so":   {func(s *mirror.Status) { s.Stale, s.Refused = "it has expired", refusal(now, release.Stale) }, verdictStale, "stella mirror sync --feed a"},
		"held and old":           {func(s *mirror.Status) { s.Held, s.Shown.ExportID, s.Stale = true, "one", "it has expired" }, verdictHeld, ""},
		"cut off":                {func(s *mirror.Status) { s.Unfinished = true }, verdictOK, "stella mirror sync --feed a"},
	} {
		m := &mirrors{config: &config.Config{}, engine: mirror.Mirror{Dir: "/srv"}}
		st := good()
		c.change(st)
		verdict, _, next := m.judge(mirror.Feed{Name: "a"}, st)
		if verdict != c.verdict || next == nil || !strings.Contains(strings.Join(next, "\n"), c.next) || c.verdict == verdictOK && c.next == "" && len(next) > 0 {
			t.Errorf("%s: %s, next %q; want %s, %q", name, verdict, next, c.verdict, c.next)
		}
	}
}

// TestStatusOfADamagedFeed: what cannot be read is told beside what can, and
// fails.
func TestStatusOfADamagedFeed(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a", "b"} {
		s, err := store.Create(dir + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if name == "b" {
			writeFile(t, dir+"/b/history/0000000001", "no record")
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	file := dir + "/stella.yaml"
	writeFile(t, file, "mirror: {root: "+dir+", feeds: [{name: a, source: 'file:///x'}, {name: b, source: 'file:///y'}, {name: c, source: 'file:///z'}]}\n")
	app, out, errs := testApp(t, "")
	code := Run(t.Context(), []string{"mirror", "status", "--config", file, "--output", "json"}, app)
	if code != fault.Trust.ExitCode() || !strings.Contains(errs.String(), "feed b: ") {
		t.Errorf("exit %d: %s", code, errs)
	}
	for _, want := range []string{`"verdict": "damaged"`, `"verdict": "never-synced"`, `"feed": "c"`} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %s in %s", want, out)
		}
	}
}
