package operator_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/operator"
)

const (
	pineBundle  = `{ "schema":"olm.bundle", "name":"pine.v1.0.0","package":"pine","image":"example.com/p:1","n":9007199254740993,` + "\n" + ` "properties":[{"type":"olm.package","value":{"packageName":"pine","version":"1.0.0"}}]}`
	pinePackage = `{"x":1e2,"schema":"olm.package","name":"pine","defaultChannel":"c"}`
	pineChannel = `{"schema":"olm.channel","zeta":[1],"package":"pine","name":"c","entries":[{"name":"pine.v0.9.0","more":1},{"more":2.0,"name":"pine.v1.0.0","replaces":"pine.v0.9.0"}],"alpha":null}`
)

func TestFiles_keepBytesAsTheyCame(t *testing.T) {
	files := fstest.MapFS{"all.json": {Data: []byte(pineBundle + pinePackage + "\n" + pineChannel)}}
	s, err := scan(t, files).Select(imageset.Operator{Packages: []imageset.Package{{Name: "pine"}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := pinePackage + "\n" + strings.Replace(pineChannel, `{"name":"pine.v0.9.0","more":1},`, "", 1) + "\n" + pineBundle + "\n"
	if got := string(write(t, s, files)["pine/catalog.json"].Data); got != want {
		t.Errorf("the file has\n%s\nwant\n%s", got, want)
	}
}

func TestScan_yamlAndJSONInAnyFile(t *testing.T) {
	files := fstest.MapFS{
		"a/values.txt": {Data: []byte("# a comment\n---\nschema: olm.package\nname: pine\ndefaultChannel: c\n--- # next\nschema: olm.channel\npackage: pine\nname: c\nentries:\n- name: pine.v1.0.0\n---\n")},
		"b/values":     {Data: []byte("\n \n" + pineBundle + "\n---\nschema: example.com/x\npackage: pine\ntext: |\n  ---\n  kept\n")},
		".indexignore": {Data: []byte("*.md\n!kept.md\n")},
		"README.md":    {Data: []byte("not: [a catalog")},
	}
	s, err := scan(t, files).Select(imageset.Operator{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	out := read(t, s, files)
	if len(out.Bundles) != 1 || len(out.Others) != 1 || len(out.Packages) != 1 || len(s.Warnings) > 0 {
		t.Errorf("found %+v, %v", out, s.Warnings)
	}
	if text := string(write(t, s, files)["pine/catalog.json"].Data); !strings.Contains(text, `"---\nkept\n"`) || !strings.Contains(text, "9007199254740993") {
		t.Errorf("the file has %s", text)
	}
}

func TestScan_errorsNameFileAndPlace(t *testing.T) {
	for name, text := range map[string]string{
		"is cut off, or is not JSON":      pinePackage + `{"schema":`,
		"byte 67 is not JSON":             pinePackage + `{"schema" "x"}`,
		"is not an object":                `[]`,
		"it has no schema":                `{"name":"x"}`,
		"cannot be the name of a package": `{"schema":"olm.package","name":"../x"}`,
		"names no package":                `{"schema":"olm.bundle","name":"x"}`,
		"the YAML document at byte 0":     "a: [",
		"name is not a string":            `{"schema":"olm.package","name":1}`,
		`olm.channel "c" of package "p": its entries cannot be a JSON number`: `{"schema":"olm.channel","package":"p","name":"c","entries":1}`,
		`olm.channel "c" of package "p": its entries cannot be a JSON string`: `{"schema":"olm.channel","package":"p","name":"c","entries":["x"]}`,
	} {
		_, err := operator.Scan(context.Background(), fstest.MapFS{"d/f.json": {Data: []byte(text)}})
		if err == nil || !strings.Contains(err.Error(), "d/f.json: ") || !strings.Contains(err.Error(), name) || hint.Of(err) == "" {
			t.Errorf("want an error with %q, got %v", name, err)
		}
	}
	endless := bytes.Repeat([]byte(" "), 65<<20)
	copy(endless, `{"schema":"`)
	if _, err := operator.Scan(context.Background(), fstest.MapFS{"big": {Data: endless}}); err == nil || !strings.Contains(err.Error(), "more than 64 MiB") {
		t.Errorf("a value without end: %v", err)
	}
}

func TestScan_namesWhatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "pine"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("loop", filepath.Join(dir, "pine", "loop")); err != nil {
		t.Fatal(err)
	}
	_, err := operator.Scan(t.Context(), os.DirFS(dir))
	if err == nil || !strings.Contains(err.Error(), "read the catalog: pine/loop: too many levels") || hint.Of(err) == "" {
		t.Errorf("%v, hint %s", err, hint.Of(err))
	}
}

func TestSelect_versionThatIsNone(t *testing.T) {
	files := fstest.MapFS{"f.json": {Data: []byte(pinePackage + `{"schema":"olm.bundle","package":"pine","name":"pine.v1","properties":[{"type":"olm.package","value":{"packageName":"pine","version":"not-a-version"}}]}`)}}
	_, err := scan(t, files).Select(imageset.Operator{}, nil)
	if err == nil || !strings.HasSuffix(err.Error(), `has version "not-a-version": invalid semantic version`) {
		t.Error(err)
	}
}

func TestImages_faultsAreOfTheirBundle(t *testing.T) {
	files := catalog(t, "bad-images")
	s, err := scan(t, files).Select(imageset.Operator{Packages: []imageset.Package{{Name: "iguana", MinVersion: "1.0.0"}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	images, _, err := s.Images(context.Background(), files)
	if err != nil {
		t.Fatal(err)
	}
	var faulty []string
	for _, i := range images {
		if i.Fault != nil {
			faulty = append(faulty, i.Bundle)
		}
	}
	if !slices.Equal(faulty, []string{"iguana.v1.1.0", "iguana.v1.2.0", "iguana.v1.3.0"}) {
		t.Errorf("faults are of %v", faulty)
	}
	files = catalog(t, "odd")
	s, err = scan(t, files).Select(imageset.Operator{Packages: []imageset.Package{{Name: "sumac"}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	images, warnings, err := s.Images(context.Background(), files)
	if err != nil || len(images) != 3 || !images[2].IsBundle || len(warnings) != 1 {
		t.Errorf("a bundle that does not list itself has %v, %v, %v", images, warnings, err)
	}
}

func TestFiles_changedCatalogIsAnError(t *testing.T) {
	files := fstest.MapFS{"all.json": {Data: []byte(pineBundle + pinePackage + pineChannel)}}
	s, err := scan(t, files).Select(imageset.Operator{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	files["all.json"] = &fstest.MapFile{Data: []byte(pinePackage + pineBundle + pineChannel)}
	if _, _, err := s.Images(context.Background(), files); err == nil || !strings.Contains(err.Error(), "changed since it was read") {
		t.Errorf("images of another catalog: %v", err)
	}
}
