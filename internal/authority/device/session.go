package device

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/stella-ops/stella/internal/authority/store"
)

// sessionLife is how long a person may think after signing in. A session also
// ends with the code it is for.
const sessionLife = 10 * time.Minute

// maxKept bounds what a browser's session carries from earlier ones.
const maxKept = 8

// Person is somebody who has signed in.
type Person struct {
	Subject     string   `json:"sub"`
	Username    string   `json:"username"`
	DisplayName string   `json:"display_name,omitempty"`
	Tenant      string   `json:"tenant,omitempty"` // the default; may be empty
	Tenants     []string `json:"tenants,omitempty"`
	Scopes      []string `json:"scopes,omitempty"` // what the person may hand on
	Roles       []string `json:"roles,omitempty"`
	// AuthTime is when the password was taken, before it was looked at.
	AuthTime time.Time `json:"auth_time,omitzero"`
}

// login is somebody who signed in for one code.
type login struct {
	Code   string    `json:"code"`
	Person Person    `json:"person"`
	At     time.Time `json:"at"`
}

// session is what a browser's cookie stands for, once somebody has signed in.
// It is written once: signing in again makes a new cookie.
type session struct {
	// Was are the digests of the cookies before, under which this browser may
	// have claimed codes.
	Was    []string `json:"was"`
	Logins []login  `json:"logins"`
}

// browser is the sender of one request, as its cookie names it.
type browser struct {
	cookie string // empty without a well-formed one
	id     string // its digest
	session
}

// claimed reports whether owner, of a claim, is this browser.
func (b *browser) claimed(owner string) bool {
	if b.cookie == "" || owner == "" {
		return false
	}
	for _, was := range b.Was {
		if was == owner {
			return true
		}
	}
	return owner == b.id
}

// login returns who signed in for r and may still decide, or nil.
func (b *browser) login(r *request, now time.Time) *login {
	for i := range b.Logins {
		if l := &b.Logins[i]; l.Code == r.id && now.Before(l.At.Add(sessionLife)) {
			return l
		}
	}
	return nil
}

// token is what forms of this browser carry against forgery. Who does not know
// the cookie, which no script can read, cannot make it.
func (b *browser) token() string {
	mac := hmac.New(sha256.New, []byte(b.cookie))
	mac.Write([]byte("stella device page form v1"))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// genuine reports whether a form's token is this browser's.
func (b *browser) genuine(token string) bool {
	return b.cookie != "" && hmac.Equal([]byte(token), []byte(b.token()))
}

// cookies are how sessions reach browsers. The prefix __Host- makes browsers
// refuse the cookie from any other host, and without TLS.
type cookies struct{ secure bool }

func (c cookies) name() string {
	if c.secure {
		return "__Host-stella-device"
	}
	return "stella-device"
}

func (c cookies) set(w http.ResponseWriter, value string) {
	http.SetCookie(w, &http.Cookie{
		Name: c.name(), Value: value, Path: "/", Secure: c.secure, HttpOnly: true, SameSite: http.SameSiteStrictMode,
	})
}

// browser reads the sender of r. Of several cookies of the name, which a
// browser does not send, none counts.
func (p *Page) browser(r *http.Request) (*browser, error) {
	sent := r.CookiesNamed(p.cookies.name())
	if len(sent) != 1 || !is256(sent[0].Value) {
		return &browser{}, nil
	}
	b := &browser{cookie: sent[0].Value, id: digest(sent[0].Value)}
	err := p.codes.read(r.Context(), store.Sessions, b.id, &b.session)
	if errors.Is(err, store.ErrNotFound) {
		err = nil
	}
	return b, err
}

// renew gives the browser a new cookie in which who has signed in for r, so
// that nobody who knew the old one is signed in too.
func (p *Page) renew(ctx context.Context, w http.ResponseWriter, b *browser, r *request, who *Person) error {
	now, cookie := p.codes.Now(), newSecret()
	if !who.AuthTime.IsZero() {
		now = who.AuthTime
	}
	next := session{Was: append([]string{b.id}, b.Was...), Logins: []login{{r.id, *who, now}}}
	for _, l := range b.Logins {
		if l.Code != r.id && now.Before(l.At.Add(sessionLife)) {
			next.Logins = append(next.Logins, l)
		}
	}
	next.Was = next.Was[:min(len(next.Was), maxKept)]
	next.Logins = next.Logins[:min(len(next.Logins), maxKept)]
	if err := p.codes.insert(ctx, store.Sessions, digest(cookie), now.Add(sessionLife), next); err != nil {
		return err
	}
	if err := p.codes.Records.Remove(ctx, store.Sessions, b.id); err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	p.cookies.set(w, cookie)
	return nil
}

// sameOrigin reports whether a form was sent from this page's own origin, as
// far as the browser tells. (Under the referrer policy no-referrer browsers
// send the origin "null" even for their own forms: Sec-Fetch-Site tells then.)
func (p *Page) sameOrigin(r *http.Request) bool {
	site, origin := r.Header.Values("Sec-Fetch-Site"), r.Header.Values("Origin")
	if len(site) > 1 || len(origin) > 1 {
		return false
	}
	if len(site) == 1 && site[0] != "same-origin" {
		return false
	}
	return len(origin) == 0 || origin[0] == "null" || strings.EqualFold(origin[0], p.origin)
}

// origin is the scheme and authority of an issuer (RFC 6454 section 4), and
// the path below which its pages are.
func origin(issuer string) (origin, path string, err error) {
	u, err := url.Parse(issuer)
	if err != nil {
		return "", "", err
	}
	host := u.Host
	if port := u.Port(); u.Scheme == "https" && port == "443" || u.Scheme == "http" && port == "80" {
		host = strings.TrimSuffix(host, ":"+port)
	}
	return u.Scheme + "://" + host, strings.TrimSuffix(u.EscapedPath(), "/"), nil
}
