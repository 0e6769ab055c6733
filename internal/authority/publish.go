package authority

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/stella-ops/stella/internal/authority/clients"
	"github.com/stella-ops/stella/internal/authority/device"
	"github.com/stella-ops/stella/internal/authority/revoke"
	"github.com/stella-ops/stella/internal/authority/serviceaccount"
	"github.com/stella-ops/stella/internal/httpd"
	"github.com/stella-ops/stella/internal/keyring"
)

// discoveryLife is how long the discovery document may be cached.
const discoveryLife = 5 * time.Minute

// metadata is the discovery document (OpenID Connect Discovery 1.0, RFC 8414,
// RFC 8628 section 4, RFC 8705 section 5, RFC 9449 section 5.1). Lists without a
// value are empty, not absent: there is no authorization endpoint here, on
// purpose.
type metadata struct {
	Issuer            string   `json:"issuer"`
	TokenEndpoint     string   `json:"token_endpoint"`
	JWKSURI           string   `json:"jwks_uri"`
	Device            string   `json:"device_authorization_endpoint"`
	Introspection     string   `json:"introspection_endpoint"`
	Revocation        string   `json:"revocation_endpoint"`
	ResponseTypes     []string `json:"response_types_supported"`
	SubjectTypes      []string `json:"subject_types_supported"`
	Grants            []string `json:"grant_types_supported"`
	AuthMethods       []string `json:"token_endpoint_auth_methods_supported"`
	AuthAlgs          []string `json:"token_endpoint_auth_signing_alg_values_supported"`
	IntrospectMethods []string `json:"introspection_endpoint_auth_methods_supported"`
	IntrospectAlgs    []string `json:"introspection_endpoint_auth_signing_alg_values_supported"`
	RevokeMethods     []string `json:"revocation_endpoint_auth_methods_supported"`
	RevokeAlgs        []string `json:"revocation_endpoint_auth_signing_alg_values_supported"`
	DPoPAlgs          []string `json:"dpop_signing_alg_values_supported"`
	IDTokenAlgs       []string `json:"id_token_signing_alg_values_supported"`
	Scopes            []string `json:"scopes_supported"`
	ClaimsParameter   bool     `json:"claims_parameter_supported"`
	RequestParam      bool     `json:"request_parameter_supported"`
	RequestURIParam   bool     `json:"request_uri_parameter_supported"`
	CertBound         bool     `json:"tls_client_certificate_bound_access_tokens"`
	Aliases           *aliases `json:"mtls_endpoint_aliases,omitempty"`
	// Revocations is the signed list of what is revoked; our own member.
	Revocations string `json:"stellaops_revocations_uri"`
}

// aliases are the endpoints on the listener for clients with certificates.
type aliases struct {
	TokenEndpoint string `json:"token_endpoint"`
	Device        string `json:"device_authorization_endpoint"`
	Introspection string `json:"introspection_endpoint"`
	Revocation    string `json:"revocation_endpoint"`
}

// describe makes the document; mtls is the base of the listener for clients
// with certificates, or "".
func describe(issuer, mtls string) metadata {
	confidential := []string{clients.SecretBasic, clients.PrivateKeyJWT}
	algs := []string{"ES256", "EdDSA", "PS256"}
	m := metadata{
		Issuer: issuer, TokenEndpoint: issuer + pathToken, JWKSURI: issuer + pathJWKS,
		Device: issuer + device.PathAuthorization, Introspection: issuer + pathIntrospect, Revocation: issuer + revoke.PathRevoke,
		ResponseTypes: []string{}, SubjectTypes: []string{"public"},
		Grants:   []string{clients.GrantCredentials, clients.GrantDevice, clients.GrantRefresh},
		AuthAlgs: algs, IntrospectAlgs: algs, RevokeAlgs: algs,
		DPoPAlgs:    []string{"ES256", "EdDSA"},
		IDTokenAlgs: []string{"ES256"},
		Scopes:      []string{keyring.ScopeManage, keyring.ScopeRead, revoke.ScopeManage, serviceaccount.Scope},
		Revocations: issuer + revoke.PathList,
	}
	if mtls != "" {
		confidential = append(confidential, clients.TLSClientAuth)
		m.CertBound = true
		m.Aliases = &aliases{mtls + pathToken, mtls + device.PathAuthorization, mtls + pathIntrospect, mtls + revoke.PathRevoke}
	}
	m.IntrospectMethods = confidential
	m.AuthMethods = append(append([]string(nil), confidential...), clients.Public)
	m.RevokeMethods = m.AuthMethods
	return m
}

// discovery returns the handler of the discovery document.
func discovery(issuer, mtls string) (http.Handler, error) {
	body, err := json.Marshal(describe(issuer, mtls))
	if err != nil {
		return nil, fmt.Errorf("encoding discovery document: %w", err)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "application/json")
		h.Set("Cache-Control", "public, max-age="+strconv.Itoa(int(discoveryLife.Seconds())))
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
	}), nil
}

// keySet serves the JWKS. It needs nothing but the keyring.
type keySet struct {
	keys *keyring.Keyring
	now  func() time.Time
	last atomic.Pointer[servedSet]
}

type servedSet struct {
	ring *keyring.Ring
	body []byte
	etag string
}

// ServeHTTP implements http.Handler.
func (k *keySet) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	set, err := k.current()
	if err != nil {
		httpd.WriteProblem(w, r, http.StatusServiceUnavailable, "unavailable", "the key set cannot be read now")
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("ETag", set.etag)
	if age := int(k.keys.MaxAge().Seconds()); age > 0 {
		h.Set("Cache-Control", "public, max-age="+strconv.Itoa(age)+", must-revalidate")
	} else {
		h.Set("Cache-Control", "no-store")
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(set.body))
}

// current encodes the set once for each state of the keyring.
func (k *keySet) current() (*servedSet, error) {
	ring := k.keys.Ring()
	if ring == nil {
		return nil, keyring.ErrMissing
	}
	if last := k.last.Load(); last != nil && last.ring == ring {
		return last, nil
	}
	body, err := json.Marshal(ring.Set())
	if err != nil {
		return nil, fmt.Errorf("encoding key set: %w", err)
	}
	sum := sha256.Sum256(body)
	set := &servedSet{ring, body, `"` + base64.RawURLEncoding.EncodeToString(sum[:16]) + `"`}
	k.last.Store(set)
	return set, nil
}
