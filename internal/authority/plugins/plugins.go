// Package plugins reads the manifests of the Authority's plug-ins,
// etc/authority.plugins/*.yaml.
//
// It guarantees that a manifest is accepted only as a whole, that one which no
// part of this server would obey is an error instead of being ignored, that
// settings too weak or too costly are refused, and that a manifest holds no
// secret: only references. Errors are of kind fault.Config, and nothing was
// touched.
package plugins

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/stella-ops/stella/internal/authority/users"
	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/strictyaml"
)

// name is that of the only plug-in there is; a manifest's file name is its
// plug-in's.
const name = users.PluginName

// maxEntries bounds the directory of manifests.
const maxEntries = 256

// defaultKeyDirectory is upstream's.
const defaultKeyDirectory = "../keys"

// Default returns the manifest of an empty file in dir.
func Default(dir string) *Standard {
	p := users.DefaultPolicy()
	return &Standard{
		dir:             dir,
		PasswordPolicy:  PasswordPolicy{MinimumLength: p.Password.MinimumLength},
		PasswordHashing: PasswordHashing{Algorithm: "Argon2id", MemorySizeInKib: p.Hashing.MemoryKiB, Iterations: p.Hashing.Iterations, Parallelism: p.Hashing.Parallelism},
		Lockout:         Lockout{Enabled: p.Lockout.Enabled, MaxAttempts: p.Lockout.MaxAttempts, WindowMinutes: int(p.Lockout.Window / time.Minute)},
	}
}

// Load reads the manifests in dir: files that end in .yaml or .yml. A
// directory without any gives the defaults; one that is not there is an error.
// It reads no secret.
func Load(dir string) (*Standard, error) {
	files, err := manifests(dir)
	if err != nil {
		return nil, err
	}
	s := Default(dir)
	for _, file := range files {
		path := filepath.Join(dir, file)
		stem := strings.TrimSuffix(file, filepath.Ext(file))
		if !strings.EqualFold(stem, name) {
			return nil, fault.Errorf(fault.Config, "%s: there is no plug-in %q in this server", path, stem).
				Hint("the one that there is has its manifest in %s.yaml; remove the file or give it another ending", name)
		}
		if s.Path != "" {
			return nil, fault.Errorf(fault.Config, "%s: a second manifest of plug-in %s; the first is %s", path, name, s.Path).Hint("keep one of them")
		}
		s.Path = path
	}
	if s.Path == "" {
		return s, nil
	}
	data, err := strictyaml.ReadFile(s.Path)
	if err != nil {
		return nil, err
	}
	if err := s.parse(data); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Standard) parse(data []byte) error {
	if err := strictyaml.Decode(s.Path, data, s); err != nil {
		return err
	}
	return s.check(strictyaml.Locate(data))
}

// manifests lists the manifests in dir by name.
func manifests(dir string) ([]string, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, fault.Errorf(fault.Config, "plug-in manifests: %w", err).Hint("make the directory; without a file in it the defaults hold")
	}
	defer f.Close()
	entries, err := f.Readdirnames(maxEntries + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fault.Errorf(fault.Config, "plug-in manifests in %q: %w", dir, err)
	}
	if len(entries) > maxEntries {
		return nil, fault.Errorf(fault.Config, "plug-in manifests in %q: more than %d files", dir, maxEntries)
	}
	files := slices.DeleteFunc(entries, func(file string) bool {
		ext := strings.ToLower(filepath.Ext(file))
		return strings.HasPrefix(file, ".") || ext != ".yaml" && ext != ".yml"
	})
	slices.Sort(files)
	return files, nil
}

// Policy is what the directory of users obeys.
func (s *Standard) Policy() users.Policy {
	p, h, l := s.PasswordPolicy, s.PasswordHashing, s.Lockout
	return users.Policy{
		Password: users.PasswordRules{
			MinimumLength: p.MinimumLength, Upper: p.RequireUppercase, Lower: p.RequireLowercase, Digit: p.RequireDigit, Symbol: p.RequireSymbol,
		},
		Hashing: users.Hashing{MemoryKiB: h.MemorySizeInKib, Iterations: h.Iterations, Parallelism: h.Parallelism},
		Lockout: users.Lockout{Enabled: l.Enabled, MaxAttempts: l.MaxAttempts, Window: time.Duration(l.WindowMinutes) * time.Minute},
	}
}

// KeyDirectory is the directory of keys. main is signing.keyDirectory of the
// main file, which wins; a note tells when the manifest names another.
func (s *Standard) KeyDirectory(main string) (dir, note string) {
	own := s.TokenSigning.KeyDirectory
	if own == "" {
		own = defaultKeyDirectory
	}
	if !filepath.IsAbs(own) {
		own = filepath.Join(s.dir, own)
	}
	switch {
	case main == "":
		return own, ""
	case s.TokenSigning.KeyDirectory != "" && filepath.Clean(main) != filepath.Clean(own):
		note = fmt.Sprintf("keys are in %q (signing.keyDirectory), not in %q (tokenSigning.keyDirectory of %s)", main, own, s.Path)
	}
	return main, note
}

// First returns the document of the bootstrap user with the password that its
// reference leads to, or nil when none is configured.
func (s *Standard) First() (*users.Document, error) {
	b := s.BootstrapUser
	if b.Username == "" {
		return nil, nil
	}
	password, err := b.Password.Load()
	if err != nil {
		return nil, fault.Errorf(fault.Config, "%s: bootstrapUser.password: %w", s.Path, err)
	}
	return &users.Document{Username: b.Username, Password: string(password.Reveal()), Scopes: b.Scopes, Roles: b.Roles, Tenant: b.Tenant}, nil
}
