// Package stella_test holds the tree to its own rules (docs/design).
package stella_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/stella-ops/stella/"

// From these sizes on a file has more than one reason to exist.
const (
	maxLines     = 400
	maxTestLines = 500
)

// layers lists the parts of internal/, lowest first. A package imports its own
// layer and lower ones only.
func layers() [][]string {
	return [][]string{
		{"fault", "durable", "lock", "secret", "strictyaml", "notify", "obs", "buildinfo", "signals", "ui", "httpd"},
		{"jose", "ledger", "dsse", "envelope", "release", "recovery", "revocation"},
		{"oauth", "optok", "auditlog", "keyring", "objstore", "jwkscheck"},
		append(operations(), servers()...),
		{"cli"},
	}
}

func operations() []string {
	return []string{"rotate", "backup", "mirror", "smoke", "signing", "runbook"}
}

func servers() []string {
	return []string{"authority", "signer", "licensing", "mirrord", "router", "jobs"}
}

// source is one Go file.
type source struct {
	name  string // slash-separated, from the root
	file  *ast.File
	lines int
}

func (s source) test() bool  { return strings.HasSuffix(s.name, "_test.go") }
func (s source) dir() string { return path.Dir(s.name) }

// part returns the element behind internal/, or "".
func part(p string) string {
	rest, ok := strings.CutPrefix(p+"/", "internal/")
	if !ok {
		return ""
	}
	name, _, _ := strings.Cut(rest, "/")
	return name
}

func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	fset := token.NewFileSet()
	err := filepath.WalkDir(".", func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() && (e.Name() == "testdata" || e.Name() == "vendor" || len(p) > 1 && strings.HasPrefix(e.Name(), ".")) {
			return filepath.SkipDir
		}
		if e.IsDir() || !strings.HasSuffix(p, ".go") {
			return nil
		}
		f, err := parser.ParseFile(fset, p, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		all = append(all, source{filepath.ToSlash(p), f, fset.File(f.Pos()).LineCount()})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func (s source) imports() []string {
	var out []string
	for _, i := range s.file.Imports {
		if p, err := strconv.Unquote(i.Path.Value); err == nil {
			out = append(out, p)
		}
	}
	return out
}

// TestLayers lets imports run downward only, and keeps operations and server
// domains apart: a bug in one cannot hide in the check of the other.
func TestLayers(t *testing.T) {
	rank := map[string]int{}
	for i, layer := range layers() {
		for _, name := range layer {
			rank[name] = i
		}
	}
	for _, s := range sources(t) {
		from := part(s.dir())
		if from == "" || from == "testenv" || s.test() {
			continue
		}
		if _, known := rank[from]; !known {
			t.Errorf("%s: internal/%s has no place in the layers", s.name, from)
			continue
		}
		for _, imp := range s.imports() {
			to := part(strings.TrimPrefix(imp, module))
			if !strings.HasPrefix(imp, module) || to == from || to == "" {
				continue
			}
			if rank[to] > rank[from] {
				t.Errorf("%s imports internal/%s, which lies above it", s.name, to)
			}
			if slices.Contains(servers(), to) && rank[to] == rank[from] {
				t.Errorf("%s imports the server domain internal/%s", s.name, to)
			}
			if slices.Contains(operations(), to) && slices.Contains(servers(), from) {
				t.Errorf("%s imports the operation internal/%s", s.name, to)
			}
		}
	}
}

// TestHomes keeps a library with consequences in the one place it belongs to.
func TestHomes(t *testing.T) {
	homes := map[string][]string{
		"github.com/spf13/cobra":              {"internal/cli"},
		"github.com/spf13/pflag":              {"internal/cli"},
		"github.com/spf13/viper":              {"internal/cli/config"},
		"github.com/charmbracelet/lipgloss":   {"internal/ui"},
		module + "internal/testenv":           {"cmd/stella-lab", "bench", "internal/testenv"},
		"go.mongodb.org/mongo-driver/v2":      {"internal/authority/store", "internal/backup", "internal/testenv", "internal/jobs", "bench"},
		"github.com/prometheus/client_golang": {"internal/obs", "internal/httpd", "internal/authority", "internal/signer", "internal/mirrord", "internal/router", "internal/jobs"},
		"github.com/aws/aws-sdk-go-v2":        {"internal/objstore", "internal/keyring/awskms"},
		"github.com/openbao/openbao/api":      {"internal/keyring/hashivault"},
		"github.com/miekg/pkcs11":             {"internal/keyring/pkcs11"},
		"github.com/redis/go-redis":           {"internal/authority/store/redisstore"},
		"github.com/chromedp":                 {"internal/testenv/browser"},
		"golang.org/x/crypto/argon2":          {"internal/authority/users"},
		"rsc.io/qr":                           {"internal/ui"},
		"github.com/FerretDB/FerretDB":        {"internal/testenv"},
		"github.com/versity/versitygw":        {"internal/testenv"},
		"github.com/stretchr/testify":         {},
		"golang.org/x/exp":                    {},
		"github.com/go-jose/go-jose/v4":       {"internal/jose"},
		"github.com/rogpeppe/go-internal":     {},
		"github.com/coreos/go-oidc/v3":        {"internal/testenv"},
		"pgregory.net/rapid":                  {},
		"github.com/google/go-cmp":            {"internal/authority/store/storetest", "internal/testenv"},
		"go.yaml.in/yaml/v3":                  {"internal/strictyaml"},
		"github.com/gofrs/flock":              {"internal/lock"},
	}
	for _, s := range sources(t) {
		if s.test() {
			continue
		}
		for _, imp := range s.imports() {
			for lib, allowed := range homes {
				if imp != lib && !strings.HasPrefix(imp, lib+"/") {
					continue
				}
				if !slices.ContainsFunc(allowed, func(dir string) bool { return s.dir() == dir || strings.HasPrefix(s.dir(), dir+"/") }) {
					t.Errorf("%s imports %s, which belongs to %v and to tests", s.name, imp, allowed)
				}
			}
		}
	}
}

// TestPackages wants exactly one doc comment a package, no init function
// outside main, and files of a size that one can read.
func TestPackages(t *testing.T) {
	docs, seen := map[string][]string{}, map[string]bool{}
	for _, s := range sources(t) {
		limit := maxLines
		if s.test() {
			limit = maxTestLines
		}
		if s.lines > limit {
			t.Errorf("%s has %d lines, more than %d: split it", s.name, s.lines, limit)
		}
		if s.test() {
			continue
		}
		seen[s.dir()] = true
		if s.file.Doc != nil {
			docs[s.dir()] = append(docs[s.dir()], s.name)
		}
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" && s.file.Name.Name != "main" {
				t.Errorf("%s has an init function", s.name)
			}
		}
	}
	for dir := range seen {
		if len(docs[dir]) != 1 {
			t.Errorf("%s has %d package doc comments, want one: %v", dir, len(docs[dir]), docs[dir])
		}
	}
}
