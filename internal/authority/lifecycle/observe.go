package lifecycle

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"time"

	"github.com/stella-ops/stella/internal/authority/problem"
	"github.com/stella-ops/stella/internal/authority/store"
	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/keyring"
)

// Bounds of an observation.
const (
	maxObservations = 64
	maxURL          = 512
	maxMaxAge       = 366 * 24 * time.Hour
)

// ValidPoint reports whether name may name a vantage point: a letter or digit,
// then at most 63 letters, digits, dots, underscores, colons and hyphens.
func ValidPoint(name string) bool { return pointName().MatchString(name) }

func pointName() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$`) }

// observe answers POST PathObservations. All looks get this server's time.
func (a *API) observe(r *http.Request) (int, any, error) {
	operator, err := a.Guard.Operator(r, keyring.ScopeManage)
	if err != nil {
		return 0, nil, err
	}
	var doc keyring.Observations
	if err := readJSON(r, &doc); err != nil {
		return 0, nil, err
	}
	looks, err := a.looks(&doc)
	if err != nil {
		return 0, nil, err
	}
	now := a.Now().UTC()
	names := make([]string, 0, len(looks))
	for _, l := range looks {
		names = append(names, l.Name)
	}
	// Said before it is done: looks can open the gate of an activation, and
	// one that fails half-way may have been stored.
	a.Log.InfoContext(r.Context(), "vantage points observed", "event", "authority.signing.observation", "names", names,
		"operator", operator, "request_id", a.RequestID(r.Context()))
	for _, l := range looks {
		if err := a.Vantage.Look(r.Context(), now, l); err != nil {
			return 0, nil, err
		}
	}
	return http.StatusNoContent, nil, nil
}

// looks checks a whole document before anything of it is stored.
func (a *API) looks(doc *keyring.Observations) ([]store.Look, error) {
	if n := len(doc.Observations); n == 0 || n > maxObservations {
		return nil, problem.New(problem.Invalid, fmt.Sprintf("observations: want 1 to %d", maxObservations))
	}
	required := map[string]string{}
	for _, p := range a.Required() {
		required[p.Name] = p.URL
	}
	ring := a.Keys.Ring()
	var looks []store.Look
	for _, o := range doc.Observations {
		if !ValidPoint(o.Name) {
			return nil, problem.New(problem.Invalid, "name: use 1 to 64 letters, digits, dots, underscores, colons and hyphens")
		}
		if err := CheckPointURL(o.URL); err != nil {
			return nil, problem.New(problem.Invalid, fmt.Sprintf("vantage point %q: %v", o.Name, err))
		}
		if want, ok := required[o.Name]; ok && want != o.URL {
			return nil, problem.New(problem.Invalid, fmt.Sprintf("vantage point %q is configured with another URL, %s", o.Name, want))
		}
		if len(o.KIDs) > jose.MaxSetKeys || o.MaxAge.Duration() > maxMaxAge {
			return nil, problem.New(problem.Invalid, fmt.Sprintf("vantage point %q: too many kids, or a cache lifetime of more than a year", o.Name))
		}
		l := store.Look{Name: o.Name, URL: o.URL, MaxAge: o.MaxAge.Duration()}
		for _, kid := range o.KIDs {
			if ring.Find(kid) != nil { // keys of others are none of ours
				l.KIDs = append(l.KIDs, kid)
			}
		}
		looks = append(looks, l)
	}
	return looks, nil
}

// CheckPointURL says what is wrong with the URL of a vantage point.
func CheckPointURL(raw string) error {
	u, err := url.Parse(raw)
	if err != nil || len(raw) > maxURL || u.User != nil || u.Host == "" && u.Scheme != "file" ||
		u.Scheme != "https" && u.Scheme != "http" && u.Scheme != "file" {
		return fmt.Errorf("url: want an https, http or file URL of at most %d bytes without credentials", maxURL)
	}
	return nil
}

// forget answers DELETE PathObservations?name=….
func (a *API) forget(r *http.Request) (int, any, error) {
	operator, err := a.Guard.Operator(r, keyring.ScopeManage)
	if err != nil {
		return 0, nil, err
	}
	name := r.URL.Query().Get("name")
	for _, p := range a.Required() {
		if p.Name == name {
			return 0, nil, problem.New(problem.Invalid, fmt.Sprintf("vantage point %q is required by the configuration; remove it from signing.vantagePoints", name))
		}
	}
	if !ValidPoint(name) {
		return 0, nil, problem.New(problem.Invalid, "name: which vantage point?")
	}
	if err := a.Vantage.Forget(r.Context(), name); err != nil {
		return 0, nil, err
	}
	a.Log.InfoContext(r.Context(), "vantage point forgotten", "event", "authority.signing.vantage", "name", name,
		"operator", operator, "request_id", a.RequestID(r.Context()))
	return http.StatusNoContent, nil, nil
}
