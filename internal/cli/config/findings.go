package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// Findings lists what is valid but will not do as it stands: a URL that is not
// the issuer's, byte for byte, and files that are not there. Nothing is opened.
func (c *Config) Findings() []string {
	var out []string
	if strings.HasSuffix(c.Authority.URL, "/") {
		out = append(out, fmt.Sprintf("authority.url ends with a slash: it must be the issuer byte for byte, which rarely has one: %s", strings.TrimRight(c.Authority.URL, "/")))
	}
	missing := func(key, path string) {
		if path == "" {
			return
		}
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			out = append(out, fmt.Sprintf("%s: %q does not exist", key, path))
		}
	}
	missing("authority.ca_file", c.Authority.CAFile)
	missing("auth.certificate", c.Auth.Certificate)
	for _, s := range []struct{ key, ref string }{
		{"auth.client_secret", string(c.Auth.ClientSecret)},
		{"auth.private_key", string(c.Auth.PrivateKey)},
		{"auth.certificate_key", string(c.Auth.CertificateKey)},
		{"auth.bootstrap_key", string(c.Auth.BootstrapKey)},
	} {
		if path, ok := strings.CutPrefix(s.ref, "file:"); ok {
			missing(s.key, path)
		}
	}
	for i, v := range c.VantagePoints {
		missing(vantageKey(i, "ca_file"), v.CAFile)
	}
	return out
}
