// Package hashivault keeps signing keys in the transit secrets engine of
// HashiCorp Vault or OpenBao: a keyring.Provider over its HTTP API.
//
// It guarantees that a reference means one version of one key and, when Make
// or Adopt returned it, the very public half as well, so that neither a rotation
// nor another key of that name is taken for it; that destroying it takes no
// other version with it that was there to be seen; that nothing is configured
// by the environment and no redirect or proxy is followed; that no answer is
// read beyond 1 MiB and no call is tried more than twice; and that the token is
// read anew for each call and appears in no error. Whether a signature verifies
// is for the caller to check.
package hashivault

import (
	"net"
	"net/url"
	"strings"

	"github.com/openbao/openbao/api/v2"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/secret"
)

// Scheme is that of the references, which is sigstore's for the same engine.
const Scheme = "hashivault"

// Options say which transit engine holds the keys. Nothing is taken from
// VAULT_*, BAO_* or proxy variables.
type Options struct {
	Address   string     // https URL of the server; http only for loopback
	Namespace string     // of Vault Enterprise or OpenBao; empty for the root
	Mount     string     // path of the transit engine; "transit" if empty
	CAFile    string     // PEM of the authorities to trust; empty for the system's
	Token     secret.Ref // file:, cred: or env:, read for each call because it is renewed
}

// Provider implements keyring.Provider. It is safe for concurrent use.
type Provider struct {
	o      Options
	client *api.Client
}

// Open checks o, reads the CA file and makes no network call. All errors are
// of kind Config.
func Open(o Options) (*Provider, error) {
	if o.Mount == "" {
		o.Mount = "transit"
	}
	u, err := checkAddress(o.Address)
	if err != nil {
		return nil, err
	}
	for what, path := range map[string]string{"mount": o.Mount, "namespace": o.Namespace} {
		if path != "" && !validPath(path) {
			return nil, fault.Errorf(fault.Config, "vault %s %.100q: want names of letters, digits, '.', '_' and '-', joined by slashes", what, path)
		}
	}
	if err := o.Token.Check(); err != nil {
		return nil, err
	}
	switch scheme, _, _ := strings.Cut(string(o.Token), ":"); scheme {
	case "file", "cred", "env":
	default:
		return nil, fault.Errorf(fault.Config, "vault token %s: it can be read only once, but is needed for each call", o.Token).
			Hint("write file:PATH, cred:NAME or env:NAME")
	}
	client, err := newClient(u, o)
	if err != nil {
		return nil, err
	}
	return &Provider{o: o, client: client}, nil
}

// checkAddress wants a bare URL, so that no credential hides in it, and TLS
// wherever the token would leave the host.
func checkAddress(address string) (*url.URL, error) {
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || u.Opaque != "":
		// Not repeated: it may hold a password.
		return nil, fault.Errorf(fault.Config, "vault address: not a URL of scheme, host and port alone").
			Hint("write it like https://vault.example.com:8200")
	case u.Path != "" && u.Path != "/":
		return nil, fault.Errorf(fault.Config, "vault address %.200q: leave out the path", address)
	case u.Scheme == "https", u.Scheme == "http" && loopback(u.Hostname()):
		return u, nil
	}
	return nil, fault.Errorf(fault.Config, "vault address %.200q: want https (http only for loopback)", address)
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// validPath accepts what a mount or a namespace may be called: names joined by
// slashes, 200 bytes at most.
func validPath(path string) bool {
	if len(path) > 200 {
		return false
	}
	for name := range strings.SplitSeq(path, "/") {
		if !validName(name) {
			return false
		}
	}
	return true
}
