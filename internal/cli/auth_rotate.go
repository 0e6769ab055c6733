package cli

import (
	"context"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/keyring"
	"github.com/stella-ops/stella/internal/rotate"
	"github.com/stella-ops/stella/internal/ui"
)

const rotateLong = `Rotates the Authority's signing key so that no verifier rejects a token that it
should accept: makes the standby the active key, publishes the next standby,
and later retires the old key.

A key signs only after every vantage point has served it for one full cache
lifetime, and goes only when all that it signed has expired. What may be done
now is done; the rest is left to 'stella auth rotate advance', which belongs
into a timer, or is waited for with --wait. A run that was cut short is
continued by the next; nothing needs to be cleaned up.

Without --wait the command ends with 23 when the switch itself is not allowed
yet, and tells from when on. Two long runs on one host exclude each other (24);
single steps and status do not wait for them.

An upstream Authority knows only one call, which switches at once: --key-id and
--location name the new key, --dry-run shows the request, and what nobody can
guarantee is said. That call needs auth.bootstrap_key.`

type rotateOptions struct {
	wait    bool
	timeout time.Duration
	force   bool
	reason  string
	dryRun  bool
	upstreamOptions
}

func (o *rotateOptions) addFlags(f *pflag.FlagSet) {
	f.BoolVar(&o.wait, "wait", false, "wait for each step until the old key is retired")
	f.DurationVar(&o.timeout, "timeout", 0, "with --wait: end with exit code 23 after this `DURATION`")
	f.BoolVar(&o.force, "force", false, "switch now, though some verifiers may reject new tokens for a while")
	f.StringVar(&o.reason, "reason", "", "why, for the key history; required with --force")
	f.BoolVar(&o.dryRun, "dry-run", false, "tell what would be done and when; change nothing")
	o.upstreamOptions.addFlags(f)
}

func newRotateCmd(app *App) *cobra.Command {
	var o rotateOptions
	r := &rotateShared{}
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "Rotate the Authority's signing key without a rejected token",
		Long: long(rotateLong, fault.Denied, fault.NotFound, fault.Offline, fault.Transient, fault.Trust, fault.Order,
			fault.Partial, fault.Locked, fault.Config),
		Example: `  stella auth rotate plan
  stella auth rotate --wait
  stella auth rotate --force --reason 'tabletop exercise'`,
		Args:              noWords,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return runRotate(cmd.Context(), app, r, o) },
	}
	o.addFlags(cmd.Flags())
	r.addFlags(cmd.PersistentFlags())
	cmd.AddCommand(newRotatePlanCmd(app, r), newRotateStatusCmd(app, r), newRotateAdvanceCmd(app, r), newRotateForgetCmd(app, r))
	for _, c := range changeCommands() {
		cmd.AddCommand(newChangeCmd(app, r, c))
	}
	return cmd
}

// noWords is cobra.NoArgs for a command that has children: a word that is no
// child is an unknown command.
func noWords(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return unknownCommand(cmd, args[0])
	}
	return nil
}

func runRotate(ctx context.Context, app *App, r *rotateShared, o rotateOptions) error {
	switch {
	case o.force && o.reason == "":
		return fault.Errorf(fault.Input, "--force needs a reason: it is recorded in the key history").Hint("add --reason 'why'")
	case o.timeout != 0 && !o.wait:
		return fault.Errorf(fault.Input, "--timeout is for --wait")
	case o.timeout < 0:
		return fault.Errorf(fault.Input, "--timeout: %s is negative", o.timeout)
	}
	if err := o.upstreamOptions.check(o.wait); err != nil {
		return err
	}
	d, err := r.driver(app, true)
	if err != nil {
		return err
	}
	if o.keyID != "" {
		return runUpstream(ctx, app, d, o)
	}
	if o.dryRun {
		return runPlan(ctx, app, d)
	}
	return drive(ctx, app, d, "stella.auth.rotate/v1", o.timeout, func(ctx context.Context) (*rotate.Summary, error) {
		return d.Rotate(ctx, rotate.Options{Wait: o.wait, Force: o.force, Reason: o.reason})
	})
}

// drive runs one long operation under the lock, with its events shown.
func drive(ctx context.Context, app *App, d *driver, schema string, timeout time.Duration, run func(context.Context) (*rotate.Summary, error)) error {
	l, err := d.lock(ctx)
	if err != nil {
		return err
	}
	if l != nil {
		defer func() { _ = l.Release() }()
	} else {
		app.Streams.Warn("auth.token_cache is empty, so no lock keeps a second run on this host away; the Authority keeps the two from harm")
	}
	if timeout > 0 {
		late := fault.Errorf(fault.Partial, "not finished within %s; the rest is left to advance", timeout).
			Hint("next: stella auth rotate advance")
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, timeout, late)
		defer cancel()
	}
	events := app.Streams.Events(schema)
	defer events.Close()
	watch(d, app.Streams, events)
	if err := events.Emit(ui.Started, map[string]string{"issuer": d.API.Base}, ""); err != nil {
		return err
	}
	s, err := run(ctx)
	if s == nil || s.Report == nil {
		return err
	}
	var shown error
	if app.Streams.Format == ui.JSON {
		shown = events.Emit(ui.Summary, s, "")
	} else {
		events.Close()
		shown = app.Streams.Render(schema, s, func(p *ui.Page) { summaryPage(p, s) })
	}
	if err == nil {
		err = shown
	}
	return err
}

// rotateItem is a transition that was made.
type rotateItem struct {
	Action keyring.Action `json:"action"`
	KID    string         `json:"kid"`
	To     keyring.State  `json:"to"`
}

// rotateProgress is what a run waits for.
type rotateProgress struct {
	Action    keyring.Action `json:"waiting_for"`
	KID       string         `json:"kid,omitempty"`
	NotBefore time.Time      `json:"not_before,omitzero"`
	Blocked   string         `json:"blocked,omitempty"`
}

// watch shows what the driver does, and how long it waits.
func watch(d *driver, s *ui.Streams, events *ui.Events) {
	var waiting rotate.Event
	var since time.Time // of waiting, by our clock
	d.Events = func(e rotate.Event) {
		switch e.Type {
		case rotate.Changed:
			text := e.KID + ": " + string(e.To)
			if e.Action == keyring.Schedule {
				text = e.KID + ": scheduled for activation"
			}
			_ = events.Emit(ui.Item, rotateItem{e.Action, e.KID, e.To}, text)
		case rotate.Warning:
			_ = events.Emit(ui.Warning, map[string]string{"message": e.Text}, e.Text)
		case rotate.Waiting:
			// Between two looks nothing changes as a rule; then nothing is said.
			if e.Action != waiting.Action || e.KID != waiting.KID || !e.Until.Equal(waiting.Until) || timeless(e.Text) != timeless(waiting.Text) {
				_ = events.Emit(ui.Progress, rotateProgress{e.Action, e.KID, e.Until, e.Text}, "")
			}
			waiting, since = e, s.Now()
		}
	}
	d.Sleep = func(ctx context.Context, nap time.Duration) error {
		return events.Line().Hold(ctx, s.Now().Add(nap), func(time.Duration) string {
			return waitingText(waiting, s.Now().Sub(since))
		})
	}
}

// timeless is what blocks without when that was seen, which changes with every
// look.
func timeless(text string) string {
	return regexp.MustCompile(`looked at [0-9T:Z-]+`).ReplaceAllString(text, "")
}

// waitingText says what is waited for, passed after e was told.
func waitingText(e rotate.Event, passed time.Duration) string {
	step := strings.TrimSpace(string(e.Action) + " " + e.KID)
	if e.Text != "" {
		return e.Text + ": " + step + " is blocked"
	}
	return step + " at " + at(e.Until, e.Until.Add(-e.Left)) + ", in " + span(e.Left-passed)
}
