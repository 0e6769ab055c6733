package clientauth

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/authority/clients"
)

// issued is a certificate with its chain and key.
type issued struct {
	cert *x509.Certificate
	key  crypto.Signer
	ders [][]byte // itself first, without the root
}

// chain is what the server sees of it.
func (i issued) chain(t testing.TB) []*x509.Certificate {
	t.Helper()
	var out []*x509.Certificate
	for _, der := range i.ders {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, c)
	}
	return out
}

// pki is the trust root of a tenant, a CA below it, and the judge.
type pki struct {
	now          time.Time
	root, middle issued
	trust        *Trust
}

func newPKI(t testing.TB) *pki {
	t.Helper()
	p := &pki{now: time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)}
	p.root = p.issue(t, issued{}, ca("root"), nil)
	p.middle = p.issue(t, p.root, ca("middle"), nil)
	p.trust = p.trusting(t, p.root)
	return p
}

func (p *pki) trusting(t testing.TB, root issued) *Trust {
	t.Helper()
	file := filepath.Join(t.TempDir(), "roots.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.cert.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	trust, err := NewTrust(map[string]TrustFiles{"acme": {Roots: file}}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return trust
}

func ca(name string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.Subject.CommonName = name
		c.IsCA, c.BasicConstraintsValid = true, true
		c.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	}
}

// issue makes a certificate; by nobody, it signs itself.
func (p *pki) issue(t testing.TB, by issued, shape func(*x509.Certificate), key crypto.Signer) issued {
	t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<60))
	if err != nil {
		t.Fatal(err)
	}
	if key == nil {
		if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	c := &x509.Certificate{SerialNumber: serial, NotBefore: p.now.Add(-time.Hour), NotAfter: p.now.Add(time.Hour)}
	shape(c)
	parent, signer := by.cert, by.key
	if parent == nil {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	out := issued{key: key, ders: [][]byte{der}}
	if out.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	if by.cert != nil && !bytes.Equal(by.cert.Raw, p.root.cert.Raw) {
		out.ders = append(out.ders, by.ders...)
	}
	return out
}

func uris(texts ...string) (out []*url.URL) {
	for _, text := range texts {
		out = append(out, &url.URL{Opaque: text}) // written as it is
	}
	return out
}

func clientShape(change func(*x509.Certificate)) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.Subject.CommonName = "alpha"
		c.KeyUsage = x509.KeyUsageDigitalSignature
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		c.URIs = uris("urn:stellaops:client:alpha")
		if change != nil {
			change(c)
		}
	}
}

// client makes the certificate of client alpha, below the middle CA.
func (p *pki) client(t testing.TB, change func(*x509.Certificate)) issued {
	t.Helper()
	return p.issue(t, p.middle, clientShape(change), nil)
}

// below makes the certificate of client alpha below another middle CA.
func (p *pki) below(t testing.TB, change func(*x509.Certificate)) issued {
	t.Helper()
	shape := ca("middle")
	middle := p.issue(t, p.root, func(c *x509.Certificate) { shape(c); change(c) }, nil)
	return p.issue(t, middle, clientShape(nil), nil)
}

func (p *pki) judge(chain []*x509.Certificate, id string) error {
	_, err := p.trust.judge(chain, &clients.Client{ID: id, Method: clients.TLSClientAuth, Tenants: []string{"acme"}}, p.now)
	return err
}

// unknownCritical is an extension that nobody understands.
func unknownCritical(c *x509.Certificate) {
	c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 55555, 1}, Critical: true, Value: []byte{5, 0}}}
}

// TestHostileNames bends the one name that counts.
func TestHostileNames(t *testing.T) {
	p := newPKI(t)
	const name = "urn:stellaops:client:alpha"
	for label, change := range map[string]func(*x509.Certificate){
		"control":                          nil,
		"control: a name of another kind":  func(c *x509.Certificate) { c.URIs = uris(name, "spiffe://acme/alpha") },
		"control: another common name":     func(c *x509.Certificate) { c.Subject.CommonName = "beta" },
		"no name":                          func(c *x509.Certificate) { c.URIs = nil },
		"as the common name":               func(c *x509.Certificate) { c.URIs, c.Subject.CommonName = nil, name },
		"as a host":                        func(c *x509.Certificate) { c.URIs, c.DNSNames = nil, []string{"alpha"} },
		"as a host with colons":            func(c *x509.Certificate) { c.URIs, c.DNSNames = nil, []string{name} },
		"as a mailbox":                     func(c *x509.Certificate) { c.URIs, c.EmailAddresses = nil, []string{name} },
		"another client":                   func(c *x509.Certificate) { c.URIs = uris("urn:stellaops:client:beta") },
		"two clients":                      func(c *x509.Certificate) { c.URIs = uris(name, "urn:stellaops:client:beta") },
		"two clients, once in capitals":    func(c *x509.Certificate) { c.URIs = uris(name, "URN:STELLAOPS:CLIENT:beta") },
		"the name twice":                   func(c *x509.Certificate) { c.URIs = uris(name, name) },
		"longer":                           func(c *x509.Certificate) { c.URIs = uris(name + "x") },
		"shorter":                          func(c *x509.Certificate) { c.URIs = uris(name[:len(name)-1]) },
		"a prefix":                         func(c *x509.Certificate) { c.URIs = uris("urn:stellaops:client:") },
		"a path":                           func(c *x509.Certificate) { c.URIs = uris(name + "/../alpha") },
		"a query":                          func(c *x509.Certificate) { c.URIs = uris(name + "?x") },
		"an empty query":                   func(c *x509.Certificate) { c.URIs = uris(name + "?") },
		"a fragment":                       func(c *x509.Certificate) { c.URIs = uris(name + "#x") },
		"an empty fragment":                func(c *x509.Certificate) { c.URIs = uris(name + "#") },
		"the scheme in capitals":           func(c *x509.Certificate) { c.URIs = uris("URN:stellaops:client:alpha") },
		"another namespace":                func(c *x509.Certificate) { c.URIs = uris("urn:stellaops:user:alpha") },
		"in capitals":                      func(c *x509.Certificate) { c.URIs = uris("urn:stellaops:client:ALPHA") },
		"escaped":                          func(c *x509.Certificate) { c.URIs = uris("urn:stellaops:client:%61lpha") },
		"with an escaped NUL":              func(c *x509.Certificate) { c.URIs = uris(name + "%00") },
		"with a space":                     func(c *x509.Certificate) { c.URIs = uris(name + "%20") },
		"as a URL":                         func(c *x509.Certificate) { c.URIs = uris("urn://stellaops:client:alpha") },
		"inside a URL":                     func(c *x509.Certificate) { c.URIs = uris("https://a.example/" + name) },
		"in the namespace of another name": func(c *x509.Certificate) { c.URIs = uris("urn:x:" + name) },
	} {
		der := p.client(t, nil)
		if change != nil {
			var ok bool
			if der, ok = p.tryClient(t, change); !ok {
				t.Logf("%s: cannot even be written or read", label)
				continue
			}
		}
		err := p.judge(der.chain(t), "alpha")
		if control := len(label) >= 7 && label[:7] == "control"; control != (err == nil) {
			t.Errorf("%s: %v", label, err)
		}
	}
}

// tryClient is client for names that the library may refuse to write or read.
func (p *pki) tryClient(t testing.TB, change func(*x509.Certificate)) (issued, bool) {
	t.Helper()
	c := &x509.Certificate{SerialNumber: big.NewInt(7), NotBefore: p.now.Add(-time.Hour), NotAfter: p.now.Add(time.Hour)}
	clientShape(change)(c)
	der, err := x509.CreateCertificate(rand.Reader, c, p.middle.cert, p.middle.key.Public(), p.middle.key)
	if err != nil {
		return issued{}, false
	}
	if _, err := x509.ParseCertificate(der); err != nil {
		return issued{}, false
	}
	return issued{ders: append([][]byte{der}, p.middle.ders...)}, true
}

// TestHostileChains bends one thing of a good chain at a time.
func TestHostileChains(t *testing.T) {
	p := newPKI(t)
	stranger := newPKI(t) // the same names with other keys
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	weak, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := p.client(t, nil)
	if err := p.judge(good.chain(t), "alpha"); err != nil {
		t.Fatalf("control: %v", err)
	}
	if err := p.judge(p.below(t, func(*x509.Certificate) {}).chain(t), "alpha"); err != nil {
		t.Fatalf("control, with a CA of its own: %v", err)
	}
	long := p.middle
	for range 6 {
		long = p.issue(t, long, ca("longer"), nil)
	}
	rows := map[string]issued{
		"self-signed":             p.issue(t, issued{}, clientShape(nil), nil),
		"signed by a stranger":    stranger.client(t, nil),
		"a stranger's, our CA":    {ders: [][]byte{stranger.client(t, nil).ders[0], p.middle.ders[0]}},
		"ours, a stranger's CA":   {ders: [][]byte{good.ders[0], stranger.middle.ders[0]}},
		"without the CA between":  {ders: good.ders[:1]},
		"the CA first":            {ders: [][]byte{good.ders[1], good.ders[0]}},
		"the CA alone":            {ders: p.middle.ders},
		"below another client":    p.issue(t, good, clientShape(nil), nil),
		"a chain of eight":        p.issue(t, long, clientShape(nil), nil),
		"expired":                 p.client(t, func(c *x509.Certificate) { c.NotAfter = p.now.Add(-time.Second) }),
		"not yet valid":           p.client(t, func(c *x509.Certificate) { c.NotBefore = p.now.Add(time.Second) }),
		"for servers":             p.client(t, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }),
		"for code":                p.client(t, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning} }),
		"a CA with the name":      p.client(t, func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }),
		"critical and unknown":    p.client(t, unknownCritical),
		"RSA of 1024 bits":        p.issue(t, p.middle, clientShape(nil), small),
		"P-224":                   p.issue(t, p.middle, clientShape(nil), weak),
		"CA of RSA 1024 bits":     p.issue(t, p.issue(t, p.root, ca("weak"), small), clientShape(nil), nil),
		"CA critical and unknown": p.below(t, unknownCritical),
		"CA expired":              p.below(t, func(c *x509.Certificate) { c.NotAfter = p.now.Add(-time.Second) }),
		"CA not yet valid":        p.below(t, func(c *x509.Certificate) { c.NotBefore = p.now.Add(time.Second) }),
		"CA that is none":         p.below(t, func(c *x509.Certificate) { c.IsCA = false }),
		"CA without constraints":  p.below(t, func(c *x509.Certificate) { c.BasicConstraintsValid = false }),
		"CA that may not sign":    p.below(t, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign }),
		"CA for servers":          p.below(t, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }),
		"CA of a domain": p.below(t, func(c *x509.Certificate) {
			c.PermittedURIDomains, c.PermittedDNSDomainsCritical = []string{"acme.example"}, true
		}),
		"CA kept from a domain": p.below(t, func(c *x509.Certificate) {
			c.ExcludedURIDomains, c.PermittedDNSDomainsCritical = []string{"acme.example"}, true
		}),
		"CA below a CA without room": p.issue(t, p.issue(t, p.issue(t, p.root, func(c *x509.Certificate) { ca("flat")(c); c.MaxPathLenZero = true }, nil), ca("deep"), nil), clientShape(nil), nil),
	}
	for name, bad := range rows {
		if err := p.judge(bad.chain(t), "alpha"); err == nil {
			t.Errorf("%s: believed", name)
		}
	}
	extra := issued{ders: append(append([][]byte{}, good.ders...), stranger.middle.ders[0], stranger.root.ders[0])}
	if err := p.judge(extra.chain(t), "alpha"); err != nil {
		t.Errorf("control, with strangers behind: %v", err)
	}
	if err := p.judge(good.chain(t), "beta"); err == nil {
		t.Error("believed for another client")
	}
	if _, err := p.trust.judge(good.chain(t), &clients.Client{ID: "alpha", Tenants: []string{"other"}}, p.now); err == nil {
		t.Error("believed in another tenant")
	}
}

// No change of one byte, and no cut, leaves a certificate that is believed
// and says something else.
func TestChangedCertificates(t *testing.T) {
	p := newPKI(t)
	good := p.client(t, nil)
	der, middle := good.ders[0], p.middle.cert
	believed := func(changed []byte) *x509.Certificate {
		c, err := x509.ParseCertificate(changed)
		if err != nil || p.judge([]*x509.Certificate{c, middle}, "alpha") != nil {
			return nil
		}
		return c
	}
	if believed(der) == nil {
		t.Fatal("control refused")
	}
	for i := range der {
		for _, bit := range []byte{1, 0x20, 0x80} {
			changed := bytes.Clone(der)
			changed[i] ^= bit
			if c := believed(changed); c != nil && !bytes.Equal(c.RawTBSCertificate, good.cert.RawTBSCertificate) {
				t.Errorf("byte %d with bit %#x changed: believed", i, bit)
			}
		}
		if believed(der[:i]) != nil {
			t.Errorf("cut to %d bytes: believed", i)
		}
	}
	if believed(append(bytes.Clone(der), 0)) != nil {
		t.Error("with a byte more: believed")
	}
}

// FuzzCertificate: whatever is believed was signed by the CA as it is.
func FuzzCertificate(f *testing.F) {
	p := newPKI(f)
	good := p.client(f, nil)
	f.Add(good.ders[0])
	f.Add(p.middle.ders[0])
	f.Add(p.root.ders[0])
	f.Fuzz(func(t *testing.T, der []byte) {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return
		}
		if p.judge([]*x509.Certificate{c, p.middle.cert}, "alpha") == nil && !bytes.Equal(c.RawTBSCertificate, good.cert.RawTBSCertificate) {
			t.Fatalf("believed: %x", der)
		}
	})
}
