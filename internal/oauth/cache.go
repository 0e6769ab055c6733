package oauth

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/stella-ops/stella/internal/durable"
	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/secret"
)

const tokenSuffix = ".token"

// openCache opens the cache directory. With create it is made if missing;
// without, a missing one is fs.ErrNotExist. A directory or file that others
// can reach is refused with kind Config: what is in it may have leaked, or
// may be planted.
func openCache(path string, create bool) (*durable.Dir, error) {
	if create {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return nil, fault.Errorf(fault.Config, "making the token cache: %w", err)
		}
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && create:
		d, err := durable.Create(path, 0o700)
		return d, fault.As(fault.Config, err)
	case err != nil:
		return nil, fmt.Errorf("opening the token cache: %w", err)
	case !info.IsDir():
		return nil, fault.Errorf(fault.Config, "the token cache %q is not a directory", path)
	}
	if perm := info.Mode().Perm(); perm&0o077 != 0 {
		return nil, fault.Errorf(fault.Config, "the token cache %q has mode %04o: others can reach it", path, perm).
			Hint("chmod 700 %s", path)
	}
	if err := secret.CheckMode(path, info); err != nil {
		return nil, err
	}
	return durable.Open(path)
}

// readRecord reads one token file. damaged reports that the file is there but
// cannot be used, which is a reason to fetch anew and not an error.
func readRecord(d *durable.Dir, name string) (id identity, t *Token, damaged, err error) {
	data, err := readPrivate(d, name)
	if err != nil || data == nil {
		return identity{}, nil, nil, err
	}
	id, t, damaged = parseRecord(data)
	return id, t, damaged, nil
}

// readPrivate returns nil for a missing file and refuses one that others can
// reach, or that is not a regular file.
func readPrivate(d *durable.Dir, name string) ([]byte, error) {
	path := filepath.Join(d.Path(), name)
	info, err := d.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the token cache: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fault.Errorf(fault.Config, "%q in the token cache is not a regular file", path).Hint("rm -r %s", path)
	}
	if err := secret.CheckMode(path, info); err != nil {
		return nil, fault.Errorf(fault.Config, "refusing a cached token: %w", err).
			Hint("the token in it may be known to others; drop it: rm %s", path)
	}
	data, err := d.Read(name, 2*maxMetadataBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // removed in between, by a logout
	}
	return data, err
}

// loadToken returns the cached token of this client, nil when there is none
// that can be used.
func (c *Client) loadToken() (*Token, error) {
	if c.cfg.CacheDir == "" {
		return nil, nil
	}
	d, err := openCache(c.cfg.CacheDir, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer d.Close()
	name := c.identity().name() + tokenSuffix
	id, t, damaged, err := readRecord(d, name)
	if err != nil || t == nil && damaged == nil {
		return nil, err
	}
	if damaged == nil && id.name()+tokenSuffix != name {
		damaged = fmt.Errorf("it is the token of something else")
	}
	if damaged != nil {
		c.warn(c.cfg.Issuer, "ignoring the cached token %q: %v", filepath.Join(d.Path(), name), damaged)
		return nil, nil
	}
	cert, err := c.certificate()
	if err != nil {
		return nil, err
	}
	if t.X5T != cert {
		return nil, nil // bound to a certificate that we no longer have
	}
	return t, nil
}

// saveToken stores t for other runs.
func (c *Client) saveToken(d *durable.Dir, t *Token) error {
	data, err := encodeRecord(c.identity(), t)
	if err != nil {
		return err
	}
	if err := d.Write(c.identity().name()+tokenSuffix, data, 0o600); err != nil {
		return fmt.Errorf("storing the token: %w", err)
	}
	return nil
}

// isTokenName reports whether a file of the cache directory holds a token.
func isTokenName(name string) bool { return strings.HasSuffix(name, tokenSuffix) }
