package device

import (
	"errors"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/stella-ops/stella/internal/authority/audit"
)

// signIn shows the form for name and password, or leads on.
func (p *Page) signIn(v *visit) {
	if v.b.login(v.req, v.now) != nil {
		p.goTo(v, pathConsent)
		return
	}
	p.showSignIn(v, http.StatusOK, "", "")
}

// bounds of what is typed.
const (
	maxUsername = 256
	maxPassword = 1024
)

// login signs a person in for one code.
func (p *Page) login(v *visit) {
	if !p.mine(v, v.form.Get("user_code")) {
		return
	}
	name, password := v.form.Get("username"), v.form.Get("password")
	record := audit.Of(v.r.Context())
	if name == "" || password == "" {
		record.Outcome(audit.Failure, "name or password missing")
		p.showSignIn(v, http.StatusUnprocessableEntity, name, "Type your user name and your password.")
		return
	}
	if len(name) > maxUsername || len(password) > maxPassword {
		record.Outcome(audit.Failure, "name or password too long")
		p.showSignIn(v, http.StatusUnprocessableEntity, "", textCredentials)
		return
	}
	record.Prop("request.username", name, audit.Sensitive) // it may be a password in the place of a name
	who, err := p.Login(v.r.Context(), name, password, p.Remote(v.r))
	var locked *LockedOut
	switch {
	case errors.As(err, &locked):
		record.Outcome(audit.LockedOut, "too many failed attempts")
		v.w.Header().Set("Retry-After", wholeSeconds(locked.RetryAfter))
		p.showSignIn(v, http.StatusTooManyRequests, name,
			"Too many failed attempts for this user name. Try again in "+minutes(locked.RetryAfter)+".")
		return
	case errors.Is(err, ErrCredentials):
		record.Outcome(audit.Failure, "invalid credentials")
		p.showSignIn(v, http.StatusForbidden, name, textCredentials)
		return
	case err != nil:
		p.unavailable(v.w, v.r, err)
		return
	}
	record.Subject(who.Subject, who.Username, who.DisplayName, "")
	if err := p.renew(v.r.Context(), v.w, v.b, v.req, who); err != nil {
		p.unavailable(v.w, v.r, err)
		return
	}
	record.Outcome(audit.Success, "")
	p.goTo(v, pathConsent)
}

const textCredentials = "This user name and password do not match. Check both and try again."

// consent shows what is asked for, or what was decided.
func (p *Page) consent(v *visit) {
	l := v.b.login(v.req, v.now)
	if l == nil {
		p.goTo(v, pathSignIn)
		return
	}
	d, err := p.codes.decision(v.r.Context(), v.req)
	switch {
	case err != nil:
		p.unavailable(v.w, v.r, err)
	case d != nil:
		p.showResult(v, d)
	default:
		p.showConsent(v, l, http.StatusOK, "")
	}
}

// decide records what the person chose. Sent twice, or after the other choice,
// it shows what holds.
func (p *Page) decide(v *visit) {
	record := audit.Of(v.r.Context())
	verdict := v.form.Get("decision")
	if verdict != "approve" {
		record.Set(audit.TypeDeviceDeny)
	}
	if !p.mine(v, v.form.Get("user_code")) {
		return
	}
	l := v.b.login(v.req, v.now)
	if l == nil {
		record.Outcome(audit.Failure, "not signed in")
		p.goTo(v, pathSignIn)
		return
	}
	who := &l.Person
	record.Subject(who.Subject, who.Username, who.DisplayName, "")
	d := &decision{Subject: who.Subject, At: v.now}
	switch verdict {
	case "approve":
		offer := p.offer(v.req, who)
		tenant := v.form.Get("tenant")
		if len(offer.tenants) == 1 && tenant == "" {
			tenant = offer.tenants[0]
		}
		switch {
		case !offer.possible():
			record.Outcome(audit.Failure, "nothing that this person can grant")
			p.showConsent(v, l, http.StatusForbidden, "Your account cannot grant this request.")
			return
		case !slices.Contains(offer.tenants, tenant):
			record.Outcome(audit.Failure, "no tenant chosen")
			p.showConsent(v, l, http.StatusUnprocessableEntity, "Choose the tenant that this sign-in is for.")
			return
		}
		d.Approval = &Approval{
			Subject: who.Subject, Username: who.Username, DisplayName: who.DisplayName, Roles: who.Roles,
			Tenant: tenant, Scopes: offer.scopes, Audience: v.req.Audience, ClientID: v.req.ClientID,
			JKT: v.req.JKT, AuthTime: l.At,
		}
		record.Tenant(tenant)
		record.Scopes(offer.scopes)
	case "deny":
	default:
		record.Outcome(audit.Failure, "no decision")
		p.showConsent(v, l, http.StatusUnprocessableEntity, "Choose Approve or Deny.")
		return
	}
	held, err := p.codes.decide(v.r.Context(), v.req, d)
	switch {
	case err != nil:
		p.unavailable(v.w, v.r, err)
		return
	case held != d:
		record.Outcome(audit.Failure, "decided before")
	default:
		record.Outcome(audit.Success, "")
	}
	p.goTo(v, pathConsent)
}

// offer is what a person can grant of a request.
type offer struct {
	asked, scopes, tenants []string
}

func (p *Page) offer(r *request, who *Person) offer {
	theirs := who.Tenants
	if who.Tenant != "" {
		theirs = append([]string{who.Tenant}, theirs...)
	}
	return offer{r.Scopes, common(r.Scopes, who.Scopes), common(r.Tenants, theirs)}
}

// possible reports whether there is anything to approve: a tenant, and a scope
// if any was asked for.
func (o offer) possible() bool {
	return len(o.tenants) > 0 && (len(o.scopes) > 0 || len(o.asked) == 0)
}

// wholeSeconds rounds up: who comes back as told must not come too early.
func wholeSeconds(d time.Duration) string {
	return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10)
}

// minutes is a time to wait in words, rounded up.
func minutes(d time.Duration) string {
	switch n := int64((d + time.Minute - 1) / time.Minute); {
	case d <= time.Second:
		return "1 second"
	case d < time.Minute:
		return wholeSeconds(d) + " seconds"
	case n == 1:
		return "1 minute"
	default:
		return strconv.FormatInt(n, 10) + " minutes"
	}
}
