package jose_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stella-ops/stella/internal/jose"
)

func TestParseSet(t *testing.T) {
	keys := func(list ...string) string { return `{"keys":[` + strings.Join(list, ",") + `]}` }
	key := func(kid string) string { return `{` + goodEC + `,"kid":"` + kid + `"}` }
	many := func(n int) string {
		var list []string
		for i := range n {
			list = append(list, key(fmt.Sprint(i)))
		}
		return keys(list...)
	}
	rows := []struct {
		name, bad, control string
		want               error
	}{
		{"K04 private member", keys(`{` + goodEC + `,"d":"AA"}`), keys(`{` + goodEC + `}`), jose.ErrKey},
		{"K04 private member of an unknown kty", keys(`{"kty":"new","d":"AA"}`), keys(`{"kty":"new"}`), jose.ErrKey},
		{"K04 symmetric key", keys(`{"kty":"oct","k":"AAAA"}`), keys(key("a")), jose.ErrKey},
		{"K05 kid twice", keys(key("a"), key("a")), keys(key("a"), key("b")), jose.ErrMalformed},
		{"K05 kid twice, one key skipped", keys(key("a"), `{"kty":"new","kid":"a"}`), keys(key("a"), `{"kty":"new","kid":"b"}`), jose.ErrMalformed},
		{"K07 HTML", "<!doctype html><html></html>", keys(), jose.ErrMalformed},
		{"K07 oversized", keys(key("a")) + strings.Repeat(" ", jose.MaxSetBytes), keys(key("a")) + strings.Repeat(" ", 1000), jose.ErrTooLarge},
		{"too many keys", many(jose.MaxSetKeys + 1), many(jose.MaxSetKeys), jose.ErrTooLarge},
		{"no keys member", `{}`, keys(), jose.ErrMalformed},
		{"keys twice", `{"keys":[],"keys":[]}`, keys(), jose.ErrMalformed},
		{"keys not an array", `{"keys":{}}`, keys(), jose.ErrMalformed},
		{"keys null", `{"keys":null}`, keys(), jose.ErrMalformed},
		{"null key", keys(`null`), keys(key("a")), jose.ErrMalformed},
		{"broken key", keys(key("a"), `{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}`), keys(key("a")), jose.ErrMalformed},
		{"array", `[]`, keys(), jose.ErrMalformed},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			if _, err := jose.ParseSet([]byte(r.control)); err != nil {
				t.Errorf("control refused: %v", err)
			}
			if _, err := jose.ParseSet([]byte(r.bad)); !errors.Is(err, r.want) {
				t.Errorf("got %v, want %v", err, r.want)
			}
		})
	}
}

func TestSetSkipsAndFinds(t *testing.T) {
	small, _ := smallRSA()
	text := fmt.Sprintf(`{"keys":[{%s,"kid":"a"},{%s},{"kty":"new","kid":"n"},{"kty":"RSA","kid":"weak","e":"AQAB","n":%q}]}`,
		goodEC, goodEC, b64(small.N.Bytes()))
	set, err := jose.ParseSet([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if len(set.Keys) != 2 || len(set.Skipped) != 2 || !strings.Contains(set.Skipped[1], `"weak"`) {
		t.Errorf("keys %d, skipped %q", len(set.Keys), set.Skipped)
	}
	if k, ok := set.Key("a"); !ok || k.KeyID != "a" {
		t.Error("kid a not found")
	}
	for _, kid := range []string{"", "b", "n", "weak", "A"} {
		if _, ok := set.Key(kid); ok {
			t.Errorf("kid %q found", kid)
		}
	}
	twice := jose.Set{Keys: []jose.Key{set.Keys[0], set.Keys[0]}}
	if _, ok := twice.Key("a"); ok {
		t.Error("guessed between two keys of one kid")
	}
	for _, s := range []jose.Set{{}, set} {
		first, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var again jose.Set
		if err := json.Unmarshal(first, &again); err != nil {
			t.Fatal(err)
		}
		if second, err := json.Marshal(again); err != nil || string(first) != string(second) {
			t.Errorf("%s\n%s\n%v", first, second, err)
		}
	}
}
