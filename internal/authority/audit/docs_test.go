package audit

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestNamesAreDocumented holds docs/formats/audit-record.md to every event type
// and every name of a property in the Authority's code.
func TestNamesAreDocumented(t *testing.T) {
	spec, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "formats", "audit-record.md"))
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	check := func(at string, e ast.Expr) {
		lit, ok := e.(*ast.BasicLit)
		if !ok || lit.Kind != token.STRING {
			return // a constant of this package, which is looked at as such
		}
		name, err := strconv.Unquote(lit.Value)
		if found++; err != nil || !strings.Contains(string(spec), "`"+name+"`") {
			t.Errorf("%s: docs/formats/audit-record.md lacks `%s` %v", at, name, err)
		}
	}
	fset := token.NewFileSet()
	err = filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		f, err := parser.ParseFile(fset, path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				if sel, ok := n.Fun.(*ast.SelectorExpr); ok && sel.Sel.Name == "Prop" && len(n.Args) == 3 {
					check(fset.Position(n.Pos()).String(), n.Args[0])
				}
			case *ast.ValueSpec:
				if name := n.Names[0].Name; filepath.Base(path) == "types.go" && f.Name.Name == "audit" && len(n.Values) == 1 {
					check(name, n.Values[0])
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if found < 20 {
		t.Errorf("only %d names found", found)
	}
}
