package olmcheck

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/operator-framework/operator-registry/alpha/declcfg"

	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/operator/operatortest"
	"github.com/mirror-appliance/appliance/testdata"
)

var catalogs = flag.Int("catalogs", 2000, "how many random catalogs are compared")

type testCase struct {
	Name, Catalog string
	Operator      imageset.Operator
	Result        struct{ Error, OLMInvalid string }
}

func readJSON(t *testing.T, name string, to any) {
	t.Helper()
	text, err := testdata.FS.ReadFile("operator/" + name)
	if err == nil {
		err = json.Unmarshal(text, to)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// The recorded cases are what the library leaves, and ours is the same, but where ours.json says
// otherwise. opm takes what ours leaves, unless the catalog itself has a fault.
func TestCases_libraryAndOursAgree(t *testing.T) {
	var cases []testCase
	var better []struct {
		Name string
		Same bool
	}
	readJSON(t, "cases.json", &cases)
	readJSON(t, "ours.json", &better)
	differs := map[string]bool{"pkg-twice": true} // oc-mirror itself refuses that, not its library
	for _, b := range better {
		differs[b.Name] = !b.Same
	}
	faulty := map[string]bool{} // ours keeps upstream's faults, with a warning
	for _, name := range []string{"odd", "two-heads", "twice", "no-version", "bad-images", "no-package-blob", "empty-channel"} {
		faulty[name] = true
	}
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			files, err := fs.Sub(testdata.FS, "operator/catalogs/"+c.Catalog)
			if err != nil {
				t.Fatal(err)
			}
			compare(t, files, c.Operator, differs[c.Name], faulty[c.Catalog])
		})
	}
}

// compare fails the test where ours and the library differ, and where opm refuses ours.
func compare(t *testing.T, files fs.FS, ask imageset.Operator, differs, faulty bool) {
	t.Helper()
	ctx := context.Background()
	theirs, theirErr := oc(ctx, files, ask)
	mine, _, myErr := ours(ctx, files, ask, nil)
	if myErr == nil && !faulty {
		if err := opmTakes(ctx, mine); err != nil {
			t.Errorf("opm refuses ours: %v", err)
		}
	}
	if differs {
		return
	}
	if theirErr == nil && len(theirs.Bundles) == 0 {
		theirErr = fmt.Errorf("no related images found")
	}
	if (myErr == nil) != (theirErr == nil) {
		t.Fatalf("ours: %v; the library: %v", myErr, theirErr)
	}
	if myErr != nil {
		return
	}
	loaded, err := declcfg.LoadFS(ctx, mine)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := summary(loaded), summary(theirs); got != want {
		t.Errorf("ours is\n%s\nthe library's is\n%s", got, want)
	}
}

// Catalogs whose channels do not lead out of themselves are filtered as the library does, wherever
// opm takes what the library leaves.
func TestRandom_sameAsLibrary(t *testing.T) {
	compared := 0
	for seed := range *catalogs {
		m := operatortest.New(t, uint64(seed), true)
		files, versions := m.Catalog()
		ask := m.Ask(versions)
		ctx := context.Background()
		if opmTakes(ctx, files) != nil {
			continue
		}
		theirs, theirErr := oc(ctx, files, ask)
		differs := theirErr == nil && modelTakes(theirs) != nil || theirErr != nil && betterThan(theirErr, ask) || sameVersions(versions)
		if !differs {
			compared++
		}
		if !t.Run(fmt.Sprint(seed), func(t *testing.T) { compare(t, files, ask, differs, false) }) {
			t.Fatal(describe(files, ask))
		}
	}
	t.Logf("%d of %d compared", compared, *catalogs)
	if compared < *catalogs/3 {
		t.Errorf("only %d of %d catalogs were compared", compared, *catalogs)
	}
}

// betterThan reports whether ours need not fail where the library does: the library takes the
// catalog's own default channel for the package's although the entry names another.
func betterThan(err error, ask imageset.Operator) bool {
	if !strings.Contains(err.Error(), "results in an empty channel") {
		return false
	}
	for _, p := range ask.Packages {
		if p.DefaultChannel != "" {
			return true
		}
	}
	return false
}

// sameVersions reports whether two versions differ in build metadata only: of these the library
// takes any.
func sameVersions(versions map[string][]string) bool {
	for _, list := range versions {
		seen := map[string]bool{}
		for _, v := range list {
			plain, _, _ := strings.Cut(v, "+")
			if seen[plain] {
				return true
			}
			seen[plain] = true
		}
	}
	return false
}

func describe(files fstest.MapFS, ask imageset.Operator) string {
	text, _ := json.Marshal(ask)
	out := string(text) + "\n"
	for name, f := range files {
		out += name + "\n" + string(f.Data)
	}
	return out
}

// opm takes whatever ours leaves of a catalog that it takes, with and without bundles that lack.
func TestRandom_opmTakesOurs(t *testing.T) {
	taken := 0
	for seed := range *catalogs {
		m := operatortest.New(t, uint64(seed), false)
		files, versions := m.Catalog()
		ask := m.Ask(versions)
		ctx := context.Background()
		if opmTakes(ctx, files) != nil {
			continue
		}
		lacks := func(pkg, bundle string) bool { return false }
		if seed%2 == 1 {
			lacks = func(pkg, bundle string) bool { return (len(bundle)*7+int(bundle[len(bundle)-1])+seed)%3 == 0 }
		}
		out, _, err := ours(ctx, files, ask, lacks)
		if err != nil {
			continue
		}
		taken++
		if err := opmTakes(ctx, out); err != nil {
			t.Fatalf("seed %d: opm refuses ours: %v\n%s\nours:\n%s", seed, err, describe(files, ask), describe(out, ask))
		}
	}
	t.Logf("%d of %d left something", taken, *catalogs)
	if taken < *catalogs/3 {
		t.Errorf("only %d of %d catalogs left something", taken, *catalogs)
	}
}

// The program itself says the same as its library.
func TestOPM_validates(t *testing.T) {
	files, err := fs.Sub(testdata.FS, "operator/catalogs/trees")
	if err != nil {
		t.Fatal(err)
	}
	ask := imageset.Operator{Packages: []imageset.Package{{Name: "alder", MaxVersion: "1.1.0"}, {Name: "gum", MinVersion: "1.5.0"}}}
	out, _, err := ours(context.Background(), files, ask, nil)
	if err != nil {
		t.Fatal(err)
	}
	program := opmProgram(t)
	opm := func(args ...string) ([]byte, error) { return exec.Command(program, args...).CombinedOutput() }
	dir := t.TempDir()
	if err := os.CopyFS(dir, out); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"validate", dir}, {"render", dir}} {
		if text, err := opm(args...); err != nil {
			t.Errorf("opm %v: %v\n%s", args, err, text)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "broken.json"), []byte(`{"schema":"olm.channel","package":"alder","name":"x"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if text, err := opm("validate", dir); err == nil {
		t.Errorf("opm validate takes a channel without entries: %s", text)
	}
}

// opmProgram builds opm, which go.mod names as a tool. go tool would build its image libraries with
// cgo.
func opmProgram(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "opm")
	c := exec.Command("go", "build", "-tags", "containers_image_openpgp", "-o", program, "github.com/operator-framework/operator-registry/cmd/opm")
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := c.CombinedOutput(); err != nil {
		t.Fatalf("build opm: %v\n%s", err, text)
	}
	return program
}
