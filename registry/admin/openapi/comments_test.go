package openapi

import (
	"bytes"
	"encoding/json"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write comments.json")

// TestComments compares comments.json with the source, and writes it with -update.
func TestComments(t *testing.T) {
	all := comments{Calls: map[string]namedText{}, Types: map[string]typeLegend{}}
	for _, dir := range []string{"../api", "../../store/integrity/findings", "../../../gc", "../../../cluster/state"} {
		readComments(t, dir, &all)
	}
	want, err := json.MarshalIndent(all, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	want = append(want, '\n')
	if *update {
		if err := os.WriteFile("comments.json", want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(commentsJSON, want) {
		t.Error("comments.json is not what the source has: run `make openapi` and commit it")
	}
}

// readComments adds what the files of a package have.
func readComments(t *testing.T, dir string, all *comments) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	fset := token.NewFileSet()
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(fset, name, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			if group, ok := decl.(*ast.GenDecl); ok {
				readDecl(file.Name.Name, group, all)
			}
		}
	}
}

func readDecl(pkg string, group *ast.GenDecl, all *comments) {
	about := ""
	for _, spec := range group.Specs {
		switch s := spec.(type) {
		case *ast.TypeSpec:
			if fields, ok := s.Type.(*ast.StructType); ok {
				legend := typeLegend{Text: textOf(cmpDoc(s.Doc, group.Doc).Text()), Fields: fieldTexts(fields)}
				all.Types[pkg+"."+s.Name.Name] = legend
			}
		case *ast.ValueSpec:
			about = readCall(s, about, all)
		}
	}
}

func cmpDoc(a, b *ast.CommentGroup) *ast.CommentGroup {
	if a != nil {
		return a
	}
	return b
}

func fieldTexts(s *ast.StructType) map[string]string {
	texts := map[string]string{}
	for _, f := range s.Fields.List {
		text := textOf(f.Doc.Text() + " " + f.Comment.Text())
		for _, name := range f.Names {
			if text != "" {
				texts[name.Name] = text
			}
		}
	}
	return texts
}

// readCall adds a call. A comment above some calls is of those that it names; it returns that comment.
func readCall(s *ast.ValueSpec, above string, all *comments) string {
	if s.Doc != nil {
		above = s.Doc.Text()
	}
	for i, value := range s.Values {
		literal, ok := value.(*ast.CompositeLit)
		if !ok {
			continue
		}
		kind, ok := literal.Type.(*ast.IndexListExpr)
		if !ok {
			continue
		}
		method, at := "POST", 0
		if name, ok := kind.X.(*ast.Ident); !ok || name.Name != "Call" && name.Name != "Job" {
			continue
		} else if name.Name == "Call" {
			at = 1
			method = strings.ToUpper(strings.TrimPrefix(literal.Elts[0].(*ast.SelectorExpr).Sel.Name, "Method"))
		}
		path, _ := strconv.Unquote(literal.Elts[at].(*ast.BasicLit).Value)
		text := s.Comment.Text()
		if name := s.Names[i].Name; s.Doc != nil || strings.Contains(above, name) {
			text = above + " " + text
		}
		all.Calls[method+" "+path] = namedText{Name: s.Names[i].Name, Text: textOf(text)}
	}
	return above
}

// textOf returns a comment whose lines are joined to paragraphs.
func textOf(comment string) string {
	var paragraphs []string
	for _, p := range strings.Split(comment, "\n\n") {
		if p = strings.Join(strings.Fields(p), " "); p != "" {
			paragraphs = append(paragraphs, p)
		}
	}
	return strings.NewReplacer("[", "", "]", "").Replace(strings.Join(paragraphs, "\n\n"))
}
