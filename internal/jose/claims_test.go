package jose_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stella-ops/stella/internal/jose"
)

func TestT18AbsurdTimes(t *testing.T) {
	for _, name := range []string{"exp", "nbf", "iat"} {
		for _, good := range []string{"1", "1700000000", "7258118399"} {
			if _, err := jose.ParseClaims([]byte(`{"` + name + `":` + good + `}`)); err != nil {
				t.Errorf("control %s %s: %v", name, good, err)
			}
		}
		for _, bad := range []string{"0", "-1", "-0", "1.0", "1700000000.5", "1.7e9", "1e9", `"1700000000"`, "null", "true",
			"[1700000000]", "7258118400", "253402300799", "1700000000000", "99999999999999999999999"} {
			if _, err := jose.ParseClaims([]byte(`{"` + name + `":` + bad + `}`)); !errors.Is(err, jose.ErrMalformed) {
				t.Errorf("%s %s: %v", name, bad, err)
			}
		}
	}
}

func TestParseClaims(t *testing.T) {
	c, err := jose.ParseClaims([]byte(`{"iss":"a","sub":"b","aud":["x","y"],"exp":3,"nbf":1,"iat":2,"jti":"\u0063","cnf":{"jkt":"z"}}`))
	if err != nil {
		t.Fatal(err)
	}
	at := func(n int64) time.Time { return time.Unix(n, 0).UTC() }
	want := &jose.Claims{Issuer: "a", Subject: "b", Audience: []string{"x", "y"}, Expiry: at(3), NotBefore: at(1), IssuedAt: at(2), ID: "c", Raw: c.Raw}
	if d := cmp.Diff(want, c); d != "" {
		t.Error(d)
	}
	var cnf struct {
		JKT string `json:"jkt"`
	}
	if ok, err := c.Decode("cnf", &cnf); !ok || err != nil || cnf.JKT != "z" {
		t.Errorf("cnf %+v %v %v", cnf, ok, err)
	}
	var s string
	if ok, err := c.Decode("absent", &s); ok || err != nil {
		t.Error(ok, err)
	}
	if _, err := c.Decode("cnf", &s); !errors.Is(err, jose.ErrMalformed) {
		t.Errorf("object as string: %v", err)
	}
	var other struct {
		JKT string `json:"JKT"`
	}
	if _, err := c.Decode("cnf", &other); !errors.Is(err, jose.ErrMalformed) {
		t.Errorf("member in other case: %v", err)
	}
	for _, bad := range []string{`{"iss":1}`, `{"sub":null}`, `{"aud":1}`, `{"aud":[1]}`, `{"aud":{}}`, `{"jti":[]}`, `null`, `"x"`, ``,
		`{"x":"` + strings.Repeat("a", jose.MaxClaimsBytes) + `"}`} {
		if _, err := jose.ParseClaims([]byte(bad)); err == nil {
			t.Errorf("%.30s accepted", bad)
		}
	}
	if c, err := jose.ParseClaims([]byte(`{"aud":"x"}`)); err != nil || len(c.Audience) != 1 {
		t.Error(c, err)
	}
}

func TestValidAt(t *testing.T) {
	c, err := jose.ParseClaims([]byte(`{"exp":1000,"nbf":500,"iat":400}`))
	if err != nil {
		t.Fatal(err)
	}
	const skew = 30 * time.Second
	for _, r := range []struct {
		at   time.Duration
		want error
	}{
		{469999 * time.Millisecond, jose.ErrNotYet}, {470 * time.Second, nil}, {500 * time.Second, nil},
		{1029999 * time.Millisecond, nil}, {1030 * time.Second, jose.ErrExpired},
	} {
		if err := c.ValidAt(time.Unix(0, int64(r.at)), skew); !errors.Is(err, r.want) {
			t.Errorf("at %s: %v, want %v", r.at, err, r.want)
		}
	}
	future, err := jose.ParseClaims([]byte(`{"exp":1000,"iat":600}`))
	if err != nil {
		t.Fatal(err)
	}
	if err := future.ValidAt(time.Unix(569, 0), skew); !errors.Is(err, jose.ErrNotYet) {
		t.Errorf("iat ahead: %v", err)
	}
	if err := (&jose.Claims{}).ValidAt(time.Unix(1, 0), skew); !errors.Is(err, jose.ErrMalformed) {
		t.Errorf("T19 no exp: %v", err)
	}
}
