package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/stella-ops/stella/internal/buildinfo"
	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/ui"
)

// testApp is an App that finds nothing of this machine.
func testApp(t *testing.T, in string, environ ...string) (app *App, out, errs fmt.Stringer) {
	t.Helper()
	dir := t.TempDir()
	s, o, e := ui.Buffers(in)
	return &App{
		Streams: s, Now: time.Now, Level: new(slog.LevelVar), HTTP: httpClient,
		Build:   buildinfo.Info{Version: "v1.2.3", Commit: "0123456789abcdef", Go: "go1.x", Platform: "linux/amd64"},
		Environ: append([]string{"HOME=" + dir, "XDG_CONFIG_HOME=" + filepath.Join(dir, "xdg")}, environ...),
	}, o, e
}

// run executes one command line and returns its exit code and output.
func run(t *testing.T, in string, args ...string) (code int, out, errs string) {
	t.Helper()
	app, o, e := testApp(t, in)
	code = Run(t.Context(), args, app)
	return code, o.String(), e.String()
}

func TestVersion(t *testing.T) {
	for _, args := range [][]string{{"version"}, {"--version"}} {
		if code, out, errs := run(t, "", args...); code != 0 || errs != "" || out != "stella v1.2.3 (0123456789ab) go1.x linux/amd64\n" {
			t.Errorf("%v: %d %q %q", args, code, out, errs)
		}
	}
}

func TestUsageErrors(t *testing.T) {
	for line, want := range map[string]string{
		"bogus":                          `unknown command "bogus" for "stella"`,
		"versoin":                        "hint: did you mean: stella version",
		"config":                         "stella config needs a command: show, validate",
		"config shwo":                    "hint: did you mean: stella config show",
		"config bogus --flag":            `unknown command "bogus" for "stella config"`,
		"config --bogus":                 "unknown flag: --bogus",
		"version x":                      "stella version takes no arguments",
		"completion":                     "needs a shell",
		"completion tcsh":                "invalid argument",
		"completion bash zsh":            "takes only a shell",
		"version --output yaml":          "allowed values: text, json",
		"version --output":               "needs an argument",
		"version -q -v":                  "exclude each other",
		"config validate a b":            "takes only a file, found also",
		"config validate a --config b":   "exclude each other",
		"help no such":                   `no help on "no such"`,
		"gen docs":                       "needs a directory",
		"gen docs /nonexistent/no/where": "its parent is missing",
	} {
		code, out, errs := run(t, "", strings.Fields(line)...)
		if code != 2 || out != "" || !strings.Contains(errs, want) || !strings.HasPrefix(errs, "error: ") {
			t.Errorf("%q: exit %d, %q, %q", line, code, out, errs)
		}
		code, out, errs = run(t, "", append([]string{"--output=json"}, strings.Fields(line)...)...)
		var e struct {
			Schema string         `json:"schema"`
			Error  ui.ErrorDetail `json:"error"`
		}
		if strings.Contains(line, "--output") {
			continue
		}
		if json.Unmarshal([]byte(errs), &e) != nil || code != 2 || out != "" || e.Schema != ui.SchemaError || e.Error.ExitCode != 2 {
			t.Errorf("%q in JSON: exit %d, %q, %q", line, code, out, errs)
		}
	}
}

// with runs a command of the test's own in the real tree.
func with(t *testing.T, ctx context.Context, fn func(*cobra.Command, *App) error) (int, string) {
	t.Helper()
	app, _, errs := testApp(t, "")
	root := NewRoot(app)
	app.Streams.Format = ui.Text
	cmd := &cobra.Command{Use: "probe", RunE: func(cmd *cobra.Command, _ []string) error { return fn(cmd, app) }}
	root.AddCommand(cmd)
	app.complete(root)
	root.SetArgs([]string{"probe"})
	done, err := root.ExecuteContextC(ctx)
	err = app.classify(ctx, done, err)
	app.Streams.Error(err)
	return fault.KindOf(err).ExitCode(), errs.String()
}

func TestExitCodes(t *testing.T) {
	for _, row := range fault.Table()[1:] {
		code, errs := with(t, t.Context(), func(*cobra.Command, *App) error {
			return fmt.Errorf("doing: %w", fault.Errorf(row.Kind, "it failed").Hint("try this"))
		})
		if code != row.Code || !strings.Contains(errs, "doing: it failed\nhint: try this\n") {
			t.Errorf("%s: exit %d, %q", row.Name, code, errs)
		}
	}
	if code, _ := with(t, t.Context(), func(*cobra.Command, *App) error { return errors.New("plain") }); code != 1 {
		t.Errorf("a plain error of a command that has begun exits with %d", code)
	}
}

func TestSignalsDecideTheExitCode(t *testing.T) {
	for kind, want := range map[fault.Kind]int{fault.Interrupted: 130, fault.Terminated: 143} {
		for name, wrap := range map[string]func(context.Context) error{
			"cause":     context.Cause,
			"err":       func(ctx context.Context) error { return fmt.Errorf("asking: %w", ctx.Err()) },
			"transient": func(ctx context.Context) error { return fault.Errorf(fault.Transient, "asking: %w", ctx.Err()) },
		} {
			ctx, cancel := context.WithCancelCause(t.Context())
			code, _ := with(t, ctx, func(cmd *cobra.Command, _ *App) error {
				cancel(fault.Errorf(kind, "cancelled"))
				return wrap(cmd.Context())
			})
			if code != want {
				t.Errorf("%v by %s: exit %d", kind, name, code)
			}
		}
	}
	// What has failed by itself stays what it is, also when a signal came too.
	ctx, cancel := context.WithCancelCause(t.Context())
	code, _ := with(t, ctx, func(*cobra.Command, *App) error {
		cancel(fault.Errorf(fault.Terminated, "cancelled"))
		return fault.Errorf(fault.Partial, "half is done")
	})
	if code != 23 {
		t.Errorf("exit %d", code)
	}
}

func TestLogLevels(t *testing.T) {
	for line, want := range map[string]slog.Level{
		"version": slog.LevelWarn, "version -v": slog.LevelInfo, "version -vv": slog.LevelDebug, "version -q": slog.LevelError,
	} {
		app, _, _ := testApp(t, "")
		if code := Run(t.Context(), strings.Fields(line), app); code != 0 || app.Level.Level() != want {
			t.Errorf("%s: exit %d, level %v", line, code, app.Level.Level())
		}
	}
	app, _, _ := testApp(t, "", "STELLA_LOG_LEVEL=debug")
	if Run(t.Context(), []string{"version"}, app); app.Level.Level() != slog.LevelDebug {
		t.Errorf("level %v", app.Level.Level())
	}
}

func TestOfflineOpensNoSocket(t *testing.T) {
	app, _, _ := testApp(t, "", "STELLA_OFFLINE=true", "STELLA_AUTHORITY_URL=https://a.example")
	if code := Run(t.Context(), []string{"config", "validate"}, app); code != 0 {
		t.Fatal(code)
	}
	c, err := app.Config()
	if err != nil {
		t.Fatal(err)
	}
	client, err := app.Client(c)
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.Get(c.Authority.URL)
	if fault.KindOf(err) != fault.Offline {
		t.Errorf("%v", err)
	}
}

func TestConfigShowJSON(t *testing.T) {
	app, out, errs := testApp(t, "", "STELLA_OUTPUT=json", "STELLA_TENANT=blue", "STELLA_TOKEN=raw.secret")
	if code := Run(t.Context(), []string{"config", "show"}, app); code != 0 {
		t.Fatalf("%d %s", code, errs)
	}
	var got struct {
		Schema string `json:"schema"`
		File   string `json:"file"`
		Values []struct{ Key, Value, Origin string }
	}
	if err := json.Unmarshal([]byte(out.String()), &got); err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(got.Values, func(v struct{ Key, Value, Origin string }) bool { return v.Key == "tenant" })
	if got.Schema != SchemaConfigShow || got.File != "" || i < 0 || got.Values[i].Origin != "env STELLA_TENANT" {
		t.Errorf("%+v", got)
	}
	if all := out.String() + errs.String(); strings.Contains(all, "raw.secret") || !strings.Contains(errs.String(), "stella.warning/v1") {
		t.Errorf("%s", all)
	}
}

func TestWriteErrorsFail(t *testing.T) {
	for _, line := range []string{"version", "version --output json", "completion bash", "config show", "config validate"} {
		app, _, errs := testApp(t, "")
		app.Streams.Out = full{}
		if code := Run(t.Context(), strings.Fields(line), app); code != 1 || !strings.Contains(errs.String(), "no space") {
			t.Errorf("%s: exit %d, %q", line, code, errs)
		}
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left") }

// Interfaces that App promises to its commands.
var (
	_ io.Writer         = full{}
	_ http.RoundTripper = offline{}
)
