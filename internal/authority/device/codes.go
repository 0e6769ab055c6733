package device

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/stella-ops/stella/internal/authority/store"
	"github.com/stella-ops/stella/internal/authority/wire"
)

// Interval is what a client waits between two polls, at first; each slow_down
// adds as much again (RFC 8628 section 3.5).
const Interval = 5 * time.Second

// keep is how long a code is remembered after its end, so that a late poll
// hears expired_token rather than invalid_grant.
const keep = time.Hour

// Answers to a poll (RFC 8628 section 3.5), ready for wire.WriteError. Any
// other error of Check and Redeem is a *SlowDown, or says that the store
// cannot answer.
var (
	ErrPending = wire.Refuse(wire.AuthorizationPending, "nobody has decided yet")
	ErrDenied  = wire.Refuse(wire.AccessDenied, "the request was denied")
	ErrExpired = wire.Refuse(wire.ExpiredToken, "the device code has expired; begin again")
	// ErrInvalid: never issued, or issued to another client.
	ErrInvalid = wire.Refuse(wire.InvalidGrant, "the device code is unknown")
	// ErrUsed: somebody got tokens for it before.
	ErrUsed = wire.Refuse(wire.InvalidGrant, "the device code was used before")
)

// SlowDown refuses a poll that came too early; Interval is what the client
// must wait between polls from now on.
type SlowDown struct{ Interval time.Duration }

// Error implements error.
func (s *SlowDown) Error() string { return "slow_down: poll every " + s.Interval.String() }

// As makes errors.As find the wire.Refusal that answers the poll.
func (s *SlowDown) As(target any) bool {
	r, ok := target.(**wire.Refusal)
	if ok {
		*r = &wire.Refusal{Code: wire.SlowDown, Description: "polled too early; wait longer between polls", RetryAfter: s.Interval}
	}
	return ok
}

// Request is what a client asks a person for.
type Request struct {
	ClientID   string   `json:"client_id"`
	ClientName string   `json:"client_name,omitempty"`
	Scopes     []string `json:"scopes"`
	Audience   string   `json:"audience"`
	Tenants    []string `json:"tenants"`          // one of which the person chooses
	JKT        string   `json:"jkt,omitempty"`    // JWK thumbprint (RFC 7638) to which the tokens must be bound; empty: any
	Remote     string   `json:"remote,omitempty"` // address of the client, for people
}

// Issued is the answer to a Request.
type Issued struct {
	DeviceCode string // 256 random bits; only its SHA-256 is kept
	UserCode   string // XXXX-XXXX
	Lifetime   time.Duration
}

// Approval is what a person granted.
type Approval struct {
	Subject     string    `json:"sub"`
	Username    string    `json:"username"`
	DisplayName string    `json:"display_name,omitempty"`
	Roles       []string  `json:"roles,omitempty"`
	Tenant      string    `json:"tenant"`
	Scopes      []string  `json:"scopes"` // asked for by the client and had by the person
	Audience    string    `json:"audience"`
	ClientID    string    `json:"client_id"`
	JKT         string    `json:"jkt,omitempty"` // as in Request
	AuthTime    time.Time `json:"auth_time"`     // when the person signed in

	code  string    // id of the request
	until time.Time // until when it is remembered
}

// Codes keeps device authorization requests. All replicas on one store share
// them.
type Codes struct {
	Records  store.Records
	Lifetime func() time.Duration // of a code; contract default 15 min
	Now      func() time.Time
}

// request is a stored Request.
type request struct {
	Request
	UserCode string    `json:"user_code"` // without dash
	Begun    time.Time `json:"begun"`
	Expires  time.Time `json:"expires"`

	id string // SHA-256 of the device code
}

func (r *request) event(name string) string { return r.id + "/" + name }

func (r *request) until() time.Time { return r.Expires.Add(keep) }

// Begin stores a request and makes its codes.
func (c *Codes) Begin(ctx context.Context, asked Request) (*Issued, error) {
	now, secret := c.Now(), newSecret()
	r := &request{Request: asked, Begun: now, Expires: now.Add(c.Lifetime()), id: digest(secret)}
	// With a million codes alive, ten clashes in a row have a chance of 1e-44.
	for range 10 {
		r.UserCode = newUserCode()
		err := c.insert(ctx, store.DeviceCodes, userKey(r.UserCode), r.until(), r.id)
		if errors.Is(err, store.ErrExists) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if err := c.insert(ctx, store.DeviceCodes, r.id, r.until(), r); err != nil {
			return nil, err
		}
		return &Issued{DeviceCode: secret, UserCode: formatUserCode(r.UserCode), Lifetime: r.Expires.Sub(now)}, nil
	}
	return nil, errors.New("internal error: no free user code")
}

// userKey is the id under which a user code leads to its request.
func userKey(code string) string { return "user/" + code }

// Check tells what became of a device code and uses up nothing: an Approval
// once somebody has approved, else one of the errors above. It counts as a
// poll.
func (c *Codes) Check(ctx context.Context, deviceCode, clientID string) (*Approval, error) {
	if !is256(deviceCode) {
		return nil, ErrInvalid
	}
	r, err := c.request(ctx, digest(deviceCode))
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, ErrInvalid
	case err != nil:
		return nil, err
	case r.ClientID != clientID:
		return nil, ErrInvalid
	}
	used, err := c.happened(ctx, r.event("redeemed"))
	switch {
	case err != nil:
		return nil, err
	case used:
		return nil, ErrUsed
	case !c.Now().Before(r.Expires):
		return nil, ErrExpired
	}
	d, err := c.decision(ctx, r)
	switch {
	case err != nil:
		return nil, err
	case d == nil:
		return nil, c.poll(ctx, r)
	case d.Approval == nil:
		return nil, ErrDenied
	}
	d.Approval.code, d.Approval.until = r.id, r.until()
	return d.Approval, nil
}

// Redeem uses up what Check returned. Of all concurrent calls for one device
// code exactly one succeeds; the others get ErrUsed.
func (c *Codes) Redeem(ctx context.Context, a *Approval) error {
	err := c.insert(ctx, store.DeviceEvents, a.code+"/redeemed", a.until, struct{}{})
	if errors.Is(err, store.ErrExists) {
		return ErrUsed
	}
	return err
}

// request reads a stored request by its id.
func (c *Codes) request(ctx context.Context, id string) (*request, error) {
	r := &request{id: id}
	return r, c.read(ctx, store.DeviceCodes, id, r)
}

// byUserCode finds a live request; store.ErrNotFound also for one that has
// expired.
func (c *Codes) byUserCode(ctx context.Context, code string) (*request, error) {
	var id string
	if err := c.read(ctx, store.DeviceCodes, userKey(code), &id); err != nil {
		return nil, err
	}
	r, err := c.request(ctx, id)
	if err == nil && !c.Now().Before(r.Expires) {
		return nil, store.ErrNotFound
	}
	return r, err
}

// claim binds r to the first browser that calls and reports who that was.
// Browsers are named by the digest of their cookie.
func (c *Codes) claim(ctx context.Context, r *request, browser string) (owner string, err error) {
	err = c.insert(ctx, store.DeviceEvents, r.event("claim"), r.until(), browser)
	if errors.Is(err, store.ErrExists) {
		return c.claimed(ctx, r)
	}
	return browser, err
}

// claimed returns the browser that claimed r, or "".
func (c *Codes) claimed(ctx context.Context, r *request) (owner string, err error) {
	err = c.read(ctx, store.DeviceEvents, r.event("claim"), &owner)
	if errors.Is(err, store.ErrNotFound) {
		return "", nil
	}
	return owner, err
}

// decision is what a person decided; without an Approval it is a denial.
type decision struct {
	Approval *Approval `json:"approval,omitempty"`
	Subject  string    `json:"sub"`
	At       time.Time `json:"at"`
}

// decide records d unless r is decided already, and returns what holds.
func (c *Codes) decide(ctx context.Context, r *request, d *decision) (*decision, error) {
	err := c.insert(ctx, store.DeviceEvents, r.event("decision"), r.until(), d)
	if errors.Is(err, store.ErrExists) {
		return c.decision(ctx, r)
	}
	return d, err
}

// decision returns what was decided, or nil.
func (c *Codes) decision(ctx context.Context, r *request) (*decision, error) {
	d := &decision{}
	err := c.read(ctx, store.DeviceEvents, r.event("decision"), d)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	return d, err
}

// common returns the elements of a that are in b, in the order of a.
func common(a, b []string) []string {
	both := make([]string, 0, len(a))
	for _, v := range a {
		if slices.Contains(b, v) && !slices.Contains(both, v) {
			both = append(both, v)
		}
	}
	return both
}

func (c *Codes) insert(ctx context.Context, kind store.Kind, id string, until time.Time, doc any) error {
	data, err := json.Marshal(doc)
	if err != nil {
		return fmt.Errorf("internal error: %s: %w", kind, err)
	}
	return c.Records.Insert(ctx, store.Record{Kind: kind, ID: id, Data: data, Until: until})
}

func (c *Codes) read(ctx context.Context, kind store.Kind, id string, doc any) error {
	rec, err := c.Records.Record(ctx, kind, id)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(rec.Data, doc); err != nil {
		return fmt.Errorf("record %s %.20q: %w", kind, id, err)
	}
	return nil
}

func (c *Codes) happened(ctx context.Context, event string) (bool, error) {
	_, err := c.Records.Record(ctx, store.DeviceEvents, event)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}
