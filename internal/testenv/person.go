package testenv

import (
	"context"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
)

// Person is somebody with a browser of their own, as far as the device page
// needs one: cookies, forms and redirects.
type Person struct {
	Username, Password string
	HTTP               *http.Client
}

// Page is what a person sees.
type Page struct {
	Status int
	Header http.Header
	URL    *url.URL // where redirects have led to
	HTML   string
}

// NewPerson makes a person whose browser trusts what c trusts.
func NewPerson(c *http.Client, username, password string) (*Person, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	return &Person{username, password, &http.Client{Transport: c.Transport, Jar: jar, Timeout: c.Timeout}}, nil
}

// Open looks at a page.
func (p *Person) Open(ctx context.Context, address string) (*Page, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	return p.do(req)
}

// Submit fills the form of a page in and sends it.
func (p *Person) Submit(ctx context.Context, page *Page, fields url.Values) (*Page, error) {
	action := regexp.MustCompile(`<form method="post" action="([^"]*)"`).FindStringSubmatch(page.HTML)
	if action == nil {
		return nil, fmt.Errorf("no form on %s: %d %.300s", page.URL, page.Status, page.HTML)
	}
	target, err := page.URL.Parse(html.UnescapeString(action[1]))
	if err != nil {
		return nil, err
	}
	form := url.Values{}
	for _, m := range regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`).FindAllStringSubmatch(page.HTML, -1) {
		form.Set(m[1], html.UnescapeString(m[2]))
	}
	for name, values := range fields {
		form[name] = values
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Origin", "null") // what browsers send from a page that says no-referrer
	return p.do(req)
}

func (p *Person) do(req *http.Request) (*Page, error) {
	resp, err := p.HTTP.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	return &Page{resp.StatusCode, resp.Header, resp.Request.URL, string(body)}, nil
}

// SignIn enters the code of a verification_uri_complete and signs in; it
// returns the page on which to decide.
func (p *Person) SignIn(ctx context.Context, complete string) (*Page, error) {
	page, err := p.Open(ctx, complete)
	if err != nil {
		return nil, err
	}
	code := page.URL.Query().Get("user_code")
	if page, err = p.Submit(ctx, page, url.Values{"user_code": {code}}); err != nil {
		return nil, err
	}
	return p.Submit(ctx, page, url.Values{"username": {p.Username}, "password": {p.Password}})
}

// Decide enters the code, signs in and approves or denies.
func (p *Person) Decide(ctx context.Context, complete string, approve bool) (*Page, error) {
	page, err := p.SignIn(ctx, complete)
	if err != nil {
		return nil, err
	}
	decision, want := "deny", ">Denied<"
	if approve {
		decision, want = "approve", ">Approved<"
	}
	if page, err = p.Submit(ctx, page, url.Values{"decision": {decision}}); err != nil {
		return nil, err
	}
	if !strings.Contains(page.HTML, want) {
		return page, fmt.Errorf("the decision was not taken: %d %.2000s", page.Status, page.HTML)
	}
	return page, nil
}
