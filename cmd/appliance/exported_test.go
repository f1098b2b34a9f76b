package main_test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// unusedExports lists what may be exported without a use outside its package, and the reason.
func unusedExports() map[string]string {
	return map[string]string{
		"registry/store/postgres/postgrestest.Server.Freeze":      "tests with the build tag postgres stop its processes",
		"registry/store/postgres/postgrestest.Server.Thaw":        "likewise",
		"registry/store/postgres/postgrestest.Server.Halt":        "tests of the daemon with the build tag postgres stop the server",
		"ansible-free/host.Under":                                 "tests of the installer work below a temporary directory",
		"internal/diskspace.Least":                                "tests of the store fill disks up to it",
		"mirror/catalog.Catalog.Extract":                          "tests of the engine read catalogs with it",
		"mirror/imageset.Parse":                                   "tests of the engine and of collectors have image sets as text",
		"registry/console.Patterns":                               "tests of the daemon walk all pages",
		"registry/store/backup.Error":                             "tests of the store tell a refused backup from a failure",
		"registry/store/integrity.ProblemBlob":                    "a word of the report in JSON, which tests of verify compare",
		"registry/store/integrity.ProblemDatabase":                "as ProblemBlob",
		"registry/store/integrity.ProblemManifest":                "as ProblemBlob",
		"registry/store/integrity.ProblemTag":                     "as ProblemBlob",
		"registry/store/integrity.Checker.Reinspect":              "tests of the store inspect one blob in quarantine",
		"registry/store/integrity.Checker.ScrubBlob":              "tests of the store damage and scrub one blob",
		"registry/store/integrity.Checker.SetScrubCursor":         "tests of backups have a scrub under way",
		"registry/store/database.ErrClosed":                       "tests of engines tell how a write ended",
		"registry/store/database.ErrHeld":                         "as ErrClosed",
		"registry/store/postgres.Beside":                          "tests of the store change rows beside it",
		"registry/store/postgres/postgrestest.Server.Both":        "for tests alone",
		"registry/store/postgres/postgrestest.Server.Standby":     "for tests alone",
		"registry/store/postgres/postgrestest.Server.Synchronous": "for tests alone",
		"registry/console/consoletest.CSRF":                       "for tests alone",
		"registry/store/database.Group.Queued":                    "tests of engines wait until writes are queued",
	}
}

// knownMethods are called through interfaces of the standard library and of libraries.
var knownMethods = []string{
	"Error", "Unwrap", "Is", "As", "String", "Hint", "ExitCode", "Read", "Write", "Close", "ReadFrom", "WriteTo", "ReadAt", "Seek", "ServeHTTP",
	"RoundTrip", "MarshalJSON", "UnmarshalJSON", "MarshalText", "UnmarshalText", "DecodeNode", "Scan", "Value", "Flush", "Hijack", "Accept", "Addr", "Set", "Type",
	"Collect", "Describe", "Enabled", "Handle", "WithAttrs", "WithGroup", "Len", "Less", "Swap", "Open", "Stat", "LogValue",
}

// maxLines is how long a file may be, tests included.
const maxLines = 500

func TestSize_noFileIsLong(t *testing.T) {
	root, _ := moduleRoot(t)
	files := goFiles(t, root)
	if len(files) < 100 {
		t.Fatalf("only %d files found below %s", len(files), root)
	}
	for _, file := range files {
		text, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			t.Fatal(err)
		}
		if n := bytes.Count(text, []byte("\n")); n > maxLines {
			t.Errorf("%s has %d lines, more than %d: divide it", file, n, maxLines)
		}
	}
}

func TestExported_isUsedElsewhere(t *testing.T) {
	root, module := moduleRoot(t)
	x := readExports(t, root, module)
	if len(x.declared) < 100 {
		t.Fatalf("only %d exported names found below %s", len(x.declared), root)
	}
	exceptions := unusedExports()
	for _, name := range x.unused() {
		if exceptions[name] == "" {
			t.Errorf("%s is exported and has no use outside its package: unexport it", name)
		}
		delete(exceptions, name)
	}
	for name := range exceptions {
		t.Errorf("%s is an exception, and is used or gone", name)
	}
}

func TestExported_unusedAreFound(t *testing.T) {
	root := t.TempDir()
	for name, text := range map[string]string{
		"a/a.go":      "package a\ntype T struct{}\ntype Arg struct{}\ntype Lone struct{}\nfunc (T) Called(Arg) {}\nfunc (T) Uncalled() {}\nfunc (T) String() string { return \"\" }\nconst C, D = 1, 2\nvar V = 1\nfunc F() { Own() }\nfunc Own() {}\n",
		"a/a_test.go": "package a\nvar _ = Lone{}\n",
		"b/b.go":      "package b\nimport x \"example.com/m/a\"\nfunc f(t x.T) { t.Called(nil); x.F(); _ = x.C }\n",
		"b/b_test.go": "package b\nimport \"example.com/m/a\"\nvar _ = a.D\n",
	} {
		writeFile(t, filepath.Join(root, name), text)
	}
	got := readExports(t, root, "example.com/m").unused()
	if want := []string{"a.Lone", "a.Own", "a.T.Uncalled", "a.V"}; !slices.Equal(got, want) {
		t.Errorf("found %v, want %v", got, want)
	}
}

func writeFile(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// goFiles lists the Go files of the module, by their paths below root.
func goFiles(t *testing.T, root string) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(root, func(file string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() && file != root && strings.HasPrefix(e.Name(), ".") {
			return fs.SkipDir
		}
		if !e.IsDir() && strings.HasSuffix(file, ".go") {
			rel, err := filepath.Rel(root, file)
			files = append(files, filepath.ToSlash(rel))
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// exports are the exported names of product packages, and what files that are not tests use of
// them. Methods are told apart by their names alone.
type exports struct {
	declared    []string                   // pkg.Name and pkg.Type.Method
	named       map[string]bool            // pkg.Name that another package names, or that the signature of an exported name has
	selected    map[string]map[string]bool // by method name: the packages that select it
	inInterface map[string]bool            // methods of interfaces
	siblings    map[string][]string        // the names of the block that declares a constant: an enumeration is used as a whole
}

func readExports(t *testing.T, root, module string) *exports {
	t.Helper()
	x := &exports{named: map[string]bool{}, selected: map[string]map[string]bool{}, inInterface: map[string]bool{}, siblings: map[string][]string{}}
	for _, file := range goFiles(t, root) {
		dir := path.Dir(file)
		if strings.HasSuffix(file, "_test.go") || strings.Contains(file, "testdata/") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, file), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		x.read(f, dir, module)
	}
	return x
}

func (x *exports) read(f *ast.File, dir, module string) {
	imported := map[string]string{}
	product := f.Name.Name != "main" && !strings.HasPrefix(dir, "cmd/")
	for _, spec := range f.Imports {
		to, _ := strconv.Unquote(spec.Path.Value)
		product = product && to != "testing"
		if pkg, ours := strings.CutPrefix(to, module+"/"); ours {
			name := path.Base(pkg)
			if spec.Name != nil {
				name = spec.Name.Name
			}
			imported[name] = pkg
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			if id, ok := n.X.(*ast.Ident); ok && imported[id.Name] != "" {
				x.named[imported[id.Name]+"."+n.Sel.Name] = true
			}
			if x.selected[n.Sel.Name] == nil {
				x.selected[n.Sel.Name] = map[string]bool{}
			}
			x.selected[n.Sel.Name][dir] = true
		case *ast.InterfaceType:
			for _, m := range n.Methods.List {
				for _, name := range m.Names {
					x.inInterface[name.Name] = true
				}
			}
		}
		return true
	})
	if product {
		for _, d := range f.Decls {
			x.declare(d, dir)
		}
	}
}

func (x *exports) declare(d ast.Decl, dir string) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		name := d.Name.Name
		if d.Recv != nil {
			name = receiver(d.Recv.List[0].Type) + "." + name
		}
		if d.Name.IsExported() {
			x.declared = append(x.declared, dir+"."+name)
			x.mention(d.Type, dir)
		}
	case *ast.GenDecl:
		first := len(x.declared)
		defer func() {
			for _, name := range x.declared[first:] {
				if d.Tok == token.CONST {
					x.siblings[name] = x.declared[first:]
				}
			}
		}()
		for _, spec := range d.Specs {
			switch s := spec.(type) {
			case *ast.TypeSpec:
				if s.Name.IsExported() {
					x.declared = append(x.declared, dir+"."+s.Name.Name)
				}
				x.mention(s.Type, dir)
			case *ast.ValueSpec:
				for _, name := range s.Names {
					if name.IsExported() {
						x.declared = append(x.declared, dir+"."+name.Name)
						if s.Type != nil {
							x.mention(s.Type, dir)
						}
					}
				}
			}
		}
	}
}

// mention marks the types that a signature or a type is made of.
func (x *exports) mention(n ast.Node, dir string) {
	ast.Inspect(n, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok && id.IsExported() {
			x.named[dir+"."+id.Name] = true
		}
		return true
	})
}

func receiver(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return receiver(e.X)
	case *ast.IndexExpr:
		return receiver(e.X)
	case *ast.Ident:
		return e.Name
	}
	return ""
}

func (x *exports) unused() []string {
	var unused []string
	for _, name := range x.declared {
		dir, rest := name[:strings.LastIndex(name, "/")+1], name[strings.LastIndex(name, "/")+1:]
		parts := strings.SplitN(rest, ".", 3)
		used := x.named[name] || slices.ContainsFunc(x.siblings[name], func(s string) bool { return x.named[s] })
		if len(parts) == 2 && !used || len(parts) == 3 && ast.IsExported(parts[1]) && !x.called(dir+parts[0], parts[2]) {
			unused = append(unused, name)
		}
	}
	slices.Sort(unused)
	return slices.Compact(unused)
}

func (x *exports) called(dir, method string) bool {
	if slices.Contains(knownMethods, method) || x.inInterface[method] {
		return true
	}
	for by := range x.selected[method] {
		if by != dir {
			return true
		}
	}
	return false
}
