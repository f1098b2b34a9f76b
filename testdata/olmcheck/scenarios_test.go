package olmcheck

import (
	"cmp"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/operator-framework/operator-registry/alpha/declcfg"
	"sigs.k8s.io/yaml"

	"github.com/mirror-appliance/appliance/cmd/sample-upstream/sample"
)

// A scenario is an entry of mirror.operators, and what opm and catalogd find in its catalog.
type scenario struct {
	catalog  string // the upstream's if empty
	entry    string // fields beside the catalog, in YAML's flow style
	at       string // where it is, if the entry says so: scenarios/NAME:TAG otherwise
	defaults string // default channels of the packages
	bundles  string // with their channels, as opm lists them
	arch     string // amd64 if empty
}

const (
	bothDefaults = "sample-database stable, sample-logging stable-5.9"
	database     = "sample-database stable"
	heads        = "fast sample-database.v2.0.0, stable sample-database.v1.2.0, stable-5.8 sample-logging.v5.8.1, stable-5.9 sample-logging.v5.9.0"
	all          = "fast sample-database.v1.2.0, fast sample-database.v2.0.0, stable sample-database.v1.0.0, stable sample-database.v1.1.0, stable sample-database.v1.2.0, stable-5.8 sample-logging.v5.8.0, stable-5.8 sample-logging.v5.8.1, stable-5.9 sample-logging.v5.8.0, stable-5.9 sample-logging.v5.9.0"
)

// scenarios are those of a filter (spec: oc-mirror 5.2, 5.3), and of where a catalog comes from and
// goes to. What they leave was worked out by hand from the channels in sample's catalog.go.
func scenarios(template string) map[string]scenario {
	return map[string]scenario{
		"bare":  {"", "", "", bothDefaults, heads, ""},
		"full":  {"", "full: true", "", bothDefaults, all, ""},
		"heads": {"", "packages: [{name: sample-database}, {name: sample-logging}]", "", bothDefaults, heads, ""},
		"package-full": {"", "full: true, packages: [{name: sample-logging}]", "", "sample-logging stable-5.9",
			"stable-5.8 sample-logging.v5.8.0, stable-5.8 sample-logging.v5.8.1, stable-5.9 sample-logging.v5.8.0, stable-5.9 sample-logging.v5.9.0", ""},
		"channel": {"", "packages: [{name: sample-database, channels: [{name: stable}]}]", "", database, "stable sample-database.v1.2.0", ""},
		"channel-full": {"", "full: true, packages: [{name: sample-database, channels: [{name: stable}]}]", "", database,
			"stable sample-database.v1.0.0, stable sample-database.v1.1.0, stable sample-database.v1.2.0", ""},
		"default-channel": {"", "packages: [{name: sample-database, defaultChannel: fast, channels: [{name: fast}]}]", "",
			"sample-database fast", "fast sample-database.v2.0.0", ""},
		"package-range": {"", "packages: [{name: sample-database, minVersion: 1.1.0, maxVersion: 1.2.0}]", "", database,
			"fast sample-database.v1.2.0, stable sample-database.v1.1.0, stable sample-database.v1.2.0", ""},
		"package-min": {"", "packages: [{name: sample-database, minVersion: 1.2.0}]", "", database,
			"fast sample-database.v1.2.0, fast sample-database.v2.0.0, stable sample-database.v1.2.0", ""},
		"channel-max": {"", "packages: [{name: sample-database, channels: [{name: stable, maxVersion: 1.1.0}, {name: fast}]}]", "", database,
			"fast sample-database.v2.0.0, stable sample-database.v1.0.0, stable sample-database.v1.1.0", ""},
		// fast has nothing below 1.2
		"short-bound": {"", `packages: [{name: sample-database, maxVersion: "1.1"}]`, "", database,
			"stable sample-database.v1.0.0, stable sample-database.v1.1.0", ""},
		// stable-5.9 skips 5.8.1, and does not list it
		"range-of-skips": {"", "packages: [{name: sample-logging, minVersion: 5.8.1}]", "", "sample-logging stable-5.9",
			"stable-5.8 sample-logging.v5.8.1, stable-5.9 sample-logging.v5.9.0", ""},
		"one-version": {"", "packages: [{name: sample-database, minVersion: 1.1.0, maxVersion: 1.1.0}]", "", database, "stable sample-database.v1.1.0", ""},
		"bundles": {"", "packages: [{name: sample-database, bundles: [{name: sample-database.v1.1.0}, {name: sample-database.v1.2.0}]}]", "", database,
			"fast sample-database.v1.2.0, stable sample-database.v1.1.0, stable sample-database.v1.2.0", ""},
		"platforms":      {"", "platforms: [{os: linux, architecture: arm64}]", "", bothDefaults, heads, "arm64"},
		"target-tag":     {"", "targetTag: tagged, packages: [{name: sample-database}]", "scenarios/target-tag:tagged", database, "fast sample-database.v2.0.0, stable sample-database.v1.2.0", ""},
		"template":       {"", "targetCatalogSourceTemplate: " + template, "", bothDefaults, heads, ""},
		"oci":            {"oci://", "", "scenarios/oci:latest", bothDefaults, heads, ""},
		"oci-full":       {"oci://", "full: true", "scenarios/oci-full:latest", bothDefaults, all, ""},
		"directory":      {"dir://", "packages: [{name: sample-logging}]", "scenarios/directory:latest", "sample-logging stable-5.9", "stable-5.8 sample-logging.v5.8.1, stable-5.9 sample-logging.v5.9.0", ""},
		"directory-full": {"dir://", "full: true", "scenarios/directory-full:latest", bothDefaults, all, ""},
	}
}

// TestOPM_takesEveryScenario: whatever the filter of a catalog, wherever it comes from, catalogd and
// opm find in what is pulled from an appliance what the filter leaves, and opm takes it.
func TestOPM_takesEveryScenario(t *testing.T) {
	s, opm, dir := newSite(t), opmProgram(t), t.TempDir()
	template := write(t, filepath.Join(dir, "template.yaml"), "apiVersion: operators.coreos.com/v1alpha1\nkind: CatalogSource\nspec:\n  displayName: Of a template\n")
	oci, configs := s.onDisk(t)
	text := "kind: ImageSetConfiguration\napiVersion: mirror.openshift.io/v2alpha1\nmirror:\n  operators:\n"
	table := scenarios(template)
	for _, title := range slices.Sorted(maps.Keys(table)) {
		c := table[title]
		catalog := map[string]string{"": s.from + "/" + catalogName, "oci://": "oci://" + oci, "dir://": "dir://" + configs}[c.catalog]
		text += "  - {catalog: '" + catalog + "', targetCatalog: scenarios/" + title
		if c.entry != "" {
			text += ", " + c.entry
		}
		text += "}\n"
	}
	s.mirror(t, "-c", write(t, filepath.Join(dir, "set.yaml"), text), "docker://"+s.registry, "--workspace", "file://"+dir)
	for title, c := range table {
		t.Run(title, func(t *testing.T) {
			ref := "scenarios/" + title + ":" + sample.CatalogTag
			if c.at != "" {
				ref = c.at
			}
			s.finds(t, opm, ref, c)
		})
	}
	t.Run("unchanged", func(t *testing.T) {
		for _, full := range []string{"scenarios/full:" + sample.CatalogTag, "scenarios/oci-full:latest"} {
			if got, want := s.served(t, s.registry+"/"+full), s.digest(t, catalogName); got != want {
				t.Errorf("%s is %s, and the upstream's %s", full, got, want)
			}
		}
	})
	t.Run("its platform alone", func(t *testing.T) { s.servesPlatform(t, "scenarios/platforms:"+sample.CatalogTag, "arm64") })
	t.Run("its template", func(t *testing.T) {
		var source struct {
			Spec struct{ DisplayName, Image string }
		}
		written, err := os.ReadFile(filepath.Join(dir, "working-dir", "cluster-resources", "cs-template-v4-18.yaml"))
		if err == nil {
			err = yaml.Unmarshal(written, &source)
		}
		if err != nil || source.Spec.DisplayName != "Of a template" || source.Spec.Image != s.registry+"/scenarios/template:"+sample.CatalogTag {
			t.Errorf("the CatalogSource is\n%s%v", written, err)
		}
	})
}

// onDisk returns the upstream's catalog as an OCI layout and as a directory of its files.
func (s *site) onDisk(t *testing.T) (oci, configs string) {
	t.Helper()
	ref, err := name.ParseReference(s.from+"/"+catalogName, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	index, err := remote.Index(ref)
	if err != nil {
		t.Fatal(err)
	}
	oci = t.TempDir()
	path, err := layout.Write(oci, empty.Index)
	if err == nil {
		err = path.AppendIndex(index)
	}
	if err != nil {
		t.Fatal(err)
	}
	image, err := remote.Image(ref)
	if err != nil {
		t.Fatal(err)
	}
	return oci, filepath.Join(extract(t, image), "configs")
}

// finds compares a catalog of the appliance with what a filter leaves: unpacked as catalogd does,
// and served by opm as the image asks for, or from its directory where the image cannot, and with a
// cache that is made at the start.
func (s *site) finds(t *testing.T, opm, ref string, want scenario) {
	t.Helper()
	image := s.pull(t, s.registry+"/"+ref, remote.WithPlatform(v1.Platform{OS: "linux", Architecture: cmp.Or(want.arch, "amd64")}))
	dir := os.DirFS(filepath.Join(unpack(t, image), "configs"))
	if err := opmTakes(t.Context(), dir); err != nil {
		t.Errorf("opm validate: %v", err)
	}
	found, err := declcfg.LoadFS(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	var defaults, packages []string
	for _, p := range found.Packages {
		defaults, packages = append(defaults, p.Name+" "+p.DefaultChannel), append(packages, p.Name)
	}
	slices.Sort(defaults)
	slices.Sort(packages)
	if got := strings.Join(defaults, ", "); got != want.defaults {
		t.Errorf("catalogd has %s, not %s", got, want.defaults)
	}
	if got := renders(found); got != want.bundles {
		t.Errorf("catalogd has bundles %s, not %s", got, want.bundles)
	}
	for _, args := range commands(t, opm, image, want) {
		served, bundles, err := serve(t, opm, args)
		if err != nil {
			t.Error(err)
		} else if served != strings.Join(packages, ", ") || bundles != want.bundles {
			t.Errorf("opm serves packages %s with bundles %s, not %s", served, bundles, want.bundles)
		}
	}
}

// renders is what opm serves of a catalog: the bundles that are there, by the channels that list
// them.
func renders(c *declcfg.DeclarativeConfig) string {
	var listed []string
	for _, channel := range c.Channels {
		for _, e := range channel.Entries {
			if slices.ContainsFunc(c.Bundles, func(b declcfg.Bundle) bool { return b.Package == channel.Package && b.Name == e.Name }) {
				listed = append(listed, channel.Name+" "+e.Name)
			}
		}
	}
	slices.Sort(listed)
	return strings.Join(listed, ", ")
}

// commands returns how opm is started: as the image wants it, and with a cache, which is made
// before as for the image of a catalog. A catalog that is unchanged keeps the stale cache of the
// sample's, and one that was made of a directory has no opm: OLM v0 serves a copy of their files.
func commands(t *testing.T, opm string, image v1.Image, of scenario) [][]string {
	t.Helper()
	served := []string{"serve", filepath.Join(extract(t, image), "configs")}
	cached := append(slices.Clone(served), "--cache-dir="+t.TempDir())
	made := append(slices.Clone(cached), "--cache-only", "--termination-log", filepath.Join(t.TempDir(), "log"))
	if text, err := exec.Command(opm, made...).CombinedOutput(); err != nil {
		t.Errorf("opm makes no cache: %v\n%s", err, text)
	}
	if of.catalog == "dir://" || of.entry == "full: true" {
		return [][]string{served, cached}
	}
	return [][]string{catalogSource{}.command(t, image), cached}
}

// servesPlatform checks that a tag of the appliance names an index of which one platform is there.
func (s *site) servesPlatform(t *testing.T, image, arch string) {
	t.Helper()
	ref, err := name.ParseReference(s.registry + "/" + image)
	if err != nil {
		t.Fatal(err)
	}
	index, err := remote.Index(ref, s.options(t)...)
	if err != nil {
		t.Fatal(err)
	}
	list, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	var there []string
	for _, m := range list.Manifests {
		if _, err := remote.Head(ref.Context().Digest(m.Digest.String()), s.options(t)...); err == nil {
			there = append(there, m.Platform.Architecture)
		}
	}
	if len(there) != 1 || there[0] != arch {
		t.Errorf("of the platforms %v are there, not %s", there, arch)
	}
}
