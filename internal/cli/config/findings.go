package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			out = append(out, fmt.Sprintf("%s: %q does not exist", key, path))
		}
	}
	for _, s := range everything(c) {
		if path, read := s.path(); path != nil && read && *path != "" {
			missing(s.key, *path)
		}
		if ref := s.ref(); ref != nil {
			if path, ok := strings.CutPrefix(string(*ref), "file:"); ok {
				missing(s.key, path)
			}
		}
	}
	if m := c.Mirror; m.Root != "" {
		missing("mirror.root", m.Root)
	}
	if m := c.Mirror; m.MetricsFile != "" {
		missing("mirror.metrics_file", filepath.Dir(m.MetricsFile))
	}
	return append(out, c.mirrorFindings()...)
}
