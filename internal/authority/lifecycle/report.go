package lifecycle

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/stella-ops/stella/internal/authority/store"
	"github.com/stella-ops/stella/internal/keyring"
)

// Report puts together what is known of ring. When the database is out of
// reach the counts are absent (live_as_of too) and required vantage points
// look as if never seen, which blocks; warnings says so.
func (a *API) Report(ctx context.Context, ring *keyring.Ring) (rep *keyring.Report, warnings []string) {
	ctx, cancel := context.WithTimeout(ctx, a.Timeout)
	defer cancel()
	now := a.Now().UTC()
	rep = &keyring.Report{
		Schema: keyring.SchemaReport, Issuer: a.Issuer, Now: now, Version: ring.Version, ChangeAt: ring.At,
		Replica: a.Replica, Policy: ring.Policy, JWKSURI: a.JWKSURI, Keys: ring.Keys, Live: []keyring.Live{},
	}
	var live []keyring.Live
	var asOf time.Time
	err := a.Database()
	if err == nil {
		live, asOf, err = a.Counter.Live(ctx)
	}
	if err == nil {
		rep.Live, rep.LiveAsOf = live, asOf
	} else {
		a.Log.WarnContext(ctx, "report without live counts", "err", err)
		warnings = append(warnings, "live tokens cannot be counted: the database is out of reach")
	}
	rep.Vantage, err = a.Points(ctx)
	if err != nil {
		a.Log.WarnContext(ctx, "report without sightings", "err", err)
		warnings = append(warnings, "what was seen at vantage points cannot be read: the database is out of reach")
		rep.Vantage = merge(nil, a.Required())
	}
	rep.Steps = ring.Plan(now, rep.Vantage)
	a.privateKeys(rep)
	return rep, warnings
}

// privateKeys says what this replica knows of the private halves.
func (a *API) privateKeys(rep *keyring.Report) {
	if err := a.Keys.CannotSign(); err != nil {
		rep.CannotSign = err.Error()
	}
	rep.Unusable, rep.NotDestroyed = a.Keys.Unusable(), a.Keys.NotDestroyed()
	for i := range rep.Steps {
		s := &rep.Steps[i]
		for _, u := range rep.Unusable {
			if s.Action == keyring.Activate && s.KID == u.KID && s.Blocked == "" {
				s.Blocked = "it could not sign: " + u.Error
			}
		}
	}
}

// Points returns all vantage points: those required, whether seen or not, and
// those that operators reported.
func (a *API) Points(ctx context.Context) ([]keyring.Vantage, error) {
	if err := a.Database(); err != nil {
		return nil, err
	}
	seen, err := a.Vantage.Sightings(ctx, a.Now())
	if err != nil {
		return nil, err
	}
	return merge(seen, a.Required()), nil
}

func merge(seen []store.Sighting, required []Point) []keyring.Vantage {
	byName := map[string]keyring.Vantage{}
	for _, s := range seen {
		byName[s.Name] = keyring.Vantage{
			Name: s.Name, URL: s.URL, LastSeen: s.LastSeen, MaxAge: ceilSeconds(s.MaxAge), Since: s.Since,
		}
	}
	for _, p := range required {
		v := byName[p.Name]
		if v.URL != p.URL {
			// Seen under another address before the configuration changed:
			// that says nothing about this one.
			v = keyring.Vantage{}
		}
		v.Name, v.URL, v.Required = p.Name, p.URL, true
		byName[p.Name] = v
	}
	all := slices.AppendSeq(make([]keyring.Vantage, 0, len(byName)), maps.Values(byName))
	slices.SortFunc(all, func(x, y keyring.Vantage) int { return cmp.Compare(x.Name, y.Name) })
	for i := range all {
		if all[i].Since == nil {
			all[i].Since = map[string]time.Time{}
		}
	}
	return all
}

func ceilSeconds(d time.Duration) keyring.Seconds {
	return keyring.Seconds((d + time.Second - 1).Truncate(time.Second))
}
