package textfile

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/mirror/store"
	"github.com/stella-ops/stella/internal/release"
)

var began = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func sample() []Feed {
	return []Feed{{
		Name: "advisories", LastRun: began, ExitCode: 21, LastSuccess: began.Add(-time.Hour), Lag: time.Hour, Held: true, Stale: true,
		Release:  store.Facts{Layout: store.Signed, ExportID: "20261122T110000Z", Sequence: 42, GeneratedAt: began.Add(-2 * time.Hour), ExpiresAt: began.Add(24 * time.Hour)},
		Refusals: map[release.Reason]int64{release.Rollback: 3},
	}, {Name: "plain"}}
}

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "stella.prom")
	if err := Write(path, sample()); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o644 {
		t.Fatalf("%v, %v", info, err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"# TYPE stella_mirror_refusals_total counter\n",
		"stella_mirror_last_run_timestamp_seconds{feed=\"advisories\"} 1795348800\n",
		"stella_mirror_last_run_exit_code{feed=\"advisories\"} 21\n",
		"stella_mirror_last_success_timestamp_seconds{feed=\"advisories\"} 1795345200\n",
		"stella_mirror_lag_seconds{feed=\"advisories\"} 3600\n",
		"stella_mirror_release_generated_timestamp_seconds{feed=\"advisories\"} 1795341600\n",
		"stella_mirror_release_expires_timestamp_seconds{feed=\"advisories\"} 1795435200\n",
		"stella_mirror_release_sequence{feed=\"advisories\"} 42\n",
		"stella_mirror_release_info{feed=\"advisories\",export_id=\"20261122T110000Z\",layout=\"statement\"} 1\n",
		"stella_mirror_held{feed=\"advisories\"} 1\n", "stella_mirror_held{feed=\"plain\"} 0\n",
		"stella_mirror_stale{feed=\"advisories\"} 1\n", "stella_mirror_stale{feed=\"plain\"} 0\n",
		"stella_mirror_refusals_total{feed=\"advisories\",reason=\"rollback\"} 3\n",
		"stella_mirror_refusals_total{feed=\"plain\",reason=\"rollback\"} 0\n",
	} {
		if !bytes.Contains(data, []byte(want)) {
			t.Errorf("no %q in\n%s", want, data)
		}
	}
	for _, unknown := range []string{"last_run_exit_code", "last_success_timestamp_seconds", "lag_seconds", "release_info", "release_sequence"} {
		if bytes.Contains(data, []byte("stella_mirror_"+unknown+"{feed=\"plain\"")) {
			t.Errorf("%s of a feed of which nothing is known", unknown)
		}
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
	promtool(t, data)
}

// promtool has the file judged by Prometheus itself where that is installed.
func promtool(t *testing.T, data []byte) {
	path, err := exec.LookPath("promtool")
	if err != nil {
		t.Log("skipped: promtool is not on PATH")
		return
	}
	cmd := exec.CommandContext(t.Context(), path, "check", "metrics")
	cmd.Stdin = bytes.NewReader(data)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool: %v\n%s", err, out)
	}
}

// TestKeepsOtherRuns: a run about one feed leaves the last run of the other.
func TestKeepsOtherRuns(t *testing.T) {
	path := filepath.Join(t.TempDir(), "stella.prom")
	if err := Write(path, sample()); err != nil {
		t.Fatal(err)
	}
	later := sample()
	later[0].LastRun, later[1].LastRun, later[1].ExitCode = time.Time{}, began.Add(time.Minute), 10
	if err := Write(path, later); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"stella_mirror_last_run_timestamp_seconds{feed=\"advisories\"} 1795348800\n", "stella_mirror_last_run_exit_code{feed=\"advisories\"} 21\n",
		"stella_mirror_last_run_timestamp_seconds{feed=\"plain\"} 1795348860\n", "stella_mirror_last_run_exit_code{feed=\"plain\"} 10\n",
	} {
		if !bytes.Contains(data, []byte(want)) {
			t.Errorf("no %q in\n%s", want, data)
		}
	}
	if n := strings.Count(string(data), "# TYPE stella_mirror_last_run_exit_code "); n != 1 {
		t.Errorf("%d heads of one family", n)
	}
}

func TestWriteFails(t *testing.T) {
	if err := Write(filepath.Join(t.TempDir(), "none", "x.prom"), sample()); err == nil {
		t.Error("a missing directory was made")
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "x.prom"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Write(filepath.Join(dir, "x.prom"), sample()); err == nil {
		t.Error("a directory was replaced")
	}
}

// FuzzRuns: what was kept from any text is kept from the text made of it.
func FuzzRuns(f *testing.F) {
	f.Add([]byte("stella_mirror_last_run_exit_code{feed=\"a\"} 21\n"))
	f.Add([]byte("stella_mirror_last_run_timestamp_seconds{feed=\"a\"} 1e9\nx{feed=\"a\"} 1\n"))
	f.Add(Encode(sample(), nil))
	f.Fuzz(func(t *testing.T, text []byte) {
		first := runs(text)
		feeds := []Feed{}
		for _, of := range first {
			for name := range of {
				feeds = append(feeds, Feed{Name: name})
			}
		}
		second := runs(Encode(feeds, text))
		for metric, of := range first {
			for name, v := range of {
				if second[metric][name] != v {
					t.Errorf("%s of %s: %v became %v", metric, name, v, second[metric][name])
				}
			}
		}
	})
}
