package mint_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stella-ops/stella/internal/authority/mint"
	"github.com/stella-ops/stella/internal/authority/wire"
	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/jose/jwks"
)

const issuer = "https://authority.example"

type rig struct {
	*mint.Minter
	reader *mint.Reader
	now    time.Time
	issued []mint.Issued
	down   error
	life   time.Duration
}

func setup(t *testing.T) *rig {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := jose.NewSigner(key, jose.ES256, "k1")
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{now: time.Date(2026, 11, 22, 4, 0, 0, 5e8, time.UTC), life: 2 * time.Minute}
	r.Minter = mint.New(mint.Deps{
		Issuer: func() string { return issuer }, Lifetime: func() time.Duration { return r.life },
		MaxLifetime: func() time.Duration { return 5 * time.Minute },
		Signer:      func() (*jose.Signer, error) { return signer, r.down },
		Count:       func(i mint.Issued) { r.issued = append(r.issued, i) },
	})
	r.reader = &mint.Reader{Issuer: issuer, Skew: time.Second, Now: func() time.Time { return r.now },
		Keys: func(_ context.Context, kid string) (jose.Key, error) {
			if kid != "k1" {
				return jose.Key{}, jwks.ErrUnknownKey
			}
			return signer.Key(), r.down
		}}
	return r
}

func (r *rig) mint(t *testing.T, g *mint.Grant) *mint.Token {
	t.Helper()
	k, err := r.Key()
	if err != nil {
		t.Fatal(err)
	}
	tok, err := r.Mint(k, g, r.now)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// Every member that a grant has is in the token, under its registered name,
// and nothing that it has not.
func TestClaims(t *testing.T) {
	r := setup(t)
	full := &mint.Grant{
		Subject: "s", ClientID: "c", Tenant: "t", AllTenants: "t u", Audience: "api://x", Scopes: []string{"a", "b"}, Scope: "a b",
		Roles: []string{"r"}, JKT: "J", X5T: "X", Service: "c", Actor: "client:op", Reason: "why \"so\"", Name: "n",
		AuthTime: time.Unix(1, 0), Lifetime: 30 * time.Second,
	}
	at := float64(r.now.Unix())
	want := map[string]any{
		"iss": issuer, "sub": "s", "aud": "api://x", "iat": at, "nbf": at, "exp": at + 30, "client_id": "c",
		"scope": "a b", "scp": []any{"a", "b"}, "stellaops:tenant": "t", "stellaops:allowed_tenants": "t u", "roles": []any{"r"},
		"preferred_username": "n", "auth_time": 1.0, "service_identity": "c", "act": map[string]any{"sub": "client:op"},
		"stellaops:reason": "why \"so\"", "cnf": map[string]any{"jkt": "J", "x5t#S256": "X"},
	}
	for _, row := range []struct {
		grant *mint.Grant
		want  map[string]any
	}{
		{full, want},
		{&mint.Grant{Subject: "s", ClientID: "c", Tenant: "t", Audience: "api://x", X5T: "X"}, map[string]any{
			"iss": issuer, "sub": "s", "aud": "api://x", "iat": at, "nbf": at, "exp": at + 120, "client_id": "c", "stellaops:tenant": "t",
			"cnf": map[string]any{"x5t#S256": "X"},
		}},
	} {
		tok := r.mint(t, row.grant)
		claims, kid, err := r.reader.Read(t.Context(), tok.Compact)
		if err != nil || kid != "k1" {
			t.Fatal(kid, err)
		}
		got := map[string]any{}
		for name, raw := range claims.Raw {
			var v any
			if err := json.Unmarshal(raw, &v); err != nil {
				t.Fatal(err)
			}
			got[name] = v
		}
		if got["jti"] != tok.JTI || len(tok.JTI) < 22 {
			t.Errorf("jti %v", got["jti"])
		}
		delete(got, "jti")
		if d := cmp.Diff(row.want, got); d != "" {
			t.Error(d)
		}
	}
}

// A token lives no longer than the timetable of the keys counts with, and what
// was counted is what it says.
func TestLifetimeAndCount(t *testing.T) {
	r := setup(t)
	for configured, want := range map[time.Duration]int64{2 * time.Minute: 120, time.Hour: 300, 90500 * time.Millisecond: 90} {
		r.life, r.issued = configured, nil
		tok := r.mint(t, &mint.Grant{Subject: "s"})
		if tok.Lifetime() != want || len(r.issued) != 1 || !r.issued[0].Expiry.Equal(tok.Expires) || r.issued[0].KID != "k1" {
			t.Errorf("%s: %d s, counted %v", configured, tok.Lifetime(), r.issued)
		}
	}
}

func TestReadRefuses(t *testing.T) {
	r := setup(t)
	good := r.mint(t, &mint.Grant{Subject: "s", ClientID: "c"}).Compact
	parts := strings.Split(good, ".")
	other := setup(t)
	for name, text := range map[string]string{
		"another's key": other.mint(t, &mint.Grant{Subject: "s"}).Compact, "no signature": parts[0] + "." + parts[1] + ".", "junk": "x", "empty": "",
	} {
		if _, _, err := r.reader.Read(t.Context(), text); !errors.Is(err, mint.ErrNotOurs) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := r.reader.Read(t.Context(), good); err != nil {
		t.Errorf("control: %v", err)
	}
	r.reader.Issuer += "x"
	if _, _, err := r.reader.Read(t.Context(), good); !errors.Is(err, mint.ErrNotOurs) {
		t.Errorf("another issuer: %v", err)
	}
	r.reader.Issuer, r.now = issuer, r.now.Add(2*time.Minute+2*time.Second)
	if _, _, err := r.reader.Read(t.Context(), good); !errors.Is(err, mint.ErrNotOurs) {
		t.Errorf("expired: %v", err)
	}
	r.down = errors.New("down")
	if _, _, err := r.reader.Read(t.Context(), good); errors.Is(err, mint.ErrNotOurs) || !errors.Is(err, r.down) {
		t.Errorf("no keys: %v", err)
	}
	if _, err := r.Key(); wire.AsRefusal(err).StatusCode() != 503 {
		t.Errorf("no signer: %v", err)
	}
}
