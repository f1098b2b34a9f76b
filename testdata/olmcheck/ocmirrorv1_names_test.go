//go:build ocmirror

package olmcheck

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"sigs.k8s.io/yaml"
)

// The appliance gives what oc-mirror v1, which must be on PATH, gives with the same image set: tags, CatalogSources,
// policies and mapping.txt; directly, from its archives and from ours.
func TestOCMirrorV1_names(t *testing.T) {
	s := newSite(t)
	for of, set := range map[string]func(*testing.T, string) string{"registry": s.setOfRegistry, "layouts": s.setOfLayouts} {
		t.Run(of, func(t *testing.T) {
			dir := t.TempDir()
			c := &named{site: s, set: set(t, dir), dir: dir, below: of}
			carried, ours := filepath.Join(dir, "carried"), filepath.Join(dir, "ours")
			t.Run("directly", func(t *testing.T) {
				c.theirs(t, "direct", "-c", c.set)
				c.ours(t, "direct", "-c", c.set)
				c.compare(t, "direct", "direct", func(line string) bool { return strings.Contains(line, "oci-multi") }) // chance decides there
			})
			t.Run("from its archive", func(t *testing.T) {
				s.runOCMirror(t, filepath.Join(dir, "home"), append(flagsV1(), "-c", c.set, "file://"+carried)...)
				c.theirs(t, "archive", "--from", carried)
				c.ours(t, "archive", "--from", carried)
				c.compare(t, "archive", "archive", nil)
			})
			t.Run("from an archive of ours", func(t *testing.T) {
				s.mirror(t, "-c", c.set, "--v1", "file://"+ours)
				c.ours(t, "carried", "-c", c.set, "--from", ours)
				c.compare(t, "archive", "carried", nil)
			})
		})
	}
}

func flagsV1() []string {
	return []string{"--source-use-http", "--source-skip-tls", "--skip-verification"}
}

// named is an image set that both mirror, each below paths of its own.
type named struct {
	*site
	set, dir, below string
}

func (c *named) theirs(t *testing.T, way string, args ...string) {
	t.Helper()
	c.runOCMirror(t, filepath.Join(c.dir, "theirs", way), append(append(flagsV1(), args...), "docker://"+c.registry+"/theirs/"+c.below+"/"+way)...)
}

func (c *named) ours(t *testing.T, way string, args ...string) {
	t.Helper()
	c.mirror(t, append(args, "--v1", "docker://"+c.registry+"/ours/"+c.below+"/"+way, "--workspace", "file://"+filepath.Join(c.dir, "ours-workspaces", way))...)
}

// compare compares the results of two runs.
func (c *named) compare(t *testing.T, theirs, ours string, except func(line string) bool) {
	t.Helper()
	want := c.results(t, filepath.Join(c.dir, "theirs", theirs, "oc-mirror-workspace"), "theirs/"+c.below+"/"+theirs)
	got := c.results(t, filepath.Join(c.dir, "ours-workspaces", ours), "ours/"+c.below+"/"+ours)
	if len(want) < 10 {
		t.Errorf("oc-mirror has given %v", want)
	}
	for _, of := range []struct {
		whose     string
		has, lack []string
	}{{"only oc-mirror's", want, got}, {"only ours", got, want}} {
		for _, line := range of.has {
			if !slices.Contains(of.lack, line) && (except == nil || !except(line)) {
				t.Errorf("%s: %s", of.whose, line)
			}
		}
	}
}

// results returns what a run has given, with DEST for its path of the registry. Of catalogs whose names are alike
// chance decides in version 1 which number each has. Their lines of mapping.txt are left out: a source with the whole
// catalog would take the place of the filtered one, so that ours is the destination.
func (c *named) results(t *testing.T, workspace, path string) (all []string) {
	t.Helper()
	results, err := filepath.Glob(filepath.Join(workspace, "results-*", "*"))
	if err != nil || len(results) == 0 {
		t.Fatalf("the results are %v, %v", results, err)
	}
	catalogs := map[string]bool{}
	number := regexp.MustCompile(`-[0-9]\b`)
	for _, file := range results {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // a directory
		}
		said := strings.ReplaceAll(string(text), c.registry+"/"+path, "DEST")
		switch base := filepath.Base(file); {
		case strings.HasPrefix(base, "catalogSource-"):
			var source struct {
				Metadata struct{ Name string }
				Spec     struct{ Image string }
			}
			if err := yaml.Unmarshal([]byte(said), &source); err != nil {
				t.Fatal(err)
			}
			catalogs[source.Spec.Image] = true
			all = append(all, base, fmt.Sprintf("%s is %s", number.ReplaceAllString(source.Metadata.Name, ""), source.Spec.Image))
		case base == "mapping.txt":
			for line := range strings.Lines(said) {
				line = strings.TrimSpace(line)
				if _, to, _ := strings.Cut(line, "="); !catalogs[to] { // which come before, by their names
					all = append(all, line)
				}
			}
		case base == "imageContentSourcePolicy.yaml":
			all = append(all, said)
		}
	}
	for at := range c.images(t, path+"/") {
		if !strings.HasPrefix(at, "oc-mirror:") {
			all = append(all, "tag "+at)
		}
	}
	return all
}

const headV1 = "kind: ImageSetConfiguration\napiVersion: mirror.openshift.io/v1alpha2\nmirror:\n  operators:\n"

// operatorV1 is an entry of an operator catalog.
func operatorV1(catalog, more string) string {
	return fmt.Sprintf("  - {catalog: %q, packages: [{name: sample-database, channels: [{name: stable}]}]%s}\n", catalog, more)
}

func (s *site) setOfRegistry(t *testing.T, dir string) string {
	t.Helper()
	list, err := s.upstreamIndex(t, "samples/oci-multi:v1").IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	catalog, text := s.from+"/"+catalogName, headV1
	for _, more := range []string{"", ", targetTag: again", ", targetName: renamed", ", targetCatalog: mine/other/index, targetTag: v1", ", targetCatalog: flat"} {
		text += operatorV1(catalog, more)
	}
	text += operatorV1(s.from+"/redhat/redhat-operator-index@"+s.digest(t, catalogName), "") + "  additionalImages:\n"
	for _, image := range []string{"docker@" + s.digest(t, "samples/docker:v1"), "oci:v1", "oci-multi@" + list.Manifests[0].Digest.String(), "oci-multi@" + list.Manifests[1].Digest.String()} {
		text += "  - {name: '" + s.from + "/samples/" + image + "'}\n"
	}
	return write(t, filepath.Join(dir, "set.yaml"), text)
}

func (s *site) setOfLayouts(t *testing.T, dir string) string {
	t.Helper()
	at := filepath.Join(dir, "Layouts", "my-Index")
	to, err := layout.Write(at, empty.Index)
	if err == nil {
		err = to.AppendIndex(s.upstreamIndex(t, catalogName))
	}
	var index []byte
	if err == nil {
		index, err = os.ReadFile(filepath.Join(at, "index.json"))
	}
	if err != nil {
		t.Fatal(err)
	}
	// As skopeo of that time writes it. With a type of its own version 1 takes the file itself for the image.
	write(t, filepath.Join(at, "index.json"), regexp.MustCompile(`^(\{\s*"schemaVersion": ?2,)\s*"mediaType": ?"[^"]*",`).ReplaceAllString(string(index), "$1"))
	return write(t, filepath.Join(dir, "set.yaml"), headV1+operatorV1("oci://"+at, "")+operatorV1("oci://"+at, ", targetTag: v1")+
		operatorV1("oci://"+at, ", targetName: renamed, targetTag: v2")+operatorV1("oci://"+at, ", targetCatalog: mine/other/index, targetTag: v1"))
}

func (s *site) upstreamIndex(t *testing.T, image string) v1.ImageIndex {
	t.Helper()
	ref, err := name.ParseReference(s.from+"/"+image, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	index, err := remote.Index(ref)
	if err != nil {
		t.Fatal(err)
	}
	return index
}
