package cli

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/jwkscheck"
	"github.com/stella-ops/stella/internal/ui"
)

func newAuthJWKSCmd(app *App) *cobra.Command {
	return group("jwks", "Look at published key sets",
		long(`Looks at the key sets that verifiers fetch: shows one, lints one, or compares
what several places serve.`, fault.Config),
		"  stella auth jwks verify", newAuthJWKSShowCmd(app), newAuthJWKSLintCmd(app), newAuthJWKSVerifyCmd(app))
}

func newAuthJWKSShowCmd(app *App) *cobra.Command {
	return &cobra.Command{
		Use:   "show [URL|FILE|-]",
		Short: "Show the keys of a set and how it may be cached",
		Long: long(`Show the keys of a set with their thumbprints (RFC 7638), and the cache headers
that it came with. Without an argument it is the set of the configured
Authority. The JSON output holds the document itself, so that it can be kept
and given to "jwks lint --against" later.`, fault.NotFound, fault.Offline, fault.Transient, fault.Trust, fault.Config),
		Example: `  stella auth jwks show
  stella auth jwks show https://edge.example/jwks
  stella auth jwks show --output json > jwks-before.json`,
		Args: args(0, 1, "one URL, FILE or -"),
		RunE: func(cmd *cobra.Command, args []string) error { return runAuthJWKSShow(cmd.Context(), app, args) },
	}
}

// cacheView is what the headers of an answer say.
type cacheView struct {
	ContentType  string    `json:"content_type"`
	CacheControl string    `json:"cache_control"`
	MaxAge       *int64    `json:"max_age_s,omitempty"` // absent: none was sent
	Age          int64     `json:"age_s"`
	ETag         string    `json:"etag,omitempty"`
	Date         time.Time `json:"date,omitzero"`
}

// showResult is stella.auth.jwks.show/v1.
type showResult struct {
	URL      string              `json:"url"`
	ETag     string              `json:"etag,omitempty"`
	Keys     []jwkscheck.KeyInfo `json:"keys"`
	Cache    *cacheView          `json:"cache,omitempty"` // absent for a file
	Document string              `json:"document"`
}

func runAuthJWKSShow(ctx context.Context, app *App, args []string) error {
	src, err := openJWKS(ctx, app, args)
	if err != nil {
		return err
	}
	defer src.close()
	d, err := src.load(ctx, src.location)
	if err != nil {
		return err
	}
	src.close()
	keys, err := jwkscheck.Keys(d)
	if err != nil {
		return err
	}
	r := showResult{URL: d.Source, Keys: keys, Cache: viewCache(d.HTTP), Document: string(d.Body)}
	if d.HTTP != nil {
		r.ETag = d.HTTP.ETag
	}
	return app.Streams.Render(jwkscheck.SchemaShow, r, r.text)
}

func viewCache(h *jwkscheck.HTTP) *cacheView {
	if h == nil || h.Status == 0 {
		return nil
	}
	v := &cacheView{ContentType: h.ContentType, CacheControl: h.CacheControl, Age: int64(h.Age / time.Second), ETag: h.ETag, Date: h.Date}
	if h.MaxAge >= 0 {
		s := int64(h.MaxAge / time.Second)
		v.MaxAge = &s
	}
	return v
}

func (r showResult) text(p *ui.Page) {
	rows := [][]ui.Cell{}
	for _, k := range r.Keys {
		tone := ui.Plain
		if !k.Usable {
			tone = ui.Bad
		}
		thumb := k.Thumbprint
		if !k.Usable {
			thumb = "not usable: " + k.Problem
		}
		rows = append(rows, []ui.Cell{ui.C(k.KID), ui.C(k.Alg), ui.C(strings.TrimSpace(k.KeyType + " " + k.Curve)), ui.C(k.Use), ui.C(k.Status), ui.T(tone, "%s", thumb)})
	}
	p.Table([]string{"kid", "alg", "type", "use", "status", "thumbprint"}, rows)
	if r.Cache == nil {
		return
	}
	p.Heading("Served")
	p.Pairs(
		ui.Pair{Key: "url", Value: ui.C(r.URL)},
		ui.Pair{Key: "content type", Value: ui.C(r.Cache.ContentType)},
		ui.Pair{Key: "cache control", Value: ui.C(r.Cache.CacheControl)},
		ui.Pair{Key: "age", Value: ui.C((time.Duration(r.Cache.Age) * time.Second).String())},
		ui.Pair{Key: "etag", Value: ui.C(r.Cache.ETag)},
	)
}
