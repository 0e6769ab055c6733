package clientauth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/stella-ops/stella/internal/authority/clients"
)

// maxChain bounds how many certificates of a chain are looked at.
const maxChain = 6

// uriPrefix begins the names of clients in certificates.
const uriPrefix = "urn:stellaops:client:"

// errNoRoots says that no tenant of a client has trust roots.
var errNoRoots = errors.New("no tenant of the client has trust roots")

// judge checks the certificate of tls_client_auth and returns the tenants of
// the client whose roots vouch for it; at least one, or an error for the log.
func (t *Trust) judge(chain []*x509.Certificate, c *clients.Client, now time.Time) ([]string, error) {
	if t == nil {
		return nil, errNoRoots
	}
	if err := judgeLeaf(chain[0], c.ID); err != nil {
		return nil, err
	}
	var vouched []string
	err := errNoRoots
	for _, tenant := range c.Tenants {
		anchors := t.anchors(tenant, now)
		if anchors == nil {
			continue
		}
		if verr := verifyChain(chain, anchors, now); verr != nil {
			err = fmt.Errorf("tenant %s: %w", tenant, verr)
			continue
		}
		vouched = append(vouched, tenant)
	}
	if len(vouched) == 0 {
		return nil, err
	}
	return vouched, nil
}

// judgeLeaf checks what a client's own certificate says of it: exactly one
// name of ours, as a URI in the subject alternative name (RFC 8705 section
// 2.1.2), and the client's. The subject is not looked at: whoever runs a CA
// for something else may sign any.
func judgeLeaf(leaf *x509.Certificate, clientID string) error {
	uris, err := uriNames(leaf)
	if err != nil {
		return err
	}
	var ours []string
	for _, u := range uris {
		if hasPrefixFold(u, uriPrefix) {
			ours = append(ours, u)
		}
	}
	switch {
	case leaf.IsCA:
		return errors.New("a CA certificate is no client's")
	case len(ours) != 1:
		return fmt.Errorf("the certificate names %d clients, not one", len(ours))
	case ours[0] != clients.CertificateURI(clientID):
		return errors.New("the certificate names another client")
	}
	return strongKey(leaf)
}

// uriNames returns the URIs in the subject alternative name (RFC 5280 section
// 4.2.1.6) byte for byte: parsed ones lose what does not matter to a browser,
// and here everything does.
func uriNames(c *x509.Certificate) ([]string, error) {
	var uris []string
	for _, ext := range c.Extensions {
		if !ext.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 17}) {
			continue
		}
		in := cryptobyte.String(ext.Value)
		var names cryptobyte.String
		if !in.ReadASN1(&names, casn1.SEQUENCE) || !in.Empty() {
			return nil, errors.New("the subject alternative name is malformed")
		}
		for !names.Empty() {
			var name cryptobyte.String
			var tag casn1.Tag
			if !names.ReadAnyASN1(&name, &tag) {
				return nil, errors.New("the subject alternative name is malformed")
			}
			if tag == casn1.Tag(6).ContextSpecific() {
				uris = append(uris, string(name))
			}
		}
	}
	return uris, nil
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

// strongKey refuses keys that signatures should not be believed of.
func strongKey(c *x509.Certificate) error {
	switch key := c.PublicKey.(type) {
	case *rsa.PublicKey:
		if key.N.BitLen() < 2048 {
			return errors.New("RSA keys need at least 2048 bits")
		}
	case *ecdsa.PublicKey:
		if key.Curve.Params().BitSize < 256 {
			return errors.New("the curve is weaker than P-256")
		}
	case ed25519.PublicKey:
	default:
		return errors.New("the key is of no accepted type")
	}
	return nil
}

// verifyChain checks that the chain leads to a root, for client
// authentication, at this time, and that no issuer has revoked a part of it.
func verifyChain(chain []*x509.Certificate, a *anchors, now time.Time) error {
	if len(chain) > maxChain {
		return fmt.Errorf("the chain has more than %d certificates", maxChain)
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	paths, err := chain[0].Verify(x509.VerifyOptions{
		Roots: a.roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return err
	}
	for _, path := range paths {
		if err = errors.Join(a.revoked(path), strongKeys(path[1:])); err == nil {
			return nil
		}
	}
	return err
}

// strongKeys is strongKey of all issuers of a path.
func strongKeys(issuers []*x509.Certificate) error {
	for _, c := range issuers {
		if err := strongKey(c); err != nil {
			return fmt.Errorf("issuer %s: %w", c.Subject, err)
		}
	}
	return nil
}
