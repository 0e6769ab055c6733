package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/keyring"
	"github.com/stella-ops/stella/internal/rotate"
	"github.com/stella-ops/stella/internal/ui"
)

func readKinds() []fault.Kind {
	return []fault.Kind{fault.Denied, fault.NotFound, fault.Offline, fault.Transient, fault.Trust, fault.Config}
}

func newRotateStatusCmd(app *App, r *rotateShared) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show every key, its state and what comes next",
		Long: long(`Shows the keys of the Authority, what the timetable allows each and from when,
how many live tokens each has signed, what the vantage points serve, and the
exact command for every next step. It changes nothing.`, readKinds()...),
		Example:           "  stella auth rotate status\n  stella auth rotate status --all --output json",
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := r.driver(app, false)
			if err != nil {
				return err
			}
			report, err := d.Status(cmd.Context())
			if err != nil {
				return err
			}
			report.Schema = "stella.auth.rotate.status/v1"
			return app.Streams.Render(report.Schema, report, func(p *ui.Page) { keyringPage(p, report, all) })
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "also show keys that have ended (text only; JSON has them always)")
	return cmd
}

func newRotatePlanCmd(app *App, r *rotateShared) *cobra.Command {
	return &cobra.Command{
		Use:   "plan",
		Short: "Show the timetable of a rotation that would begin now",
		Long: long(`Computes when each step of a rotation that begins now would be allowed, from the
cache lifetime of the key set, the allowed clock skew and the longest life of
anything that is signed. It changes nothing.`, readKinds()...),
		Example:           "  stella auth rotate plan\n  stella auth rotate plan --output json",
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := r.driver(app, false)
			if err != nil {
				return err
			}
			return runPlan(cmd.Context(), app, d)
		},
	}
}

func runPlan(ctx context.Context, app *App, d *driver) error {
	r, err := d.Status(ctx)
	if err != nil {
		return err
	}
	plan := rotate.NewPlan(r)
	return app.Streams.Render("stella.auth.rotate.plan/v1", plan, func(p *ui.Page) { planPage(p, plan) })
}

func planPage(p *ui.Page, plan *rotate.Plan) {
	p.Line("a rotation that begins now, by the Authority's clock:")
	var rows [][]ui.Cell
	notes := map[int][]string{}
	for i, s := range plan.Steps {
		if s.Blocked != "" {
			notes[i] = []string{"blocked: " + oneLine(s.Blocked)}
		}
		rows = append(rows, []ui.Cell{ui.C(clock(s.At)), ui.C(string(s.Action)), ui.C(s.KID), ui.C(s.Why)})
	}
	p.NotedTable([]string{"not before", "step", "kid", "why"}, rows, notes)
	p.Line("the whole rotation takes at least %s", span(plan.Takes.Duration()))
	for _, w := range plan.Warnings {
		p.Line("note: %s", w)
	}
}

func newRotateAdvanceCmd(app *App, r *rotateShared) *cobra.Command {
	var wait, detailed, dryRun bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "advance",
		Short: "Do whatever is due; this is what a timer runs",
		Long: long(`Looks at every vantage point, reports what it serves, and does each step that is
due: activate a scheduled key, publish a standby where there is none, retire a
key whose time is over, revoke a tainted key of which nothing is alive. Run it
every minute or so.`, append(readKinds(), fault.Order, fault.Partial, fault.Locked, fault.NothingToDo)...),
		Example:           "  stella auth rotate advance\n  stella auth rotate advance --wait --timeout 15m\n  stella auth rotate advance --detailed-exit --output json",
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if timeout != 0 && !wait || timeout < 0 {
				return fault.Errorf(fault.Input, "--timeout is for --wait, and not negative")
			}
			if dryRun && (wait || detailed) {
				return fault.Errorf(fault.Input, "--dry-run excludes --wait and --detailed-exit")
			}
			d, err := r.driver(app, !dryRun)
			if err != nil {
				return err
			}
			if dryRun {
				return runAdvanceDry(cmd.Context(), app, d)
			}
			return drive(cmd.Context(), app, d, "stella.auth.rotate.advance/v1", timeout, func(ctx context.Context) (*rotate.Summary, error) {
				s, err := d.Advance(ctx, rotate.Options{Wait: wait})
				if err == nil && detailed && len(s.Changes) == 0 {
					err = fault.Errorf(fault.NothingToDo, "nothing was due")
				}
				return s, err
			})
		},
	}
	f := cmd.Flags()
	f.BoolVar(&wait, "wait", false, "go on until nothing is left to do")
	f.DurationVar(&timeout, "timeout", 0, "with --wait: end with exit code 23 after this `DURATION`")
	f.BoolVar(&detailed, "detailed-exit", false, "end with exit code 25 when nothing was due")
	f.BoolVar(&dryRun, "dry-run", false, "tell what is due as last seen; look at nothing, change nothing")
	return cmd
}

// advanceDry is stella.auth.rotate.advance.dry-run/v1.
type advanceDry struct {
	DryRun bool           `json:"dry_run"`
	Now    time.Time      `json:"now"`
	Due    []keyring.Step `json:"due"`   // advance would do these
	Later  []keyring.Step `json:"later"` // automatic, but not yet
}

func runAdvanceDry(ctx context.Context, app *App, d *driver) error {
	r, err := d.Status(ctx)
	if err != nil {
		return err
	}
	dry := advanceDry{DryRun: true, Now: r.Now, Due: []keyring.Step{}, Later: []keyring.Step{}}
	for _, s := range r.Steps {
		switch {
		case s.Auto && s.Due:
			dry.Due = append(dry.Due, s)
		case s.Auto:
			dry.Later = append(dry.Later, s)
		}
	}
	return app.Streams.Render("stella.auth.rotate.advance.dry-run/v1", dry, func(p *ui.Page) {
		p.Line("nothing was changed; %s due", map[bool]string{true: "nothing is", false: "this is"}[len(dry.Due) == 0])
		stepsPart(p, append(dry.Due, dry.Later...), dry.Now)
	})
}

// forgetDry judges whether name could be forgotten.
func forgetDry(ctx context.Context, d *driver, name string) error {
	r, err := d.Status(ctx)
	if err != nil {
		return err
	}
	for _, v := range r.Vantage {
		if v.Name == name && v.Required {
			return fault.Errorf(fault.Input, "forgetting vantage point %q: it is required by the configuration of the Authority", name)
		}
		if v.Name == name {
			return nil
		}
	}
	return fault.Errorf(fault.NotFound, "forgetting vantage point %q: there is no such entry", name).
		Hint("see what there is: stella auth rotate status")
}

func newRotateForgetCmd(app *App, r *rotateShared) *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "forget NAME",
		Short: "Forget a vantage point that no longer exists",
		Long: long(`Drops what was seen at a vantage point that an operator once reported and that
is gone, so that it blocks no activation. The points that the Authority's own
configuration names stay.`, readKinds()...),
		Example: "  stella auth rotate forget old-edge",
		Args:    cobra.ExactArgs(1),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return r.completeFrom(cmd.Context(), app, func(report *keyring.Report) (names []string) {
				for _, v := range report.Vantage {
					if !v.Required {
						names = append(names, v.Name)
					}
				}
				return names
			}), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := r.driver(app, !dryRun)
			if err != nil {
				return err
			}
			text := "forgot " + args[0]
			if dryRun {
				text, err = "nothing was changed; it would forget "+args[0], forgetDry(cmd.Context(), d, args[0])
			} else {
				err = d.API.Forget(cmd.Context(), args[0])
			}
			if err != nil {
				return err
			}
			done := struct {
				DryRun    bool   `json:"dry_run,omitempty"`
				Forgotten string `json:"forgotten"`
			}{dryRun, args[0]}
			return app.Streams.Render("stella.auth.rotate.forget/v1", done, func(p *ui.Page) { p.Line("%s", text) })
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "tell whether it could be forgotten; change nothing")
	return cmd
}
