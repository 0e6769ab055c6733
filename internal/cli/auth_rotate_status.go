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
	for _, s := range plan.Steps {
		rows = append(rows, []ui.Cell{ui.C(clock(s.At)), ui.C(string(s.Action)), ui.C(s.KID), ui.C(s.Why)})
	}
	p.Table([]string{"not before", "step", "kid", "why"}, rows)
	p.Line("the whole rotation takes at least %s", plan.Takes)
	for _, w := range plan.Warnings {
		p.Line("note: %s", w)
	}
}

func newRotateAdvanceCmd(app *App, r *rotateShared) *cobra.Command {
	var wait, detailed bool
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
			d, err := r.driver(app, true)
			if err != nil {
				return err
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
	return cmd
}

func newRotateForgetCmd(app *App, r *rotateShared) *cobra.Command {
	return &cobra.Command{
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
			d, err := r.driver(app, true)
			if err != nil {
				return err
			}
			if err := d.API.Forget(cmd.Context(), args[0]); err != nil {
				return err
			}
			done := struct {
				Forgotten string `json:"forgotten"`
			}{args[0]}
			return app.Streams.Render("stella.auth.rotate.forget/v1", done, func(p *ui.Page) { p.Line("forgot %s", args[0]) })
		},
	}
}
