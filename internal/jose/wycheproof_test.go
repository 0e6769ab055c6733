package jose

import (
	"compress/gzip"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// wycheGroup is one key and what was tried with it, as testdata/SOURCES.md reduces it.
type wycheGroup struct {
	JWK   json.RawMessage `json:"jwk"`
	Point string          `json:"point"` // hex, where the group has no JWK
	Tests []wycheTest     `json:"tests"`
}

type wycheTest struct {
	ID      int    `json:"tcId"`
	Comment string `json:"comment"`
	Msg     string `json:"msg"` // hex
	Sig     string `json:"sig"` // hex
	JWS     string `json:"jws"` // what claims to be one, also a JWE or a JSON serialization
	Result  string `json:"result"`
}

// tally counts how the cases of one file end.
type tally struct {
	valid, // marked valid and accepted
	invalid, // marked invalid and refused
	policy, // marked valid and refused, for one of the reasons in policies
	twins int // marked invalid, accepted, and byte for byte a case that is marked valid
}

// policy is why a case that is marked valid may be refused all the same.
type policy struct {
	reason  string
	count   int   // in all files together
	error   error // what the refusal wraps
	applies func(g wycheGroup, c wycheTest) bool
}

func policies() []policy {
	return []policy{
		{"encrypted messages are not read", 2, ErrMalformed, func(_ wycheGroup, c wycheTest) bool {
			return strings.Count(c.JWS, ".") == 4
		}},
		{"the alg of a key binds (RFC 7517 section 4.4): PS256, where the message says PS384", 2, ErrKey, func(g wycheGroup, c wycheTest) bool {
			return strings.Contains(string(g.JWK), `"PS256"`) && strings.HasPrefix(c.JWS, encode64([]byte(`{"alg":"PS384"`)))
		}},
		{"the alg of a key binds: ES521, which is no algorithm", 2, ErrKey, func(g wycheGroup, _ wycheTest) bool {
			return strings.Contains(string(g.JWK), `"ES521"`)
		}},
		{"base64url has no other characters (RFC 7515 section 2)", 2, ErrMalformed, func(_ wycheGroup, c wycheTest) bool {
			return strings.Contains(c.JWS, "?")
		}},
	}
}

// TestWycheproof runs the vectors of C2SP/wycheproof. What they call invalid is
// refused, all of it. What they call valid is accepted, but for the policies.
func TestWycheproof(t *testing.T) {
	want := map[string]tally{
		"json_web_signature":           {valid: 40, invalid: 353, policy: 6, twins: 2},
		"json_web_key":                 {valid: 5, invalid: 21},
		"json_web_crypto":              {valid: 4, invalid: 77, policy: 2},
		"ecdsa_secp256r1_sha256_p1363": {valid: 173, invalid: 89},
		"ecdsa_secp384r1_sha384_p1363": {valid: 193, invalid: 87},
		"ecdsa_secp521r1_sha512_p1363": {valid: 231, invalid: 87},
		"ed25519":                      {valid: 88, invalid: 63},
		"rsa_pss_2048_sha256_mgf1_32":  {valid: 63, invalid: 45},
		"rsa_pss_2048_sha384_mgf1_48":  {valid: 95, invalid: 46},
		"rsa_pss_4096_sha512_mgf1_64":  {valid: 132, invalid: 47},
	}
	files, err := filepath.Glob("testdata/wycheproof/*.json.gz")
	if err != nil || len(files) != len(want) {
		t.Fatalf("%d files, want %d (%v)", len(files), len(want), err)
	}
	waived := map[string]int{}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json.gz")
		t.Run(name, func(t *testing.T) {
			var got tally
			for _, g := range readWyche(t, file) {
				for _, c := range g.Tests {
					got.add(t, g, c, g.run(name, c), waived)
				}
			}
			t.Logf("%+v", got)
			if got != want[name] {
				t.Errorf("got %+v, want %+v", got, want[name])
			}
		})
	}
	for _, p := range policies() {
		if waived[p.reason] != p.count {
			t.Errorf("%d cases because %s, want %d", waived[p.reason], p.reason, p.count)
		}
	}
}

func (n *tally) add(t *testing.T, g wycheGroup, c wycheTest, err error, waived map[string]int) {
	t.Helper()
	twin := func(o wycheTest) bool { return o.Result == "valid" && o.JWS == c.JWS && c.JWS != "" }
	why := slices.IndexFunc(policies(), func(p policy) bool { return p.applies(g, c) && errors.Is(err, p.error) })
	switch {
	case c.Result == "valid" && err == nil:
		n.valid++
	case c.Result == "invalid" && sentinel(err):
		n.invalid++
	case c.Result == "valid" && why >= 0:
		n.policy++
		waived[policies()[why].reason]++
	case c.Result == "invalid" && err == nil && slices.ContainsFunc(g.Tests, twin):
		n.twins++
	default:
		t.Errorf("case %d (%s) is marked %s: %v", c.ID, c.Comment, c.Result, err)
	}
}

// sentinel reports whether err is one that this package promises.
func sentinel(err error) bool {
	return slices.ContainsFunc([]error{ErrMalformed, ErrTooLarge, ErrAlg, ErrCritical, ErrType, ErrKey, ErrSignature}, func(e error) bool {
		return errors.Is(err, e)
	})
}

func readWyche(t *testing.T, file string) (groups []wycheGroup) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.NewDecoder(z).Decode(&groups); err != nil {
		t.Fatal(err)
	}
	return groups
}

// run verifies one case as a caller would who trusts the group's key.
func (g wycheGroup) run(name string, c wycheTest) error {
	var j *JWS
	var err error
	if strings.HasPrefix(name, "json_") {
		j, err = Parse(c.JWS, Rules{Algs: []Alg{ES256, ES384, ES512, PS256, PS384, PS512, RS256, RS384, RS512, EdDSA, HS256, HS384, HS512}})
	} else { // What was signed is no JWS: enter where a parsed one would.
		j, err = wycheRaw(wycheAlg(name), c)
	}
	if err != nil {
		return err
	}
	key, err := g.key(j.Header.KeyID)
	if err != nil {
		return err
	}
	_, err = j.Verify(key)
	return err
}

func wycheRaw(alg Alg, c wycheTest) (*JWS, error) {
	msg, err := hex.DecodeString(c.Msg)
	if err != nil {
		return nil, err
	}
	sig, err := hex.DecodeString(c.Sig)
	return &JWS{Header: Header{Alg: alg}, input: msg, sig: sig}, err
}

func wycheAlg(name string) Alg {
	for part, alg := range map[string]Alg{"p1363": "ES", "pss": "PS"} {
		for _, size := range []string{"256", "384", "512"} {
			if strings.Contains(name, part) && strings.Contains(name, "_sha"+size+"_") {
				return alg + Alg(size)
			}
		}
	}
	return EdDSA
}

// key makes the group's key by the ways that callers have.
func (g wycheGroup) key(kid string) (Key, error) {
	if g.Point != "" {
		return keyOfPoint(g.Point)
	}
	var k octKey
	if err := json.Unmarshal(g.JWK, &k); err != nil {
		return Key{}, err
	}
	switch {
	case k.Keys != nil:
		return g.fromSet(k.Keys, kid)
	case k.Kty == "oct":
		return k.key()
	}
	return ParseKey(g.JWK)
}

// octKey is a symmetric key as configuration would hold it, or a set of them.
type octKey struct {
	Kty, K, Kid, Use string
	Alg              Alg
	Keys             []octKey
}

func (k octKey) key() (Key, error) {
	secret, err := base64.RawURLEncoding.DecodeString(k.K)
	if err != nil {
		return Key{}, err
	}
	key, err := NewKey(secret, k.Kid, k.Alg)
	if err == nil && k.Use != "" {
		key.Use = k.Use
	}
	return key, err
}

// fromSet finds a key by its kid. A JWK set of secrets is never parsed, so
// that one is put together by hand.
func (g wycheGroup) fromSet(keys []octKey, kid string) (Key, error) {
	set, err := ParseSet(g.JWK)
	if !slices.ContainsFunc(keys, func(k octKey) bool { return k.Kty != "oct" }) {
		if !errors.Is(err, ErrKey) && !errors.Is(err, ErrMalformed) {
			return Key{}, fmt.Errorf("a set of secrets was parsed: %v", err)
		}
		for _, k := range keys {
			var key Key
			if key, err = k.key(); err != nil {
				break
			}
			set.Keys = append(set.Keys, key)
		}
	}
	if err != nil {
		return Key{}, err
	}
	key, ok := set.Key(kid)
	if !ok {
		return Key{}, unusable("no key, or more than one, has that kid")
	}
	return key, nil
}

func keyOfPoint(text string) (Key, error) {
	raw, err := hex.DecodeString(text)
	if err != nil {
		return Key{}, err
	}
	half := (len(raw) - 1) / 2
	curve := map[int]string{32: "P-256", 48: "P-384", 66: "P-521"}[half]
	doc, err := json.Marshal(map[string]string{"kty": "EC", "crv": curve, "x": encode64(raw[1 : 1+half]), "y": encode64(raw[1+half:])})
	if err != nil {
		return Key{}, err
	}
	return ParseKey(doc)
}
