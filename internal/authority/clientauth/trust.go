package clientauth

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/stella-ops/stella/internal/fault"
)

// maxTrustFile bounds a file of roots or of revocations, in bytes.
const maxTrustFile = 16 << 20

// crlStale is the age from which a list of revoked certificates is told to be
// old (contracts ask for one that is no older; the last good one stays in
// use).
const crlStale = 10 * time.Minute

// TrustFiles names what a tenant trusts.
type TrustFiles struct {
	Roots string // PEM with one or more CA certificates
	CRL   string // PEM or DER with lists of the CAs (RFC 5280 section 5); empty: none is asked for
}

// Trust holds the trust roots of each tenant and follows their files: a change
// is taken in within a second, and a bad file leaves the last good state. Safe
// for concurrent use.
type Trust struct {
	log *slog.Logger

	mu      sync.Mutex
	tenants map[string]*tenantTrust
}

type tenantTrust struct {
	files  TrustFiles
	now    *anchors
	stamp  string
	looked time.Time
	warned time.Time
}

// anchors are what one tenant trusts at a time. Not changed after they were
// made.
type anchors struct {
	roots *x509.CertPool
	lists []*x509.RevocationList
}

// NewTrust reads the files of all tenants. Errors are of kind Config.
func NewTrust(files map[string]TrustFiles, log *slog.Logger) (*Trust, error) {
	t := &Trust{log: log, tenants: map[string]*tenantTrust{}}
	for tenant, f := range files {
		a, err := readAnchors(f)
		if err != nil {
			return nil, fault.Errorf(fault.Config, "trust of tenant %q: %w", tenant, err)
		}
		t.tenants[tenant] = &tenantTrust{files: f, now: a, stamp: f.stamp()}
	}
	return t, nil
}

// anchors returns what a tenant trusts now; nil when it trusts nobody.
func (t *Trust) anchors(tenant string, now time.Time) *anchors {
	t.mu.Lock()
	defer t.mu.Unlock()
	have := t.tenants[tenant]
	if have == nil {
		return nil
	}
	if now.Sub(have.looked) >= time.Second || now.Before(have.looked) {
		have.looked = now
		t.look(tenant, have, now)
	}
	return have.now
}

func (t *Trust) look(tenant string, have *tenantTrust, now time.Time) {
	if stamp := have.files.stamp(); stamp != have.stamp {
		have.stamp = stamp
		a, err := readAnchors(have.files)
		if err != nil {
			t.log.Error("trust of a tenant not reloaded, keeping the old one", "tenant", tenant, "err", err)
		} else {
			have.now = a
			t.log.Info("trust of a tenant loaded", "tenant", tenant)
		}
	}
	for _, l := range have.now.lists {
		if now.Sub(l.ThisUpdate) > crlStale && now.After(l.NextUpdate) && now.Sub(have.warned) > crlStale {
			have.warned = now
			t.log.Warn("the list of revoked certificates is out of date; the last good one stays in use",
				"tenant", tenant, "issuer", l.Issuer.String(), "this_update", l.ThisUpdate)
		}
	}
}

// stamp changes when a file does.
func (f TrustFiles) stamp() string {
	text := ""
	for _, path := range []string{f.Roots, f.CRL} {
		if path == "" {
			continue
		}
		info, err := os.Stat(path)
		if err != nil {
			text += err.Error()
			continue
		}
		text += fmt.Sprintf("%d %s|", info.Size(), info.ModTime())
	}
	return text
}

func readAnchors(f TrustFiles) (*anchors, error) {
	data, err := readBounded(f.Roots)
	if err != nil {
		return nil, err
	}
	a := &anchors{roots: x509.NewCertPool()}
	var issuers []*x509.Certificate
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil || block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("%q holds something that is not a certificate", f.Roots)
		}
		if !c.IsCA {
			return nil, fmt.Errorf("%q holds a certificate that is no CA's: %s", f.Roots, c.Subject)
		}
		a.roots.AddCert(c)
		issuers = append(issuers, c)
	}
	if len(issuers) == 0 {
		return nil, fmt.Errorf("%q holds no certificate", f.Roots)
	}
	if f.CRL == "" {
		return a, nil
	}
	if a.lists, err = readLists(f.CRL); err != nil {
		return nil, err
	}
	for _, l := range a.lists {
		if !signedByOne(l, issuers) {
			return nil, fmt.Errorf("%q: the list of %s is not signed by a trust root", f.CRL, l.Issuer)
		}
	}
	return a, nil
}

func signedByOne(l *x509.RevocationList, issuers []*x509.Certificate) bool {
	for _, c := range issuers {
		// The same bytes: that is how a list is found later.
		if bytes.Equal(l.RawIssuer, c.RawSubject) && l.CheckSignatureFrom(c) == nil {
			return true
		}
	}
	return false
}

func readLists(path string) ([]*x509.RevocationList, error) {
	data, err := readBounded(path)
	if err != nil {
		return nil, err
	}
	ders := [][]byte{data}
	if bytes.HasPrefix(bytes.TrimSpace(data), []byte("-----BEGIN")) {
		ders = nil
		for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
			ders = append(ders, block.Bytes)
		}
	}
	var lists []*x509.RevocationList
	for _, der := range ders {
		l, err := x509.ParseRevocationList(der)
		if err != nil {
			return nil, fmt.Errorf("%q holds something that is not a list of revoked certificates", path)
		}
		lists = append(lists, l)
	}
	if len(lists) == 0 {
		return nil, fmt.Errorf("%q holds no list of revoked certificates", path)
	}
	return lists, nil
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxTrustFile+1))
	if err == nil && len(data) > maxTrustFile {
		err = fmt.Errorf("%q is larger than %d bytes", path, maxTrustFile)
	}
	return data, err
}

// revoked returns an error if a list of an issuer in the path names one of the
// certificates below it.
func (a *anchors) revoked(path []*x509.Certificate) error {
	for _, c := range path[:len(path)-1] {
		for _, l := range a.lists {
			if !bytes.Equal(l.RawIssuer, c.RawIssuer) {
				continue
			}
			for i := range l.RevokedCertificateEntries {
				if l.RevokedCertificateEntries[i].SerialNumber.Cmp(c.SerialNumber) == 0 {
					return errors.New("the certificate is revoked by its issuer")
				}
			}
		}
	}
	return nil
}
