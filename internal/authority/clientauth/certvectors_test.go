package clientauth

import (
	"compress/gzip"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// readVectors reads one of the reduced files of testdata/certs/SOURCES.md.
func readVectors(t *testing.T, name string, v any) {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata/certs", name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.NewDecoder(z).Decode(v); err != nil {
		t.Fatal(err)
	}
}

type chainVector struct {
	Name  string
	Time  time.Time
	Trust string // how far the last certificate is trusted
	Bad   bool   // by BoringSSL's account
	Chain []int  // leaf first, trust root last
}

// otherwise lists where the Authority judges otherwise than BoringSSL, and why.
func otherwise() (stricter, laxer map[string][]string) {
	return map[string][]string{
			"a root has a lifetime like every other": {"expired-root/not-after", "expired-root/not-before", "expired-root/not-after-ta-with-constraints"},
			"a root says that it is a CA": {"root-basic-constraints-ca-false/main", "root-lacks-basic-constraints/main", "root-lacks-basic-constraints/ta-with-constraints",
				"root-lacks-basic-constraints/ta-with-require-basic-constraints", "root-lacks-keycertsign-key-usage/main"},
			"the path length of a root counts, and self-issued certificates too": {"violates-pathlen-1-from-root/main", "basic-constraints-pathlen-0-self-issued/main"},
			"a client's own certificate is no root": {"target-only/trusted_leaf-and-trust_anchor", "target-selfissued/trusted_leaf-and-trust_anchor",
				"target-selfsigned/trusted_leaf-and-trust_anchor"},
			"SHA-1 signs nothing": {"issuer-and-subject-not-byte-for-byte-equal/anchor", "issuer-and-subject-not-byte-for-byte-equal/target"},
			"the certificate is for servers alone": {"target-serverauth-various-keyusages/ec-decipherOnly", "target-serverauth-various-keyusages/ec-digitalSignature",
				"target-serverauth-various-keyusages/ec-keyAgreement", "target-serverauth-various-keyusages/ec-keyEncipherment",
				"target-serverauth-various-keyusages/rsa-decipherOnly", "target-serverauth-various-keyusages/rsa-digitalSignature",
				"target-serverauth-various-keyusages/rsa-keyAgreement", "target-serverauth-various-keyusages/rsa-keyEncipherment"},
		}, map[string][]string{
			"no certificate policy is asked for, so that none of a root's can be missed": {"policies-inhibit-anypolicy-by-root-fail/ta-with-constraints",
				"policies-inhibit-mapping-by-root-fail/ta-with-constraints", "policies-on-root-wrong/ta-with-constraints",
				"policies-required-by-root-fail/ta-with-constraints", "policy-mappings-on-root-fail/ta-with-constraints"},
			"the standard library reads no policy qualifiers": {"unknown-critical-policy-qualifier/main"},
		}
}

// TestPublicChains runs BoringSSL's chains through the same functions as a
// client's: the last one comes from a file of roots, the others from TLS.
func TestPublicChains(t *testing.T) {
	var v struct {
		Certificates [][]byte
		Tests        []chainVector
	}
	readVectors(t, "chains.json.gz", &v)
	stricter, laxer := otherwise()
	find := func(lists map[string][]string, name string) string {
		for reason, names := range lists {
			if slices.Contains(names, name) {
				return reason
			}
		}
		return ""
	}
	var n struct{ accepted, refused, stricter, laxer int }
	for _, c := range v.Tests {
		var ders [][]byte
		for _, i := range c.Chain {
			ders = append(ders, v.Certificates[i])
		}
		leaf, err := judgePublic(t, ders, c.Time)
		strict, lax := find(stricter, c.Name), find(laxer, c.Name)
		switch {
		case c.Bad && err != nil && lax == "":
			n.refused++
		case !c.Bad && err == nil && strict == "":
			n.accepted++
		case !c.Bad && err != nil && strict != "":
			n.stricter++
		case c.Bad && err == nil && lax != "":
			n.laxer++
		default:
			t.Errorf("%s (%s): bad there %t, listed as %q, here %v", c.Name, c.Trust, c.Bad, strict+lax, err)
		}
		if leaf != nil && judgeLeaf(leaf, "alpha") == nil {
			t.Errorf("%s: taken for a client's certificate", c.Name)
		}
	}
	t.Logf("%+v", n)
	if n.accepted != 41 || n.refused != 35 || n.stricter != 23 || n.laxer != 6 {
		t.Errorf("%+v of %d", n, len(v.Tests))
	}
}

// judgePublic reads a chain and its root as the Authority would. The leaf is
// nil where it cannot be read.
func judgePublic(t *testing.T, ders [][]byte, now time.Time) (*x509.Certificate, error) {
	t.Helper()
	last := len(ders) - 1
	roots := filepath.Join(t.TempDir(), "roots.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ders[last]})
	if err := os.WriteFile(roots, text, 0o600); err != nil {
		t.Fatal(err)
	}
	var chain []*x509.Certificate
	for _, der := range ders[:max(last, 1)] {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		chain = append(chain, c)
	}
	a, err := readAnchors(TrustFiles{Roots: roots})
	if err != nil {
		return chain[0], err
	}
	return chain[0], errors.Join(strongKey(chain[0]), verifyChain(chain, a, now))
}

type malformedVector struct {
	Name        string
	Bad         bool // by BoringSSL's account
	Certificate []byte
	TBS         []byte // what is signed, alone
}

// der returns the certificate, or one put around what is to be signed.
func (v malformedVector) der(t *testing.T) []byte {
	t.Helper()
	if v.Certificate != nil {
		return v.Certificate
	}
	ecdsaWithSHA256 := asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}
	der, err := asn1.Marshal(struct {
		TBS asn1.RawValue
		Alg pkix.AlgorithmIdentifier
		Sig asn1.BitString
	}{asn1.RawValue{FullBytes: v.TBS}, pkix.AlgorithmIdentifier{Algorithm: ecdsaWithSHA256}, asn1.BitString{Bytes: []byte{48, 6, 2, 1, 1, 2, 1, 1}, BitLength: 64}})
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// TestMalformedCertificates shows each malformed certificate in a TLS
// handshake, and to the judge where it can be read at all. None gets in, and
// the server goes on.
func TestMalformedCertificates(t *testing.T) {
	var vectors []malformedVector
	readVectors(t, "malformed.json.gz", &vectors)
	if len(vectors) != 92 {
		t.Fatalf("%d vectors", len(vectors))
	}
	site := newPKI(t)
	client := site.client(t, nil)
	if err := handshake(t, client, client.ders, client.key); err != nil {
		t.Fatalf("control: %v", err)
	}
	readable := 0
	for _, v := range vectors {
		der := v.der(t)
		if err := handshake(t, client, [][]byte{der}, client.key); err == nil {
			t.Errorf("%s: the handshake went through", v.Name)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			continue
		}
		readable++
		if err := site.judge([]*x509.Certificate{c}, "alpha"); err == nil {
			t.Errorf("%s: believed", v.Name)
		}
		if leaf, err := judgePublic(t, [][]byte{der, site.root.ders[0]}, site.now); err == nil {
			t.Errorf("%s: led to a root: %v", v.Name, leaf.Subject)
		}
	}
	t.Logf("%d of %d could be read", readable, len(vectors))
	if err := handshake(t, client, client.ders, client.key); err != nil {
		t.Errorf("after all: %v", err)
	}
}

// handshake connects with a client certificate and returns the server's error.
func handshake(t *testing.T, server issued, ders [][]byte, key crypto.PrivateKey) error {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		a, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			return // the other end waits no longer than its deadline
		}
		defer a.Close()
		// Who the server is does not matter here.
		c := tls.Client(a, &tls.Config{InsecureSkipVerify: true, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &tls.Certificate{Certificate: ders, PrivateKey: key}, nil
		}})
		if c.Handshake() == nil {
			_, _ = c.Read(make([]byte, 1)) // the alert, or the end
		}
	}()
	if err := ln.(*net.TCPListener).SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	b, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if err := b.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	s := tls.Server(b, &tls.Config{
		MinVersion: tls.VersionTLS13, ClientAuth: tls.RequestClientCert,
		Certificates: []tls.Certificate{{Certificate: server.ders, PrivateKey: server.key}},
	})
	err = s.Handshake()
	b.Close()
	<-ended
	return err
}

// A certificate, or a chain, of a megabyte ends in the handshake.
func TestOversizedCertificates(t *testing.T) {
	site := newPKI(t)
	padded := func(size int) issued {
		return site.client(t, func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 55555, 2}, Value: make([]byte, size)}}
		})
	}
	server := site.client(t, nil)
	for name, r := range map[string]struct{ bad, control issued }{
		"one certificate": {padded(1 << 20), padded(100 << 10)},
		"a long chain":    {repeated(site.client(t, nil), 2000), repeated(site.client(t, nil), 100)},
	} {
		if err := handshake(t, server, r.control.ders, r.control.key); err != nil {
			t.Errorf("%s: control: %v", name, err)
		}
		if err := handshake(t, server, r.bad.ders, r.bad.key); err == nil {
			t.Errorf("%s: the handshake went through", name)
		}
	}
	if err := site.judge(padded(100<<10).chain(t), "alpha"); err != nil {
		t.Errorf("control: %v", err)
	}
	if err := site.judge(repeated(site.client(t, nil), 100).chain(t), "alpha"); err == nil {
		t.Error("a chain of a hundred was believed")
	}
}

// repeated sends the chain's last certificate many times.
func repeated(i issued, times int) issued {
	for range times {
		i.ders = append(i.ders, i.ders[len(i.ders)-1])
	}
	return i
}
