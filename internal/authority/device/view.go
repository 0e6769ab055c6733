package device

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"html/template"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/stella-ops/stella/internal/authority/wire"
)

//go:embed page
var files embed.FS

// view is what a template may show.
type view struct {
	Base, Host, Token, Style string
	Self                     string // URL of this very page

	Code      string // XXXX-XXXX, or as typed
	Prefilled bool
	Error     string
	Username  string

	Client, ClientID, Remote, Audience string
	Begun, Expires, Left               string
	Person, Account                    string
	Scopes, Withheld                   []scope
	Tenants                            []tenant
	Possible, Approved                 bool

	Problem problem
}

type scope struct{ Name, Words string }

type tenant struct {
	ID      string
	Checked bool
}

// problem is a page that says why it does not go on.
type problem struct{ Title, Text, Next string }

const (
	problemForm = iota
	problemForgery
	problemElsewhere
	problemUnavailable
	problemTooMany
)

func problemOf(kind int, wait string) problem {
	switch kind {
	case problemForgery:
		return problem{"This page is out of date", "It was opened before you signed in, or not by you. Nothing was changed.", "Open it again"}
	case problemElsewhere:
		return problem{"This code is being used in another browser",
			"A code belongs to the browser that was first to enter it. If that was you, go on there. If it was not, do not use this code: begin again in your terminal.",
			"Enter another code"}
	case problemUnavailable:
		return problem{"This cannot be done now", "The Authority cannot reach something that it needs. Nothing was changed. Try again shortly.", "Try again"}
	case problemTooMany:
		return problem{"Too many attempts", "Wait " + wait + ", then try again. Nothing was changed.", "Enter a code"}
	}
	return problem{"This form cannot be read", "Your browser sent something that this page does not understand. Nothing was changed.", "Begin again"}
}

// views renders pages.
type views struct {
	pages  *template.Template
	css    []byte
	svg    []byte
	base   string
	cssTag string
}

func newViews(base string) (*views, error) {
	pages, err := template.ParseFS(files, "page/*.html")
	if err != nil {
		return nil, err
	}
	v := &views{pages: pages, base: base}
	if v.css, err = files.ReadFile("page/style.css"); err != nil {
		return nil, err
	}
	if v.svg, err = files.ReadFile("page/mark.svg"); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(v.css)
	v.cssTag = hex.EncodeToString(sum[:8])
	return v, nil
}

// setHeaders sets what every answer of the page carries. Nothing is loaded
// from elsewhere, no script runs, and no other page may show this one.
func setHeaders(h http.Header) {
	h.Set("Content-Security-Policy",
		"default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
}

// show renders a page before it writes anything of it.
func (v *views) show(w http.ResponseWriter, status int, name string, data *view) {
	data.Style = v.base + pathStyle + "?v=" + v.cssTag
	buf := wire.GetBuffer()
	defer wire.PutBuffer(buf)
	if err := v.pages.ExecuteTemplate(buf, name+".html", data); err != nil { // cannot happen with the templates here
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(buf.Bytes())
}

// style serves the style sheet. Its URL changes with its content.
func (v *views) style(w http.ResponseWriter, r *http.Request) {
	v.asset(w, r, "text/css; charset=utf-8", v.css)
}

func (v *views) mark(w http.ResponseWriter, r *http.Request) {
	v.asset(w, r, "image/svg+xml", v.svg)
}

func (v *views) asset(w http.ResponseWriter, r *http.Request, mediaType string, data []byte) {
	w.Header().Set("Cache-Control", "public, max-age=3600")
	w.Header().Set("Content-Type", mediaType)
	_, _ = w.Write(data)
}

// view is what all pages show.
func (p *Page) view(b *browser) *view {
	return &view{Base: p.base, Host: p.host, Token: b.token()}
}

// viewOf is what all pages show that belong to a code.
func (p *Page) viewOf(v *visit) *view {
	d, r := p.view(v.b), v.req
	d.Code, d.Client, d.ClientID, d.Remote, d.Audience = formatUserCode(r.UserCode), r.ClientName, r.ClientID, r.Remote, r.Audience
	if d.Client == "" {
		d.Client = r.ClientID
	}
	d.Begun, d.Expires = clock(r.Begun), clock(r.Expires)
	d.Left = minutes(r.Expires.Sub(v.now))
	return d
}

// clock is a time of day; a code lives for minutes, so the day goes without
// saying.
func clock(t time.Time) string { return t.UTC().Format("15:04") + " UTC" }

func (p *Page) unknownCode(v *visit, typed string) {
	d := p.view(v.b)
	d.Code = strings.ToUpper(typed[:min(len(typed), 16)])
	if v.form == nil {
		d.Problem = problem{"This code has ended", "The code is not known or has expired. Begin again in your terminal.", "Enter a code"}
		p.views.show(v.w, http.StatusNotFound, "problem", d)
		return
	}
	d.Error = "This code is not known or has expired. Check it against your terminal, or begin again there."
	p.views.show(v.w, http.StatusNotFound, "enter", d)
}

func (p *Page) showSignIn(v *visit, status int, name, text string) {
	d := p.viewOf(v)
	d.Username, d.Error = name, text
	p.views.show(v.w, status, "signin", d)
}

func (p *Page) showConsent(v *visit, l *login, status int, text string) {
	d, o := p.viewOf(v), p.offer(v.req, &l.Person)
	d.Error, d.Possible = text, o.possible()
	d.person(l)
	if end := l.At.Add(sessionLife); end.Before(v.req.Expires) {
		d.Expires, d.Left = clock(end), minutes(end.Sub(v.now))
	}
	for _, s := range o.asked {
		if slices.Contains(o.scopes, s) {
			d.Scopes = append(d.Scopes, scope{s, words(s)})
		} else {
			d.Withheld = append(d.Withheld, scope{s, words(s)})
		}
	}
	for _, t := range o.tenants {
		d.Tenants = append(d.Tenants, tenant{t, t == l.Person.Tenant})
	}
	p.views.show(v.w, status, "consent", d)
}

func (p *Page) showResult(v *visit, held *decision) {
	d := p.viewOf(v)
	d.Approved = held.Approval != nil
	p.views.show(v.w, http.StatusOK, "result", d)
}

func (d *view) person(l *login) {
	d.Person, d.Account = l.Person.DisplayName, l.Person.Username
	if d.Person == "" {
		d.Person = d.Account
	}
}

func (p *Page) tooMany(w http.ResponseWriter, wait time.Duration) {
	w.Header().Set("Retry-After", wholeSeconds(wait))
	d := p.view(&browser{})
	d.Problem = problemOf(problemTooMany, minutes(wait))
	p.views.show(w, http.StatusTooManyRequests, "problem", d)
}

// problem shows a page that ends here; code leads back to where it began.
func (p *Page) problem(w http.ResponseWriter, status, kind int, code string) {
	d := p.view(&browser{})
	d.Problem = problemOf(kind, "")
	if parsed, ok := parseUserCode(code); ok {
		d.Code = formatUserCode(parsed)
	}
	p.views.show(w, status, "problem", d)
}
