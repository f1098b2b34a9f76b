//go:build ocmirror

package olmcheck

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// The archives of oc-mirror v1, which must be on PATH, are published by it and by the appliance: what it has at the
// registry afterwards the appliance has too, except that catalogs are made by our rules, and opm serves them.
func TestOCMirrorV1(t *testing.T) {
	s, opm, dir := newSite(t), opmProgram(t), t.TempDir()
	set := filepath.Join(dir, "set.yaml")
	for n, part := range []struct{ newest, bundles string }{{"4.18.1", "stable sample-database.v1.2.0"}, {"4.18.2", wantBundles}} {
		lowest := []string{"1.2.0", "1.1.0"}[n]
		write(t, set, fmt.Sprintf(`kind: ImageSetConfiguration
apiVersion: mirror.openshift.io/v1alpha2
storageConfig: {local: {path: %q}}
mirror:
  platform: {architectures: [amd64], channels: [{name: stable-4.18, minVersion: 4.18.1, maxVersion: %s}]}
  operators: [{catalog: %q, packages: [{name: sample-database, channels: [{name: stable, minVersion: %s}]}]}]
  additionalImages: [{name: '%s/samples/docker:v1'}]
  helm: {repositories: [{name: sample, url: 'http://%[5]s/charts', charts: [{name: sample-app, version: 1.0.0}]}]}
`, filepath.Join(dir, "history"), part.newest, s.from+"/"+catalogName, lowest, s.from))
		archive := filepath.Join(dir, fmt.Sprint("archive", n+1))
		s.runOCMirror(t, filepath.Join(dir, "home"), "-c", set, "file://"+archive, "--source-use-http", "--source-skip-tls", "--skip-verification", "--continue-on-error")
		s.runOCMirror(t, filepath.Join(dir, "home"), "--from", archive, "docker://"+s.registry+"/theirs")
		s.mirror(t, "--v1", "--from", archive, "docker://"+s.registry+"/ours", "--workspace", "file://"+filepath.Join(dir, fmt.Sprint("workspace", n+1)))

		theirs, ours := s.images(t, "theirs/"), s.images(t, "ours/")
		if len(theirs) < 10 {
			t.Errorf("oc-mirror has published %v", theirs)
		}
		made := regexp.MustCompile(`^(redhat/redhat-operator-index|oc-mirror):`) // with another digest
		for at, want := range theirs {
			if got := ours[at]; got == "" || got != want && !made.MatchString(at) {
				t.Errorf("sequence %d: %s is %s, and %s by oc-mirror", n+1, at, got, want)
			}
		}
		packages, bundles, err := serve(t, opm, catalogSource{}.command(t, s.pull(t, s.registry+"/ours/"+catalogName)))
		if err != nil || packages != wantPackages || bundles != part.bundles {
			t.Errorf("sequence %d: opm serves packages %s with bundles %s: %v", n+1, packages, bundles, err)
		}
	}
	charts, err := filepath.Glob(filepath.Join(dir, "workspace2", "results-*", "charts", "sample-app-1.0.0.tgz"))
	if err != nil || len(charts) != 1 {
		t.Errorf("the charts are %v, %v", charts, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "workspace2", "working-dir")); err != nil {
		t.Error(err)
	}
}

// images returns the digests of all tags of the registry below a path, by repository:tag.
func (s *site) images(t *testing.T, below string) map[string]string {
	t.Helper()
	registry, err := name.NewRegistry(s.registry)
	if err != nil {
		t.Fatal(err)
	}
	repositories, err := remote.Catalog(t.Context(), registry, s.options(t)...)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, repository := range repositories {
		path, ok := strings.CutPrefix(repository, below)
		if !ok {
			continue
		}
		tags, err := remote.List(registry.Repo(repository), s.options(t)...)
		if err != nil {
			t.Fatal(err)
		}
		for _, tag := range tags {
			all[path+":"+tag] = s.served(t, s.registry+"/"+repository+":"+tag)
		}
	}
	return all
}
