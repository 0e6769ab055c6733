package users

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/stella-ops/stella/internal/authority/clients"
	"github.com/stella-ops/stella/internal/authority/problem"
	"github.com/stella-ops/stella/internal/authority/store"
	"github.com/stella-ops/stella/internal/jose"
)

// Schema of the user document.
const Schema = "stella.authority.user/v1"

// MaxDocument bounds a document on the wire, in bytes.
const MaxDocument = 64 << 10

// Bounds of a user document.
const (
	maxList = 128
	maxName = 128 // login name, bytes
	maxText = 200 // display name, bytes
)

// Document is a user on the wire. All member names are our own.
type Document struct {
	Schema string `json:"schema,omitempty"`
	// Username is the login name: 1 to 128 lower-case letters, digits and
	// ._-@+ , beginning with a letter or digit. People may type it in any case.
	Username string `json:"username"`
	// Password is for requests only. A new user without one cannot log in; a
	// user that is replaced without one keeps theirs.
	Password string `json:"password,omitempty"`
	// DisplayName is free text of at most 200 bytes, without control characters.
	DisplayName string `json:"display_name,omitempty"`
	// Scopes that the person may hand on to a client; sorted in answers.
	Scopes []string `json:"scopes"`
	// Roles of the person; sorted in answers.
	Roles []string `json:"roles,omitempty"`
	// Tenant is used when a request names none.
	Tenant string `json:"tenant,omitempty"`
	// Tenants that a request may name; Tenant need not be repeated.
	Tenants []string `json:"tenants,omitempty"`
	// Disabled users cannot log in, and what they were given is revoked.
	Disabled bool `json:"disabled,omitempty"`

	// In answers only:

	Subject     string     `json:"subject,omitempty"`      // sub of the person's tokens
	HasPassword *bool      `json:"has_password,omitempty"` // whether there is one
	LockedUntil *time.Time `json:"locked_until,omitempty"` // too many failed attempts
	CreatedAt   *time.Time `json:"created_at,omitempty"`
	UpdatedAt   *time.Time `json:"updated_at,omitempty"`
}

func invalid(format string, args ...any) error {
	return problem.New(problem.Invalid, fmt.Sprintf(format, args...))
}

// ParseDocument reads a user document strictly.
func ParseDocument(data []byte) (*Document, error) {
	var d Document
	if err := decode(data, &d, "user document"); err != nil {
		return nil, err
	}
	return &d, nil
}

// decode bounds and reads one JSON body. The cause is not repeated: it may
// quote the body, and the body may hold a password.
func decode(data []byte, v any, what string) error {
	if len(data) > MaxDocument {
		return invalid("the body is larger than 64 KiB")
	}
	if err := jose.DecodeStrict(data, v); err != nil {
		return invalid("the body is not a %s: one JSON object with known members, each once, of the right type", what)
	}
	return nil
}

// toStore checks d and returns what is stored, without subject, password and
// times. known judges tenant ids.
func (d *Document) toStore(known func(string) bool) (*store.User, error) {
	name := Normalise(d.Username)
	switch {
	case !ValidName(name):
		return nil, invalid("username: want 1 to %d letters, digits and ._-@+ , beginning with a letter or digit", maxName)
	case len(d.DisplayName) > maxText:
		return nil, invalid("display_name: more than %d bytes", maxText)
	case strings.ContainsFunc(d.DisplayName, unicode.IsControl):
		return nil, invalid("display_name: control characters are not accepted")
	case d.Subject != "" || d.HasPassword != nil || d.LockedUntil != nil || d.CreatedAt != nil || d.UpdatedAt != nil:
		return nil, invalid("subject, has_password, locked_until, created_at, updated_at: set by the Authority; leave them out")
	}
	u := &store.User{Name: name, DisplayName: d.DisplayName, Tenant: d.Tenant, Disabled: d.Disabled}
	var err error
	if u.Scopes, err = list("scopes", d.Scopes, clients.ValidScope); err != nil {
		return nil, err
	}
	if u.Roles, err = list("roles", d.Roles, clients.ValidScope); err != nil {
		return nil, err
	}
	if u.Tenants, err = clients.AssignedTenants(d.Tenant, d.Tenants, known); err != nil {
		return nil, err
	}
	return u, nil
}

// Check reports what would keep Ensure from creating the user of d.
func (d *Document) Check(rules PasswordRules, known func(tenant string) bool) error {
	u, err := d.toStore(known)
	if err != nil {
		return err
	}
	if _, err := rules.check(d.Password, u.Name); err != nil {
		return invalid("password: %v", err)
	}
	return nil
}

// fromStore is the document of a stored user, without the password.
func fromStore(u *store.User) *Document {
	has := u.PasswordHash != ""
	return &Document{
		Schema: Schema, Username: u.Name, DisplayName: u.DisplayName, Scopes: u.Scopes, Roles: u.Roles, Tenant: u.Tenant, Tenants: u.Tenants,
		Disabled: u.Disabled, Subject: u.Subject, HasPassword: &has, CreatedAt: &u.CreatedAt, UpdatedAt: &u.UpdatedAt,
	}
}

// list checks, sorts and deduplicates.
func list(name string, values []string, valid func(string) bool) ([]string, error) {
	if len(values) > maxList {
		return nil, invalid("%s: more than %d", name, maxList)
	}
	for _, v := range values {
		if !valid(v) {
			return nil, invalid("%s: %.60q is not well formed", name, v)
		}
	}
	return slices.Compact(slices.Sorted(slices.Values(values))), nil
}

// ValidName reports whether name is a login name in its normal form. It is
// ASCII: no two names look alike.
func ValidName(name string) bool {
	if name == "" || len(name) > maxName || strings.IndexByte("._-@+", name[0]) >= 0 {
		return false
	}
	for i := range len(name) {
		c := name[i]
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || strings.IndexByte("._-@+", c) >= 0) {
			return false
		}
	}
	return true
}
