package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/jwkscheck"
	"github.com/stella-ops/stella/internal/ui"
)

// SchemaAuthJWKSVerify is the schema of what auth jwks verify prints as JSON.
const SchemaAuthJWKSVerify = "stella.auth.jwks.verify/v1"

type authJWKSVerifyOptions struct {
	url     string
	vantage []string
}

func (o *authJWKSVerifyOptions) addFlags(f *pflag.FlagSet) {
	f.StringVar(&o.url, "url", "", "compare with the set at this `URL` instead of the Authority's jwks_uri")
	f.StringArrayVar(&o.vantage, "vantage", nil, "one more place, as `NAME=URL`; https:// or file:// (may be repeated)")
}

func newAuthJWKSVerifyCmd(app *App) *cobra.Command {
	var opts authJWKSVerifyOptions
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Check that all places serve the same key set",
		Long: long(`Fetch the key set of the Authority and of every vantage point (vantage_points in
the configuration, and --vantage), compare each with the Authority's by kid,
thumbprint and status, and name the one that differs and how. The order of keys
and further members do not matter. A file:// vantage point is a copy that was
carried over an air gap. The vantage points that the Authority's own
configuration names are compared as well when a token is at hand that may read
them (scope authority:keys.read); otherwise that they are not is said.

The Authority's two paths, /jwks and /.well-known/jwks.json, are compared as
well; one that is not served is named and does not count as a difference.`, fault.Offline, fault.Transient, fault.ChecksFailed, fault.Trust, fault.Config),
		Example: `  stella auth jwks verify
  stella auth jwks verify --vantage edge=https://edge.example/jwks --vantage usb=file:///media/usb/jwks.json
  stella auth jwks verify --output json`,
		Args: noArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error { return runAuthJWKSVerify(cmd.Context(), app, opts) },
	}
	opts.addFlags(cmd.Flags())
	return cmd
}

// pointView is one place of stella.auth.jwks.verify/v1.
type pointView struct {
	Name        string                 `json:"name"`
	URL         string                 `json:"url"`
	State       jwkscheck.State        `json:"state"`
	Keys        int                    `json:"keys"`
	KIDs        []string               `json:"kids"`
	Cache       *cacheView             `json:"cache,omitempty"`
	Differences []jwkscheck.Difference `json:"differences"`
	Problem     string                 `json:"problem,omitempty"`
}

// verifyResult is stella.auth.jwks.verify/v1.
type verifyResult struct {
	Reference string      `json:"reference"`
	Agree     bool        `json:"agree"`
	Points    []pointView `json:"points"`
}

func runAuthJWKSVerify(ctx context.Context, app *App, opts authJWKSVerifyOptions) error {
	args := []string{}
	if opts.url != "" {
		args = append(args, opts.url)
	}
	src, err := openJWKS(ctx, app, args)
	if err != nil {
		return err
	}
	defer src.close()
	points, err := opts.points(ctx, src)
	if err != nil {
		return err
	}
	c, err := jwkscheck.Compare(ctx, points)
	if err != nil {
		return err
	}
	src.close()
	r := verifyResult{Reference: points[0].URL, Agree: c.Err() == nil, Points: []pointView{}}
	for _, s := range c.Points {
		v := pointView{
			Name: s.Point.Name, URL: s.Point.URL, State: s.State, Keys: len(s.Keys), KIDs: []string{},
			Cache: viewCache(s.HTTP), Differences: append([]jwkscheck.Difference{}, s.Differences...), Problem: s.Problem,
		}
		for _, k := range s.Keys {
			v.KIDs = append(v.KIDs, k.KID)
		}
		r.Points = append(r.Points, v)
	}
	if err := app.Streams.Render(SchemaAuthJWKSVerify, r, r.text); err != nil {
		return err
	}
	return c.Err()
}

// points lists all places, the reference first.
func (o authJWKSVerifyOptions) points(ctx context.Context, src *jwksSource) ([]jwkscheck.Point, error) {
	points := []jwkscheck.Point{{Name: "reference", URL: src.location}}
	if o.url == "" {
		points[0].Name = "authority"
		base := strings.TrimSuffix(src.config.Authority.URL, "/")
		for _, path := range []string{"/jwks", "/.well-known/jwks.json"} {
			if base+path != src.location {
				points = append(points, jwkscheck.Point{Name: "authority " + path, URL: base + path, Optional: true})
			}
		}
	}
	shared, err := openFetcher(src.app, src.progress, src.config.Authority.CAFile)
	if err != nil {
		return nil, err
	}
	for i := range points {
		points[i].Getter = shared
	}
	for _, v := range src.config.VantagePoints {
		g := shared
		if v.CAFile != "" {
			if g, err = openFetcher(src.app, src.progress, v.CAFile); err != nil {
				return nil, err
			}
		}
		points = append(points, jwkscheck.Point{Name: v.Name, URL: v.URL, Getter: g})
	}
	for _, text := range o.vantage {
		name, url, ok := strings.Cut(text, "=")
		if !ok || name == "" || url == "" {
			return nil, fault.Errorf(fault.Input, "--vantage %q is not NAME=URL", text)
		}
		if slices.ContainsFunc(points, func(p jwkscheck.Point) bool { return p.Name == name }) {
			return nil, fault.Errorf(fault.Input, "two places are called %q", name).Hint("give --vantage another name")
		}
		points = append(points, jwkscheck.Point{Name: name, URL: url, Getter: shared})
	}
	if o.url == "" {
		points = authorityPoints(ctx, src, shared, points)
	}
	return points, nil
}

func (r verifyResult) text(p *ui.Page) {
	rows := [][]ui.Cell{}
	for _, v := range r.Points {
		tone := map[jwkscheck.State]ui.Tone{jwkscheck.Same: ui.Good, jwkscheck.Absent: ui.Warn}[v.State]
		if tone == ui.Plain {
			tone = ui.Bad
		}
		age := ""
		if v.Cache != nil {
			age = (time.Duration(v.Cache.Age) * time.Second).String()
		}
		rows = append(rows, []ui.Cell{ui.C(v.Name), ui.T(tone, "%s", v.State), ui.C(fmt.Sprint(v.Keys)), ui.C(age), ui.C(v.URL)})
	}
	p.Table([]string{"place", "state", "keys", "age", "url"}, rows)
	for _, v := range r.Points {
		for _, d := range v.Differences {
			p.Line("%s: %s", v.Name, d.Detail)
		}
		if v.Problem != "" {
			p.Line("%s: %s", v.Name, v.Problem)
		}
	}
}
