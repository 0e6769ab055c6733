package device

import (
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"github.com/stella-ops/stella/internal/authority/audit"
	"github.com/stella-ops/stella/internal/authority/clientauth"
	"github.com/stella-ops/stella/internal/authority/clients"
	"github.com/stella-ops/stella/internal/authority/wire"
	"github.com/stella-ops/stella/internal/httpd"
)

// Paths below the issuer. The page needs PathPage and all below it.
const (
	PathAuthorization = "/device_authorization"
	PathPage          = "/device"
)

// Choice is what a client may ask a person for.
type Choice struct {
	Scopes   []string
	Audience string
	Tenants  []string // the one that the request names, else all of the client's
}

// Endpoint serves POST /device_authorization (RFC 8628 section 3.1). All
// members are required.
type Endpoint struct {
	Codes  *Codes
	Issuer string
	// Authenticate finds the client; errors are Refusals.
	Authenticate func(*http.Request, *wire.Form) (*clientauth.Identity, error)
	// Choose applies the token endpoint's rules for scope, audience (or
	// resource) and tenant; errors are Refusals.
	Choose func(*clientauth.Identity, *wire.Form) (*Choice, error)
	// Ready says why nothing can be decided now, or nil.
	Ready func() error
	// Remote is the address of the peer, for people to read.
	Remote func(*http.Request) string
	Log    *slog.Logger
}

// ServeHTTP implements http.Handler.
func (e *Endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	event := audit.Of(r.Context())
	event.Set(audit.TypeDeviceStart)
	issued, err := e.serve(r, event)
	if err != nil {
		ref := wire.AsRefusal(err)
		status := wire.WriteError(w, ref)
		event.Outcome(audit.OutcomeOf(status), ref.Code)
		if status >= http.StatusInternalServerError {
			e.Log.ErrorContext(r.Context(), "device authorization refused", "request_id", httpd.RequestID(r.Context()), "err", err)
		}
		return
	}
	event.Outcome(audit.Success, "")
	page := e.Issuer + PathPage
	wire.WriteJSON(w, http.StatusOK, struct {
		DeviceCode string `json:"device_code"`
		UserCode   string `json:"user_code"`
		Page       string `json:"verification_uri"`
		Complete   string `json:"verification_uri_complete"`
		ExpiresIn  int64  `json:"expires_in"`
		Interval   int64  `json:"interval"`
	}{
		issued.DeviceCode, issued.UserCode, page, page + "?user_code=" + url.QueryEscape(issued.UserCode),
		int64(issued.Lifetime / time.Second), int64(Interval / time.Second),
	})
}

// serve judges the whole request before it uses up anything.
func (e *Endpoint) serve(r *http.Request, event *audit.Event) (*Issued, error) {
	f, err := wire.ReadForm(r)
	if err != nil {
		return nil, err
	}
	if err := e.Ready(); err != nil {
		return nil, wire.Unavailable(err)
	}
	who, err := e.Authenticate(r, f)
	if err != nil {
		return nil, err
	}
	c := who.Client
	event.Client(c.ID, c.Name)
	if !c.Uses(clients.GrantDevice) {
		return nil, wire.Refuse(wire.UnauthorizedClient, "the client may not use the device code grant")
	}
	choice, err := e.Choose(who, f)
	if err != nil {
		return nil, err
	}
	jkt := f.Get("dpop_jkt")
	if jkt != "" && !is256(jkt) {
		return nil, wire.Refuse(wire.InvalidRequest, "dpop_jkt is not the SHA-256 thumbprint of a JWK")
	}
	event.Scopes(choice.Scopes)
	if err := who.Use(r.Context()); err != nil {
		return nil, err
	}
	issued, err := e.Codes.Begin(r.Context(), Request{
		ClientID: c.ID, ClientName: c.Name, Scopes: choice.Scopes, Audience: choice.Audience, Tenants: choice.Tenants,
		JKT: jkt, Remote: e.Remote(r),
	})
	if err != nil {
		return nil, wire.Unavailable(err)
	}
	return issued, nil
}
