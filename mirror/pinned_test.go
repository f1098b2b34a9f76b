package mirror_test

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/cmd/sample-upstream/sample"
	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/imageset"
)

const ofEverything = additional + database + `
  platform:
    channels:
    - {name: stable-4.18, minVersion: 4.18.2, maxVersion: 4.18.2}
  blockedImages:
  - {name: never}
`

// pinning writes pinned configurations, at a minute of the run's hour.
func pinning(minute int) options {
	return func(o *mirror.Options) {
		o.Pin, o.Now = true, func() time.Time { return time.Date(2026, 11, 20, 22, minute, 0, 0, time.UTC) }
	}
}

// pinned returns the configurations of the run at a minute, and checks that both are read.
func (s *setup) pinned(t *testing.T, minute string) (set, deletion *imageset.Config) {
	t.Helper()
	at := filepath.Join(s.workspace, "working-dir")
	set, err := imageset.Load(filepath.Join(at, "isc_pinned_2026-11-20T22:"+minute+":00Z.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if deletion, err = imageset.LoadDelete(filepath.Join(at, "disc_pinned_2026-11-20T22:"+minute+":00Z.yaml")); err != nil {
		t.Fatal(err)
	}
	return set, deletion
}

func (s *setup) runEverything(t *testing.T, change ...options) {
	t.Helper()
	if _, err := mirror.Run(t.Context(), s.options(t, ofEverything, append(change, s.beginning)...)); err != nil {
		t.Fatal(err)
	}
}

// moves makes the tag of the catalog name another image, and lets no tag of additional images be read.
func (s *setup) moves(t *testing.T) {
	t.Helper()
	index, ok := s.Manifest(sample.CatalogRepository, sample.CatalogTag)
	if !ok {
		t.Fatal("there is no catalog")
	}
	members, err := image.Parse(index.MediaType, index.Body)
	if err != nil {
		t.Fatal(err)
	}
	s.fails(func(w http.ResponseWriter, r *http.Request) bool {
		at, tagged := strings.CutSuffix(r.URL.Path, "/manifests/"+sample.CatalogTag)
		if tagged && strings.HasSuffix(at, sample.CatalogRepository) {
			r.URL.Path = at + "/manifests/" + members.References[0].Digest.String()
		}
		if gone := strings.Contains(r.URL.Path, "/samples/") && strings.HasSuffix(r.URL.Path, "/manifests/v1"); gone {
			w.WriteHeader(http.StatusNotFound)
			return true
		}
		return false
	})
}

// everything lists what tags name.
func (s *setup) everything(t *testing.T) (all []string) {
	t.Helper()
	for _, repo := range s.repositories(t) {
		for _, tag := range s.tags(t, repo) {
			m, err := s.store.Manifests.ByTag(t.Context(), repo, tag)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, repo+":"+tag+"@"+m.Digest.String())
		}
	}
	return all
}

// Spec: oc-mirror 2.5.
func TestRun_pinned(t *testing.T) {
	s := newSetup(t, ofEverything)
	s.runEverything(t, pinning(0))
	catalog := s.digest(t, sample.CatalogRepository, sample.CatalogTag)
	set, _ := s.pinned(t, "00")
	want := "# with the digests that were mirrored: isc.yaml\nkind: ImageSetConfiguration\napiVersion: mirror.openshift.io/v2alpha1\n"
	if text := string(set.Text); !strings.HasPrefix(text, want) || !strings.Contains(text, "targetTag: v4.18\n") ||
		!strings.Contains(text, "catalog: "+s.host+"/"+sample.CatalogRepository+"@"+catalog.String()+"\n") ||
		!strings.Contains(text, "name: "+s.host+"/samples/docker:v1@"+s.digest(t, "samples/docker", "v1").String()+"\n") ||
		!strings.Contains(text, "blockedImages:") {
		t.Errorf("the image set is\n%s", text)
	}
	resources := s.read(t, "cluster-resources", "cs-redhat-operator-index-v4-18.yaml")

	again := newSetupFrom(t, s.source, additional)
	s.moves(t)
	again.runEverything(t, pinning(0), func(o *mirror.Options) { o.Config, o.Pin = set, false })
	if got, want := again.everything(t), s.everything(t); !slices.Equal(got, want) {
		t.Errorf("mirrored again, there is\n%q, and was\n%q", got, want)
	}
	if got := again.read(t, "cluster-resources", "cs-redhat-operator-index-v4-18.yaml"); got != resources {
		t.Errorf("the catalog's source is\n%s, and was\n%s", got, resources)
	}
	for _, file := range []string{"itms-oc-mirror.yaml", "idms-oc-mirror.yaml"} {
		if got := again.read(t, "cluster-resources", file); !strings.Contains(got, s.host+"/samples\n") {
			t.Errorf("%s has no samples\n%s", file, got)
		}
	}
	if files := again.files(t); slices.ContainsFunc(files, func(f string) bool { return strings.Contains(f, "_pinned_") }) {
		t.Errorf("pinned unasked: %q", files)
	}
}

// What deletes a run's images deletes them after the tags have moved, and the image set that was
// pinned is the one that it was made of.
//
// Spec: oc-mirror 2.5, 3.10.
func TestDelete_pinned(t *testing.T) {
	s := newSetup(t, ofEverything)
	s.runEverything(t, pinning(0))
	set, deletion := s.pinned(t, "00")
	s.moves(t)
	s.runEverything(t, pinning(1), func(o *mirror.Options) { // the catalog alone: its tag names another one now
		o.Config = &imageset.Config{File: "isc.yaml", Text: o.Config.Text, Mirror: imageset.Mirror{Operators: o.Config.Mirror.Operators}}
	})
	if newer, _ := s.pinned(t, "01"); newer.Mirror.Operators[0].Catalog == set.Mirror.Operators[0].Catalog {
		t.Fatal("the tag has not moved")
	}
	s.runEverything(t, pinning(2), func(o *mirror.Options) { o.Config = set })
	if third, _ := s.pinned(t, "02"); !bytes.Equal(third.Text, set.Text) {
		t.Errorf("pinned again it is\n%s", third.Text)
	}
	o := s.options(t, additional, func(o *mirror.Options) { o.Config = deletion })
	d, err := mirror.PlanDelete(t.Context(), o, pruner{Store: s.store}, mirror.DeleteList{})
	if err != nil || d.Absent != 0 {
		t.Fatalf("%+v, %v", d, err)
	}
	if done, err := mirror.Delete(t.Context(), o, pruner{Store: s.store}, d.File, false); err != nil || len(done.Deleted) == 0 {
		t.Fatalf("%+v, %v", done, err)
	}
	left := s.everything(t)
	left = slices.DeleteFunc(left, func(i string) bool { return strings.HasPrefix(i, sample.CatalogRepository+":") })
	if len(left) != 0 {
		t.Errorf("there is still %q", left)
	}
}

// A catalog of the workspace is removed once no pinned configuration names it.
func TestRun_pinnedCatalogsStay(t *testing.T) {
	s := newSetup(t, database)
	run := func(minute int) {
		t.Helper()
		if _, err := mirror.Run(t.Context(), s.options(t, database, pinning(minute), s.beginning)); err != nil {
			t.Fatal(err)
		}
	}
	run(0)
	old := filepath.Join(s.workspace, "working-dir", "operator-catalogs", "redhat-operator-index",
		s.digest(t, sample.CatalogRepository, sample.CatalogTag).Encoded())
	s.moves(t)
	run(1)
	if _, err := os.Stat(old); err != nil {
		t.Errorf("the files of a pinned catalog are gone: %v", err)
	}
	for _, kind := range []string{"isc", "disc"} {
		if err := os.Remove(filepath.Join(s.workspace, "working-dir", kind+"_pinned_2026-11-20T22:00:00Z.yaml")); err != nil {
			t.Fatal(err)
		}
	}
	s.fails(nil)
	run(2)
	s.moves(t)
	for _, kind := range []string{"isc", "disc"} {
		if err := os.Remove(filepath.Join(s.workspace, "working-dir", kind+"_pinned_2026-11-20T22:02:00Z.yaml")); err != nil {
			t.Fatal(err)
		}
	}
	run(3)
	if _, err := os.Stat(old); err == nil {
		t.Error("the files of a catalog stay that nothing names")
	}
}
