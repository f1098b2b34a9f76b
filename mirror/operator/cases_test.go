package operator_test

import (
	"context"
	"encoding/json"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/operator"
	"github.com/mirror-appliance/appliance/testdata"
)

// testCase is an operator entry, and what oc-mirror leaves of a catalog.
type testCase struct {
	Name, Catalog, What string
	Operator            imageset.Operator
	Result              outcome
}

type outcome struct {
	Error          string
	Packages       []outPackage
	Bundles        []outBundle
	Deprecations   []string
	Others         []string
	OrphanChannels []string // channels whose package has no olm.package
}

type outPackage struct {
	Name, DefaultChannel string
	Channels             []outChannel
}

type outChannel struct {
	Name    string
	Entries []outEntry
}

type outEntry struct {
	Name, Replaces, SkipRange string
	Skips                     []string
}

type outBundle struct {
	Package, Name, Version string
	Images                 []string
}

// better is a case in which ours differs from oc-mirror.
type better struct {
	Name, Why, Error string
	Packages         []outPackage
	Bundles          []string
	Deprecations     []string
	Same, Warning    bool
}

func readCases(t *testing.T) ([]testCase, map[string]better) {
	t.Helper()
	var cases []testCase
	var ours []better
	for name, to := range map[string]any{"cases.json": &cases, "ours.json": &ours} {
		text, err := testdata.FS.ReadFile("operator/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, to); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	byName := map[string]better{}
	for _, b := range ours {
		byName[b.Name] = b
	}
	return cases, byName
}

func catalog(t testing.TB, name string) fs.FS {
	t.Helper()
	files, err := fs.Sub(testdata.FS, "operator/catalogs/"+name)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func scan(t testing.TB, files fs.FS) *operator.Index {
	t.Helper()
	x, err := operator.Scan(context.Background(), files)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// grepped are the beginnings of errors that scripts look for.
var grepped = []string{"invalid default channel configuration", "specified default channel override", "the default channel", `package "`, "specific version"}

// Spec: oc-mirror 5.2, 5.3.
func TestSelect_cases(t *testing.T) {
	cases, ours := readCases(t)
	if len(cases) < 125 {
		t.Fatalf("only %d cases", len(cases))
	}
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			files := catalog(t, c.Catalog)
			selected, err := scan(t, files).Select(c.Operator, nil)
			want, mine := c.Result, ours[c.Name]
			if mine.Name != "" && !mine.Same {
				want = outcome{Error: mine.Error, Packages: mine.Packages, Deprecations: mine.Deprecations, Others: want.Others}
				for _, b := range mine.Bundles {
					pkg, name, _ := strings.Cut(b, "/")
					want.Bundles = append(want.Bundles, outBundle{Package: pkg, Name: name})
				}
			}
			checkError(t, err, want.Error)
			if err != nil || want.Error != "" {
				return
			}
			if mine.Warning && len(selected.Warnings) == 0 {
				t.Errorf("no warning")
			}
			got := read(t, selected, files)
			if c.Result.Error != "" {
				got.Others = nil // those that oc-mirror would have left are not known
			}
			compare(t, got, want)
		})
	}
}

func checkError(t *testing.T, err error, want string) {
	t.Helper()
	if want == "" {
		if err != nil && !strings.HasPrefix(err.Error(), "nothing of the catalog is left") {
			t.Errorf("error %v, none wanted", err)
		}
		return
	}
	if err == nil {
		t.Fatalf("no error, want %s", want)
	}
	for _, text := range grepped {
		if i := strings.Index(want, text); i >= 0 && !strings.Contains(err.Error(), strings.TrimPrefix(want[i:], "config: ")) {
			t.Errorf("error is\n%v\nwant\n%s", err, want)
		}
	}
}

func compare(t *testing.T, got, want outcome) {
	t.Helper()
	for _, pair := range [][2]any{{got.Packages, want.Packages}, {got.Deprecations, want.Deprecations}, {got.Others, want.Others}, {got.OrphanChannels, want.OrphanChannels}} {
		g, w := asJSON(t, pair[0]), asJSON(t, pair[1])
		if g != w {
			t.Errorf("got\n%s\nwant\n%s", g, w)
		}
	}
	var g, w []string
	for _, b := range got.Bundles {
		g = append(g, b.Package+"/"+b.Name)
	}
	for _, b := range want.Bundles {
		w = append(w, b.Package+"/"+b.Name)
	}
	if !slices.Equal(g, w) {
		t.Errorf("bundles are\n%v\nwant\n%v", g, w)
	}
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	text, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if string(text) == "null" || string(text) == "[]" {
		return ""
	}
	return string(text)
}

// operatorFull asks for a catalog as it is.
var operatorFull = imageset.Operator{Full: true}
