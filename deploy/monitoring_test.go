package deploy_test

import (
	"context"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stella-ops/stella/internal/cli"
	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/strictyaml"
	"github.com/stella-ops/stella/internal/testenv"
	"github.com/stella-ops/stella/internal/testenv/exports"
	"github.com/stella-ops/stella/internal/ui"
)

const mirrorRules = "stella-mirror.rules.yaml"

type alertRule struct {
	Alert       string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	For         string            `yaml:"for"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

type alertTest struct {
	EvalTime  string `yaml:"eval_time"`
	Alertname string `yaml:"alertname"`
	ExpAlerts []struct {
		Labels      map[string]string `yaml:"exp_labels"`
		Annotations map[string]string `yaml:"exp_annotations"`
	} `yaml:"exp_alerts"`
}

// alerts reads the rules by name of the group.
func alerts(t *testing.T) map[string][]alertRule {
	t.Helper()
	var doc struct {
		Groups []struct {
			Name  string      `yaml:"name"`
			Rules []alertRule `yaml:"rules"`
		} `yaml:"groups"`
	}
	if err := strictyaml.DecodeFile("monitoring/"+mirrorRules, &doc); err != nil {
		t.Fatal(err)
	}
	out := map[string][]alertRule{}
	for _, g := range doc.Groups {
		out[g.Name] = g.Rules
	}
	if len(out["stella-mirror"]) < 8 || len(out["stella-mirror-kubernetes"]) < 2 {
		t.Fatalf("groups %v", slices.Collect(maps.Keys(out)))
	}
	return out
}

func TestMirrorRules(t *testing.T) {
	promtool := testenv.Need(t, "promtool", "prometheus")
	for _, args := range [][]string{{"check", "rules", mirrorRules}, {"test", "rules", "stella-mirror.rules.test.yaml"}} {
		cmd := exec.CommandContext(t.Context(), promtool, args...)
		cmd.Dir = "monitoring"
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// TestEveryMirrorAlertIsTested: each is set off by one test, and kept quiet by
// series that differ in one thing: a time at which, or beside which, it is not.
func TestEveryMirrorAlertIsTested(t *testing.T) {
	var doc struct {
		RuleFiles          []string `yaml:"rule_files"`
		EvaluationInterval string   `yaml:"evaluation_interval"`
		Tests              []struct {
			Name        string `yaml:"name"`
			Interval    string `yaml:"interval"`
			InputSeries []struct {
				Series string `yaml:"series"`
				Values string `yaml:"values"`
			} `yaml:"input_series"`
			AlertRuleTest []alertTest `yaml:"alert_rule_test"`
		} `yaml:"tests"`
	}
	if err := strictyaml.DecodeFile("monitoring/stella-mirror.rules.test.yaml", &doc); err != nil {
		t.Fatal(err)
	}
	fires, quiet := map[string]bool{}, map[string]bool{}
	for _, test := range doc.Tests {
		for _, a := range test.AlertRuleTest {
			fires[a.Alertname] = fires[a.Alertname] || len(a.ExpAlerts) > 0
			quiet[a.Alertname] = quiet[a.Alertname] || len(a.ExpAlerts) == 0
		}
	}
	for _, rules := range alerts(t) {
		for _, r := range rules {
			if !fires[r.Alert] || !quiet[r.Alert] {
				t.Errorf("%s: a test sets it off: %v; one keeps it quiet: %v", r.Alert, fires[r.Alert], quiet[r.Alert])
			}
			if r.Labels["severity"] == "" || r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
				t.Errorf("%s lacks a severity, summary or description", r.Alert)
			}
		}
	}
}

// stella runs the command line in this process.
func stella(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	app := cli.NewApp(nil, func(string) string { return "" })
	streams, out, errs := ui.Buffers("")
	app.Streams = streams
	code = cli.Run(context.WithoutCancel(t.Context()), args, app)
	return code, out.String(), errs.String()
}

// TestMirrorSeriesExist: everything that an alert asks for is in the file that
// the command of the unit writes, whose last part is what the runbook links to.
func TestMirrorSeriesExist(t *testing.T) {
	dir := t.TempDir()
	key, err := exports.NewKey(jose.ES256, "mirror-2026")
	if err != nil {
		t.Fatal(err)
	}
	private, _, err := key.WriteFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	policy, err := exports.Policy(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "mirror-trust.yaml"), string(policy))
	conf := strings.ReplaceAll(block(t, "mirror:"), "/var/lib/stella-mirror", dir)
	conf = strings.ReplaceAll(conf, "s3://mirror-stellaops", "file://"+dir+"/source")
	conf = regexp.MustCompile(`(?m)^ *s3:.*\n`).ReplaceAllString(conf, "")
	write(t, filepath.Join(dir, "stella.yaml"), conf)
	for _, feed := range []string{exports.Concelier, exports.Excititor} {
		if err := exports.Write(t.Context(), filepath.Join(dir, "export", feed), exports.Options{Feed: feed, Key: key, Advisories: 3}); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(dir, "source", feed), 0o755); err != nil {
			t.Fatal(err)
		}
		code, _, stderr := stella(t, "mirror", "publish", filepath.Join(dir, "export", feed), "--to", "file://"+dir+"/source/"+feed, "--feed", feed,
			"--key", "file:"+private, "--key-id", key.ID, "--config", filepath.Join(dir, "stella.yaml"))
		if code != 0 {
			t.Fatalf("publish: %d\n%s", code, stderr)
		}
	}
	_, args, _ := strings.Cut(readUnit(t, "systemd/stella-mirror-sync.service").one(t, "Service.ExecStart"), " ")
	if code, stdout, stderr := stella(t, strings.Fields(strings.ReplaceAll(args, "/etc/stella", dir))...); code != 0 {
		t.Fatalf("sync: %d\n%s%s", code, stdout, stderr)
	}
	data, err := os.ReadFile(filepath.Join(dir, "stella-mirror.prom"))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range alerts(t)["stella-mirror"] {
		names := regexp.MustCompile(`stella_mirror_\w+`).FindAllString(r.Expr, -1)
		if len(names) == 0 {
			t.Errorf("%s asks for nothing of ours", r.Alert)
		}
		for _, name := range names {
			for _, feed := range []string{exports.Concelier, exports.Excititor} {
				if !regexp.MustCompile(`(?m)^` + name + `\{feed="` + feed + `"[,}]`).Match(data) {
					t.Errorf("%s: a run about %s writes no %s", r.Alert, feed, name)
				}
			}
		}
	}
	for _, label := range []string{`refusals_total\{feed="concelier",reason="rollback"\} 0`, `last_run_exit_code\{feed="concelier"\} 0`} {
		if !regexp.MustCompile(`(?m)^stella_mirror_` + label + `$`).Match(data) {
			t.Errorf("no line %s in\n%s", label, data)
		}
	}
}
