package cli

import (
	"context"
	"slices"
	"strings"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/jwkscheck"
	"github.com/stella-ops/stella/internal/keyring"
	"github.com/stella-ops/stella/internal/rotate"
)

// authorityPoints adds the vantage points that only the Authority names, when
// a token is at hand that may read them. None is fetched for it: comparing key
// sets needs no credentials. What cannot be compared is said.
func authorityPoints(ctx context.Context, src *jwksSource, shared jwkscheck.Getter, points []jwkscheck.Point) []jwkscheck.Point {
	say := func(why string) {
		src.close()
		src.app.Streams.Note("note: vantage points that only the Authority names are not compared: %s", why)
	}
	api, err := readerAtHand(src)
	if err != nil {
		say(err.Error())
		return points
	}
	if api == nil {
		say("that needs a token with scope " + keyring.ScopeRead + "; stella auth login --scope " + keyring.ScopeRead + " --audience " + audienceOf(src))
		return points
	}
	report, err := api.Report(ctx)
	if err != nil {
		say(err.Error())
		return points
	}
	for _, v := range report.Vantage {
		same := func(p jwkscheck.Point) bool { return p.Name == v.Name || p.URL == v.URL && !p.Optional }
		switch {
		case slices.ContainsFunc(points[1:], same):
		case !rotate.MayName(v):
			src.close()
			src.app.Streams.Warn("vantage point %q is not compared: its URL %q comes from the Authority and is not https", v.Name, v.URL)
		default:
			points = append(points, jwkscheck.Point{Name: v.Name, URL: v.URL, Getter: shared})
		}
	}
	return points
}

func audienceOf(src *jwksSource) string {
	if a := src.config.Auth.Audience; a != "" {
		return a
	}
	return authorityAudience
}

// readerAtHand is the lifecycle API with a valid token that is there already;
// nil when there is none.
func readerAtHand(src *jwksSource) (*rotate.API, error) {
	a := src.config.Auth
	if a.ClientID == "" && !src.config.HasToken() {
		return nil, nil
	}
	wants := []tokenWant{
		lifecycleToken(a, []string{keyring.ScopeRead}),
		lifecycleToken(a, []string{keyring.ScopeRead, keyring.ScopeManage}),
	}
	for _, want := range wants {
		s, err := openAuth(src.app, want)
		if err != nil {
			return nil, err
		}
		t, err := s.client.Cached()
		if err != nil && fault.KindOf(err) == fault.Config {
			return nil, err
		}
		if err != nil || t == nil || !src.config.HasToken() && (!t.Valid(src.app.Now()) || !slices.Contains(t.Scopes, keyring.ScopeRead)) {
			continue
		}
		return &rotate.API{Base: strings.TrimSuffix(src.config.Authority.URL, "/"), Doer: s.client}, nil
	}
	return nil, nil
}
