package cli

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/oauth"
	"github.com/stella-ops/stella/internal/ui"
)

// SchemaAuthStatus is the schema of what auth status prints as JSON.
const SchemaAuthStatus = "stella.auth.status/v1"

func newAuthStatusCmd(app *App) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Say whether this machine is logged in",
		Long: long(`List the cached tokens of the configured client with their scopes, expiry and
binding, and until when they are refreshed without a new login. Nothing is
written and nothing is sent.`, fault.Denied, fault.Config),
		Example: `  stella auth status
  stella auth status --output json`,
		Args:              noArgs(),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return runAuthStatus(cmd.Context(), app) },
	}
}

// statusToken is one token of stella.auth.status/v1.
type statusToken struct {
	tokenView
	Requested []string `json:"requested_scopes"`
	Valid     bool     `json:"valid"`
}

type damagedFile struct {
	File    string `json:"file"`
	Problem string `json:"problem"`
}

// statusResult is stella.auth.status/v1.
type statusResult struct {
	Issuer   string        `json:"issuer"`
	ClientID string        `json:"client_id,omitempty"`
	LoggedIn bool          `json:"logged_in"`
	Source   string        `json:"source"` // "cache" or "environment"
	Tokens   []statusToken `json:"tokens"`
	Damaged  []damagedFile `json:"damaged"`
}

func runAuthStatus(_ context.Context, app *App) error {
	s, err := openAuth(app, tokenWant{})
	if err != nil {
		return err
	}
	defer s.close()
	r, err := authStatus(s)
	if err != nil {
		return err
	}
	if err := app.Streams.Render(SchemaAuthStatus, r, r.text); err != nil || r.LoggedIn {
		return err
	}
	what := "not logged in to " + r.Issuer
	if len(r.Tokens) > 0 {
		what = "the token for " + r.Issuer + " has expired"
	}
	return fault.Errorf(fault.Denied, "%s", what).Hint("stella auth login")
}

func authStatus(s *authSession) (*statusResult, error) {
	r := &statusResult{Issuer: s.client.Issuer(), ClientID: s.config.Auth.ClientID, Source: "cache", Tokens: []statusToken{}, Damaged: []damagedFile{}}
	now := s.app.Now()
	add := func(t *oauth.Token, requested []string) {
		v := statusToken{tokenView: viewToken(t, now), Requested: append([]string{}, requested...), Valid: t.Valid(now)}
		r.Tokens = append(r.Tokens, v)
		r.LoggedIn = r.LoggedIn || v.Valid || v.Refreshable
	}
	if s.static() {
		t, err := s.client.Cached()
		if err != nil {
			return nil, err
		}
		r.Source = "environment"
		add(t, t.Scopes)
		return r, nil
	}
	list, err := s.client.List()
	if err != nil {
		return nil, err
	}
	for _, c := range list {
		if c.Token == nil {
			r.Damaged = append(r.Damaged, damagedFile{c.File, c.Damaged})
			continue
		}
		add(c.Token, c.Requested)
	}
	return r, nil
}

func (r *statusResult) text(p *ui.Page) {
	p.Pairs(
		ui.Pair{Key: "issuer", Value: ui.C(r.Issuer)},
		ui.Pair{Key: "client", Value: ui.C(r.ClientID)},
		ui.Pair{Key: "logged in", Value: yesNo(r.LoggedIn)},
	)
	if len(r.Tokens) > 0 {
		p.Heading("Tokens")
	}
	rows, notes := [][]ui.Cell{}, map[int][]string{}
	for i, t := range r.Tokens {
		state := ui.T(ui.Good, "good")
		switch {
		case !t.Valid && t.Refreshable:
			state = ui.T(ui.Good, "renewable")
		case !t.Valid:
			state = ui.T(ui.Bad, "expired")
		}
		if t.Username != "" {
			note := "user " + t.Username
			if !t.AuthTime.IsZero() {
				note += ", logged in at " + t.AuthTime.Format(time.RFC3339)
			}
			notes[i] = append(notes[i], note)
		}
		if t.Refreshable {
			notes[i] = append(notes[i], "refreshed "+t.refreshText())
		}
		left := "-"
		if !t.ExpiresAt.IsZero() {
			left = (time.Duration(t.ExpiresIn) * time.Second).String()
		}
		rows = append(rows, []ui.Cell{state, ui.C(left), ui.C(t.Tenant), ui.C(t.Audience), ui.C(strings.Join(t.Scopes, " ")), ui.C(t.Binding.Type)})
	}
	if len(rows) > 0 {
		p.NotedTable([]string{"state", "left", "tenant", "audience", "scopes", "binding"}, rows, notes)
	}
	for _, d := range r.Damaged {
		p.Line("damaged: %s: %s", d.File, d.Problem)
	}
}

func yesNo(v bool) ui.Cell {
	if v {
		return ui.T(ui.Good, "yes")
	}
	return ui.T(ui.Bad, "no")
}
