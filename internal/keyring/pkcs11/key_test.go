//go:build pkcs11 && cgo

package pkcs11

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	p11 "github.com/miekg/pkcs11"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/testenv/softhsm"
)

// What a key of ours is, by the token's word.
func TestMadeKeyStaysInside(t *testing.T) {
	_, _, p, _, r := started(t)
	o := intrude(t, p)
	h := o.find(t, p, r.id)
	value := func(h p11.ObjectHandle, kind uint) ([]byte, error) {
		got, err := o.ctx.GetAttributeValue(o.session, h, []*p11.Attribute{p11.NewAttribute(kind, nil)})
		if err != nil {
			return nil, err
		}
		return got[0].Value, nil
	}
	if got, err := value(h, p11.CKA_VALUE); !errors.Is(err, p11.Error(p11.CKR_ATTRIBUTE_SENSITIVE)) {
		t.Fatalf("the token gives %d bytes of the private key (%v)", len(got), err)
	}
	if got, err := value(h, p11.CKA_LABEL); err != nil || string(got) != "stella-0a-1" { // control: the question
		t.Errorf("the label is %q, %v", got, err)
	}
	loose := o.generate(t, p256(), "loose", []byte{1}, map[uint]any{p11.CKA_SENSITIVE: false, p11.CKA_EXTRACTABLE: true})
	if got, err := value(loose, p11.CKA_VALUE); err != nil || len(got) < halfSize/2 { // control: the token, which drops leading zeros
		t.Errorf("the token gives %d bytes of a key that it should give, %v", len(got), err)
	}
	for kind, want := range map[uint]byte{
		p11.CKA_TOKEN: 1, p11.CKA_PRIVATE: 1, p11.CKA_SENSITIVE: 1, p11.CKA_ALWAYS_SENSITIVE: 1, p11.CKA_EXTRACTABLE: 0,
		p11.CKA_NEVER_EXTRACTABLE: 1, p11.CKA_SIGN: 1, p11.CKA_DECRYPT: 0, p11.CKA_UNWRAP: 0, p11.CKA_DERIVE: 0, p11.CKA_SIGN_RECOVER: 0,
	} {
		if got, err := value(h, kind); err != nil || len(got) != 1 || got[0] != want {
			t.Errorf("attribute 0x%X is %v, %v; want %d", kind, got, err, want)
		}
	}
	if len(r.id) != 16 {
		t.Errorf("its id has %d bytes", len(r.id))
	}
}

// A key of the right name that another program made is not used, unless it is
// as good as one of ours.
func TestForeignKeys(t *testing.T) {
	good := map[uint]any{p11.CKA_SENSITIVE: true, p11.CKA_EXTRACTABLE: false, p11.CKA_SIGN: true}
	p384 := []byte{0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22}
	for name, c := range map[string]struct {
		curve []byte
		kind  uint
		value any
		want  fault.Kind
		says  string
	}{
		"good":          {p256(), p11.CKA_SIGN, true, fault.None, ""}, // control
		"extractable":   {p256(), p11.CKA_EXTRACTABLE, true, fault.Trust, "is extractable"},
		"not-sensitive": {p256(), p11.CKA_SENSITIVE, false, fault.Trust, "not sensitive"},
		"not-signing":   {p256(), p11.CKA_SIGN, false, fault.Config, "not for signing"},
		"p384":          {p384, p11.CKA_SIGN, true, fault.Config, "no P-256"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, p, _, _ := started(t)
			o := intrude(t, p)
			attributes := maps.Clone(good)
			attributes[c.kind] = c.value
			o.generate(t, c.curve, name, []byte{7}, attributes)
			ref, err := p.Make(t.Context(), name)
			if fault.KindOf(err) != c.want || !strings.Contains(fmt.Sprint(err), c.says) {
				t.Errorf("make: %v", err)
			}
			if want := (reference{p.o.Token, name, []byte{7}}).String(); err == nil && ref != want {
				t.Errorf("it is %s, want %s", ref, want)
			}
			if _, err := p.Open(t.Context(), "pkcs11:id=%07"); fault.KindOf(err) != c.want {
				t.Errorf("open: %v", err)
			}
			asked := c.want
			if c.want != fault.None {
				asked = fault.Input
			}
			pinned, err := p.Adopt(t.Context(), "pkcs11:id=%07")
			if fault.KindOf(err) != asked || !strings.Contains(fmt.Sprint(err), c.says) {
				t.Errorf("adopt: %v", err)
			}
			if want := (reference{p.o.Token, "", []byte{7}}).String(); (err == nil) != (pinned == want) {
				t.Errorf("adopted as %q, want %s", pinned, want)
			}
		})
	}
}

// A key that was imported exists elsewhere.
func TestImportedKey(t *testing.T) {
	hsm := softhsm.New(t)
	token := hsm.Token(t, "stella test", "12345678")
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(k)
	must(t, err)
	file := filepath.Join(t.TempDir(), "key.pem")
	must(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
	hsm.Import(t, token, file, "stella-0a-1", "0a")
	p := open(t, token)
	if _, err := p.Make(t.Context(), "stella-0a-1"); fault.KindOf(err) != fault.Trust || !strings.Contains(err.Error(), "made elsewhere") {
		t.Errorf("make: %v", err)
	}
	if _, err := p.Adopt(t.Context(), "pkcs11:id=%0a"); fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), "made elsewhere") {
		t.Errorf("adopt: %v", err)
	}
	if _, err := p.Adopt(t.Context(), makes(t, p, "stella-0a-2")); err != nil { // control
		t.Error(err)
	}
}

func TestSeveralKeys(t *testing.T) {
	_, _, p, _, first := started(t)
	o := intrude(t, p)
	good := map[uint]any{p11.CKA_SENSITIVE: true, p11.CKA_EXTRACTABLE: false, p11.CKA_SIGN: true}
	for _, id := range [][]byte{{9, 9}, {0}, {9}} {
		o.generate(t, p256(), "stella-0a-1", id, good)
	}
	lowest := reference{p.o.Token, "stella-0a-1", []byte{0}}
	if ref := makes(t, p, "stella-0a-1"); ref != lowest.String() {
		t.Errorf("of several keys the name gives %s", ref)
	}
	if _, err := p.Open(t.Context(), first.String()); err != nil {
		t.Errorf("the name is another's, and so the key is gone: %v", err)
	}
	o.generate(t, p256(), "twin", []byte{9}, good)
	if _, err := p.Open(t.Context(), "pkcs11:id=%09"); fault.KindOf(err) != fault.Config {
		t.Errorf("opening one of two keys: %v", err)
	}
	if err := p.Destroy(t.Context(), "pkcs11:id=%09"); fault.KindOf(err) != fault.Config {
		t.Errorf("destroying one of two keys: %v", err)
	}
	if _, err := p.Adopt(t.Context(), "pkcs11:id=%09"); fault.KindOf(err) != fault.Input {
		t.Errorf("adopting one of two keys: %v", err)
	}
	if _, err := p.Open(t.Context(), "pkcs11:id=%09%09"); err != nil { // control
		t.Error(err)
	}
}

// Both halves go, and a key without its public half is no missing key.
func TestHalves(t *testing.T) {
	_, _, p, _, r := started(t)
	o := intrude(t, p)
	s := session{&link{m: p.m, slot: o.slot}, o.session}
	two, err := p.o.parse(makes(t, p, "stella-0a-2"))
	must(t, err)
	must(t, p.Destroy(t.Context(), r.String()))
	if found, _ := s.find(p11.CKO_PUBLIC_KEY, p11.NewAttribute(p11.CKA_ID, r.id)); len(found) != 0 {
		t.Error("the public half stays")
	}
	h, err := s.one(p11.CKO_PUBLIC_KEY, two.id)
	must(t, err)
	must(t, o.ctx.DestroyObject(o.session, h))
	if _, err := p.Open(t.Context(), two.String()); fault.KindOf(err) != fault.Config {
		t.Errorf("open without the public half: %v", err)
	}
	if _, err := p.Adopt(t.Context(), two.String()); fault.KindOf(err) != fault.Input {
		t.Errorf("adopt without the public half: %v", err)
	}
	must(t, p.Destroy(t.Context(), two.String()))
	if found, _ := s.find(p11.CKO_PRIVATE_KEY, p11.NewAttribute(p11.CKA_ID, two.id)); len(found) != 0 {
		t.Error("the private half stays")
	}
}

func TestManyAtOnce(t *testing.T) {
	_, token, p, k, r := started(t)
	q, err := open(t, token).Open(t.Context(), r.String()) // of the same module
	must(t, err)
	o := intrude(t, p)
	var wg sync.WaitGroup
	for i := range maxCalls {
		wg.Go(func() {
			for n := range 20 {
				if i == 0 && n%5 == 0 {
					_ = o.ctx.Logout(o.session) // under all of them
				}
				if err := errors.Join(signs(t.Context(), k), signs(t.Context(), q)); err != nil && fault.KindOf(err) != fault.Transient {
					t.Errorf("goroutine %d: %v", i, err)
				}
			}
		})
	}
	wg.Wait()
	must(t, signs(t.Context(), k))
	if n := len(p.link.idle); n == 0 || n > maxCalls {
		t.Errorf("%d sessions are idle", n)
	}
}

func TestBadCalls(t *testing.T) {
	_, _, p, k, _ := started(t)
	for _, name := range []string{"", "a b", "a/b", "a_b", "é", "a\x00", fmt.Sprintf("%0*d", maxName+1, 0)} {
		if _, err := p.Make(t.Context(), name); fault.KindOf(err) != fault.Input {
			t.Errorf("name %q: %v", name, err)
		}
	}
	makes(t, p, fmt.Sprintf("%0*d", maxName, 0))
	for _, n := range []int{0, 20, 31, 33, 64} {
		if _, err := k.SignDigest(t.Context(), make([]byte, n)); fault.KindOf(err) != fault.Input {
			t.Errorf("a digest of %d bytes: %v", n, err)
		}
	}
	o := p.o
	o.Module = filepath.Join(t.TempDir(), "x.so")
	if _, err := Open(o); fault.KindOf(err) != fault.Config {
		t.Errorf("no module: %v", err)
	}
	must(t, os.WriteFile(o.Module, []byte("x"), 0o600))
	if _, err := Open(o); fault.KindOf(err) != fault.Config {
		t.Errorf("not a module: %v", err)
	}
	link := filepath.Join(t.TempDir(), "y.so")
	must(t, os.Symlink(p.o.Module, link))
	o.Module = link
	same, err := Open(o)
	must(t, err)
	if same.m != p.m {
		t.Error("one module by two names is loaded twice")
	}
}
