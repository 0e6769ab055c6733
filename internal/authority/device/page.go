package device

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"github.com/stella-ops/stella/internal/authority/audit"
	"github.com/stella-ops/stella/internal/authority/store"
	"github.com/stella-ops/stella/internal/authority/wire"
	"github.com/stella-ops/stella/internal/httpd"
)

// ErrCredentials is what Login returns for an unknown name, a wrong password
// and a disabled account alike.
var ErrCredentials = errors.New("wrong name or password")

// LockedOut is what Login returns, for known and unknown names alike, after
// too many wrong passwords.
type LockedOut struct{ RetryAfter time.Duration }

// Error implements error.
func (l *LockedOut) Error() string { return "too many failed attempts" }

// PageDeps are what the page works with. All are required.
type PageDeps struct {
	Codes  *Codes
	Issuer string
	// Login signs a person in: ErrCredentials, *LockedOut, or any other error
	// when it cannot be told now.
	Login func(ctx context.Context, name, password, remote string) (*Person, error)
	// Take takes one from the budget of the sender of a request that looks a
	// code up (all but the first page); with none left it returns how long to
	// wait. An error means that it cannot be told now.
	Take func(*http.Request) (wait time.Duration, err error)
	// Ready says why nothing can be decided now, or nil.
	Ready func() error
	// Remote is the address of the peer.
	Remote func(*http.Request) string
	Log    *slog.Logger
}

// Page serves PathPage and all below it.
type Page struct {
	PageDeps
	codes   *Codes
	cookies cookies
	origin  string
	base    string // path of the page
	host    string // that people should see in their address bar
	views   *views
	mux     *http.ServeMux
}

// NewPage makes a Page.
func NewPage(d PageDeps) (*Page, error) {
	p := &Page{PageDeps: d, codes: d.Codes, mux: http.NewServeMux()}
	org, path, err := origin(d.Issuer)
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(org)
	if err != nil {
		return nil, err
	}
	p.origin, p.base, p.host = org, path+PathPage, u.Host
	p.cookies.secure = u.Scheme == "https"
	if p.views, err = newViews(p.base); err != nil {
		return nil, err
	}
	p.mux.HandleFunc("GET "+PathPage, p.entry)
	p.mux.HandleFunc("POST "+PathPage, p.form(audit.TypeDeviceVerify, p.enter))
	p.mux.HandleFunc("GET "+PathPage+pathSignIn, p.step(p.signIn))
	p.mux.HandleFunc("POST "+PathPage+pathSignIn, p.form(audit.TypeDeviceLogin, p.login))
	p.mux.HandleFunc("GET "+PathPage+pathConsent, p.step(p.consent))
	p.mux.HandleFunc("POST "+PathPage+pathConsent, p.form(audit.TypeDeviceApprove, p.decide))
	p.mux.HandleFunc("GET "+PathPage+pathStyle, p.views.style)
	p.mux.HandleFunc("GET "+PathPage+pathMark, p.views.mark)
	return p, nil
}

// Paths below PathPage.
const (
	pathSignIn  = "/sign-in"
	pathConsent = "/consent"
	pathStyle   = "/style.css"
	pathMark    = "/mark.svg"
)

// ServeHTTP implements http.Handler.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	setHeaders(w.Header())
	p.mux.ServeHTTP(w, r)
}

// visit is one request to a step that needs a code.
type visit struct {
	w    http.ResponseWriter
	r    *http.Request
	b    *browser
	req  *request
	form *wire.Form // nil with GET
	now  time.Time
}

// entry shows the form for a code. A code in the URL fills it in but is never
// sent by itself: somebody else may have made that URL.
func (p *Page) entry(w http.ResponseWriter, r *http.Request) {
	b, err := p.browser(r)
	if err != nil {
		p.unavailable(w, r, err)
		return
	}
	v := p.view(b)
	v.Self = p.base
	if code, ok := parseUserCode(r.URL.Query().Get("user_code")); ok {
		v.Code, v.Prefilled = formatUserCode(code), true
		v.Self += "?user_code=" + v.Code
	}
	if b.cookie == "" {
		if site := r.Header.Get("Sec-Fetch-Site"); site == "cross-site" || site == "same-site" {
			// After a link on another site the browser keeps a strict cookie
			// back. A new one would end what it is in the middle of; a visit
			// that begins here shows whether there is one.
			p.views.show(w, http.StatusOK, "open", v)
			return
		}
		b.cookie = newSecret()
		v.Token = b.token()
		p.cookies.set(w, b.cookie)
	}
	p.views.show(w, http.StatusOK, "enter", v)
}

// form is what all forms have in common: budget, origin, token.
func (p *Page) form(event string, next func(*visit)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		record := audit.Of(r.Context())
		record.Set(event)
		record.Outcome(audit.Error, "")
		if !p.within(w, r) {
			return
		}
		f, err := wire.ReadForm(r)
		if err != nil {
			record.Outcome(audit.Failure, "not a form")
			p.problem(w, wire.AsRefusal(err).StatusCode(), problemForm, "")
			return
		}
		b, err := p.browser(r)
		if err != nil {
			p.unavailable(w, r, err)
			return
		}
		if !p.sameOrigin(r) || !b.genuine(f.Get("token")) {
			record.Outcome(audit.Failure, "not sent from the page")
			p.problem(w, http.StatusForbidden, problemForgery, f.Get("user_code"))
			return
		}
		next(&visit{w: w, r: r, b: b, form: f, now: p.codes.Now()})
	}
}

// within takes from the sender's budget, or answers.
func (p *Page) within(w http.ResponseWriter, r *http.Request) bool {
	wait, err := p.Take(r)
	switch {
	case err != nil:
		p.unavailable(w, r, err)
	case wait > 0:
		audit.Of(r.Context()).Outcome(audit.RateLimited, wire.RateLimited)
		p.tooMany(w, wait)
	default:
		return true
	}
	return false
}

// step is what all pages have in common that belong to a code.
func (p *Page) step(next func(*visit)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !p.within(w, r) {
			return
		}
		b, err := p.browser(r)
		if err != nil {
			p.unavailable(w, r, err)
			return
		}
		v := &visit{w: w, r: r, b: b, now: p.codes.Now()}
		if p.mine(v, r.URL.Query().Get("user_code")) {
			next(v)
		}
	}
}

// find sets the request of a visit, or answers.
func (p *Page) find(v *visit, typed string) bool {
	code, ok := parseUserCode(typed)
	err := store.ErrNotFound
	if ok {
		if err = p.Ready(); err == nil {
			v.req, err = p.codes.byUserCode(v.r.Context(), code)
		}
	}
	record := audit.Of(v.r.Context())
	switch {
	case errors.Is(err, store.ErrNotFound):
		record.Outcome(audit.Failure, "unknown user code")
		p.unknownCode(v, typed)
		return false
	case err != nil:
		p.unavailable(v.w, v.r, err)
		return false
	}
	record.Client(v.req.ClientID, v.req.ClientName)
	return true
}

// mine is find for a code that this browser has claimed, or it answers.
func (p *Page) mine(v *visit, typed string) bool {
	if !p.find(v, typed) {
		return false
	}
	owner, err := p.codes.claimed(v.r.Context(), v.req)
	if err != nil {
		p.unavailable(v.w, v.r, err)
		return false
	}
	switch {
	case v.b.claimed(owner):
		return true
	case owner == "":
		p.goTo(v, "")
	default:
		p.elsewhere(v)
	}
	return false
}

// enter claims a code for this browser.
func (p *Page) enter(v *visit) {
	if !p.find(v, v.form.Get("user_code")) {
		return
	}
	owner, err := p.codes.claim(v.r.Context(), v.req, v.b.id)
	switch {
	case err != nil:
		p.unavailable(v.w, v.r, err)
	case !v.b.claimed(owner):
		p.elsewhere(v)
	default:
		audit.Of(v.r.Context()).Outcome(audit.Success, "")
		p.goTo(v, pathSignIn)
	}
}

// goTo leads on to a path below the page. Always 303: a form with a password
// in it is never sent anywhere else (RFC 9700 section 4.12).
func (p *Page) goTo(v *visit, path string) {
	to := p.base + path + "?user_code=" + url.QueryEscape(formatUserCode(v.req.UserCode))
	http.Redirect(v.w, v.r, to, http.StatusSeeOther)
}

// elsewhere says that another browser was first.
func (p *Page) elsewhere(v *visit) {
	audit.Of(v.r.Context()).Outcome(audit.Failure, "claimed by another browser")
	p.problem(v.w, http.StatusConflict, problemElsewhere, "")
}

// unavailable answers while nothing can be decided, and logs why.
func (p *Page) unavailable(w http.ResponseWriter, r *http.Request, err error) {
	audit.Of(r.Context()).Outcome(audit.Error, wire.TemporarilyOverloaded)
	p.Log.ErrorContext(r.Context(), "device page", "request_id", httpd.RequestID(r.Context()), "err", err)
	w.Header().Set("Retry-After", "2")
	p.problem(w, http.StatusServiceUnavailable, problemUnavailable, "")
}
