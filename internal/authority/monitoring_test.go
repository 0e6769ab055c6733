package authority

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stella-ops/stella/internal/testenv"
)

const (
	monitoringDir = "../../deploy/monitoring"
	rulesFile     = "stella-authority.rules.yaml"
)

// dashboard is the part of a Grafana dashboard that we rely on.
type dashboard struct {
	UID           string
	Title         string
	SchemaVersion int
	Panels        []struct {
		ID      int
		Title   string
		Type    string
		Targets []struct{ Expr string }
	}
}

func readDashboard(t *testing.T) (d dashboard) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(monitoringDir, "grafana-authority.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestRules(t *testing.T) {
	promtool := testenv.Need(t, "promtool", "prometheus")
	for _, args := range [][]string{{"check", "rules", rulesFile}, {"test", "rules", "stella-authority.rules.test.yaml"}} {
		cmd := exec.CommandContext(t.Context(), promtool, args...)
		cmd.Dir = monitoringDir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// TestEveryAlertIsTested: an alert that no test sets off is a hope.
func TestEveryAlertIsTested(t *testing.T) {
	rules, err := os.ReadFile(filepath.Join(monitoringDir, rulesFile))
	if err != nil {
		t.Fatal(err)
	}
	tests, err := os.ReadFile(filepath.Join(monitoringDir, "stella-authority.rules.test.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	alerts := regexp.MustCompile(`alert: (\w+)`).FindAllSubmatch(rules, -1)
	if len(alerts) < 10 {
		t.Fatalf("%d alerts found", len(alerts))
	}
	for _, a := range alerts {
		fires := regexp.MustCompile(`alertname: ` + string(a[1]) + `\n\s+exp_alerts:\n\s+- exp_labels`)
		if !fires.Match(tests) {
			t.Errorf("no test sets off %s", a[1])
		}
	}
}

func TestDashboard(t *testing.T) {
	d := readDashboard(t)
	if d.UID != "authority-token-monitoring" || d.Title != "StellaOps Authority - Token & Access Monitoring" || d.SchemaVersion != 38 {
		t.Errorf("uid %q, title %q, schema version %d", d.UID, d.Title, d.SchemaVersion)
	}
	var titles []string
	ids := map[int]bool{}
	for _, p := range d.Panels {
		titles = append(titles, p.Title)
		if ids[p.ID] || len(p.Targets) == 0 {
			t.Errorf("panel %q: id %d, %d targets", p.Title, p.ID, len(p.Targets))
		}
		ids[p.ID] = true
	}
	for _, want := range []string{"Token Requests – Success vs Failure", "Rate Limiter Rejections", "Bypass Events (5m)"} {
		if !slices.Contains(titles, want) {
			t.Errorf("no panel %q among %q", want, titles)
		}
	}
}

// selectors finds what PromQL selects: a name of ours or of upstream's with
// the matchers behind it.
func selectors(expr string) []string {
	name := `(?:stella_authority_\w+|` + strings.Join(upstreamNames(), "|") + `)(?:_bucket|_count|_sum)?`
	return regexp.MustCompile(`\b`+name+`(?:\{(?:[^}"]|"[^"]*")*\})?`).FindAllString(expr, -1)
}

// selects reports whether series, as the text format names it, is one that
// the selector takes: same name, and every matcher holds.
func selects(t *testing.T, selector, series string) bool {
	t.Helper()
	name, matchers, _ := strings.Cut(selector, "{")
	have, labels, _ := strings.Cut(series, "{")
	if have != name {
		return false
	}
	value := map[string]string{}
	for _, l := range regexp.MustCompile(`(\w+)="([^"]*)"`).FindAllStringSubmatch(labels, -1) {
		value[l[1]] = l[2]
	}
	for _, m := range regexp.MustCompile(`(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"`).FindAllStringSubmatch(matchers, -1) {
		got, known := value[m[1]]
		match := got == m[3]
		if strings.HasSuffix(m[2], "~") {
			match = regexp.MustCompile(`^(?:` + m[3] + `)$`).MatchString(got)
		}
		if !known || match == strings.HasPrefix(m[2], "!") {
			return false
		}
	}
	return true
}

// TestMonitoredSeriesExist: everything that an alert or a panel asks for is in
// a scrape, name, labels and values, once it has happened.
func TestMonitoredSeriesExist(t *testing.T) {
	s, _ := measured(t)
	exercise(s.metrics)
	scraped := s.metrics.scrape(t)
	exprs := map[string]string{}
	rules, err := os.ReadFile(filepath.Join(monitoringDir, rulesFile))
	if err != nil {
		t.Fatal(err)
	}
	for i, rule := range strings.Split(string(rules), "- alert: ")[1:] {
		name, rest, _ := strings.Cut(rule, "\n")
		_, rest, _ = strings.Cut(rest, "expr:")
		expr, _, _ := strings.Cut(rest, "labels:")
		if exprs["alert "+name] = expr; len(selectors(expr)) == 0 {
			t.Errorf("alert %d, %s, selects nothing known: %s", i, name, expr)
		}
	}
	for _, p := range readDashboard(t).Panels {
		for _, target := range p.Targets {
			exprs["panel "+p.Title+": "+target.Expr] = target.Expr
			if len(selectors(target.Expr)) == 0 {
				t.Errorf("panel %q selects nothing known: %s", p.Title, target.Expr)
			}
		}
	}
	// What this replica has not: a key that stopped signing, and a live token.
	scraped[`stella_authority_key_age_seconds{kid="x",state="retiring"}`] = 1
	scraped[`stella_authority_live_tokens{kid="x"}`] = 1
	for where, expr := range exprs {
		for _, selector := range selectors(expr) {
			found := false
			for series := range scraped {
				found = found || selects(t, selector, series)
			}
			if !found {
				t.Errorf("%s: nothing in a scrape is %s", where, selector)
			}
		}
	}
}

// TestSelects is about the test above.
func TestSelects(t *testing.T) {
	for selector, want := range map[string]bool{
		`a`: true, `b`: false, `a{x="1"}`: true, `a{x="2"}`: false, `a{y="1"}`: false, `a{x!="2"}`: true, `a{x!="1"}`: false,
		`a{x=~"1|2"}`: true, `a{x=~"2"}`: false, `a{x!~"1"}`: false, `a{x="1",z="3"}`: true, `a{x="1",z="4"}`: false,
	} {
		if got := selects(t, selector, `a{x="1",z="3"}`); got != want {
			t.Errorf("%s selects: %v", selector, got)
		}
	}
	if got := selectors(`sum by (x) (rate(token_requests_total{a="}",b="x"}[5m])) / my_token_requests_total`); len(got) != 1 || got[0] != `token_requests_total{a="}",b="x"}` {
		t.Errorf("found %q", got)
	}
}
