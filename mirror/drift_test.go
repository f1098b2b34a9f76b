package mirror_test

import (
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/plan"
	"github.com/mirror-appliance/appliance/registry/store"
)

const twoImages = "  additionalImages:\n  - name: HOST/samples/docker:v1\n  - name: HOST/samples/oci:v1\n"

func (s *setup) drift(t *testing.T, config, name string) *mirror.Drift {
	t.Helper()
	d, err := mirror.FindDrift(t.Context(), s.named(t, config, name), pruner{Store: s.store})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (s *setup) named(t *testing.T, config, name string) mirror.Options {
	t.Helper()
	return s.options(t, config, s.beginning, func(o *mirror.Options) { o.Config.File = name })
}

func TestFindDrift_tellsWhatDiffers(t *testing.T) {
	s := newSetup(t, twoImages)
	if d := s.drift(t, twoImages, "a.yaml"); len(d.Missing) != 2 || d.Asked != 2 || d.Bytes == 0 || !d.Differs() {
		t.Errorf("before the first run: %+v", d)
	}
	s.mirrored(t, twoImages, "a.yaml")
	if d := s.drift(t, twoImages, "a.yaml"); d.Differs() {
		t.Errorf("after it: %+v", d)
	}
	was := s.digest(t, "samples/docker", "v1")
	if err := s.store.Tags.Delete(t.Context(), "samples/oci", "v1"); err != nil {
		t.Fatal(err)
	}
	body := []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`)
	other, err := s.store.Manifests.Put(t.Context(), "samples/docker", body, store.PutOptions{MediaType: "application/vnd.oci.image.index.v1+json", Tags: []string{"v1"}})
	if err != nil {
		t.Fatal(err)
	}
	if d := s.drift(t, twoImages, "a.yaml"); len(d.Missing) != 1 || len(d.Changed) != 1 || d.Changed[0].Digest != was || d.Changed[0].Was != other.Digest {
		t.Errorf("a tag that moved, and one that is gone: %+v", d)
	}
	if d := s.drift(t, "  additionalImages:\n  - name: HOST/samples/absent:v1\n", "a.yaml"); len(d.Failed) != 1 || len(d.Unasked) != 0 {
		t.Errorf("an image that cannot be planned: %+v", d)
	}
	if d := s.drift(t, "  additionalImages:\n  - name: HOST/samples/docker:v1\n", "a.yaml"); len(d.Unasked) != 1 ||
		!strings.HasSuffix(d.Unasked[0].Destination, "samples/oci:v1") {
		t.Errorf("an image less: %+v", d)
	}
	s.mirrored(t, "  additionalImages:\n  - name: HOST/samples/oci:v1\n", "b.yaml")
	if d := s.drift(t, "  additionalImages:\n  - name: HOST/samples/docker:v1\n", "a.yaml"); len(d.Unasked) != 0 {
		t.Errorf("another image set wants it: %+v", d)
	}
}

func TestPlanPrune_listsForDelete(t *testing.T) {
	const fewer = "  additionalImages:\n  - name: HOST/samples/docker:v1\n"
	s := newSetup(t, twoImages)
	prune := func(config string) (*mirror.Deletion, error) {
		return mirror.PlanPrune(t.Context(), s.named(t, config, "a.yaml"), pruner{Store: s.store}, mirror.DeleteList{ID: "prune"})
	}
	s.mirrored(t, twoImages, "a.yaml")
	if d, err := prune(twoImages); err != nil || len(d.Items) != 0 || d.File != "" {
		t.Errorf("nothing is too much: %+v, %v", d, err)
	}
	for config, want := range map[string]string{
		fewer + "  - name: HOST/samples/absent:v1\n":    "cannot be planned",
		fewer + "  - name: HOST/samples/oci-multi:v1\n": "not at the destination yet",
	} {
		if d, err := prune(config); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %+v, %v", want, d, err)
		}
	}
	d, err := prune(fewer)
	if err != nil || len(d.Items) != 1 || d.Absent != 0 || d.Bytes == 0 {
		t.Fatalf("%+v, %v", d, err)
	}
	done, err := mirror.Delete(t.Context(), s.named(t, fewer, "a.yaml"), pruner{Store: s.store}, d.File, false)
	if err != nil || len(done.Deleted) != 1 {
		t.Errorf("%+v, %v", done, err)
	}
	s.lacks(t, "samples/oci", "v1")
	s.holds(t, "samples/docker", "v1", s.digest(t, "samples/docker", "v1"))
	if again := s.drift(t, fewer, "a.yaml"); again.Differs() {
		t.Errorf("after it: %+v", again)
	}
}

// The catalog that a run makes has a tag, which may be gone or name another one. What that offers is
// not pruned.
func TestFindDrift_seesCatalogs(t *testing.T) {
	s := newSetup(t, database)
	s.mirrored(t, database, "a.yaml")
	if d := s.drift(t, database, "a.yaml"); d.Differs() {
		t.Errorf("after a run: %+v", d)
	}
	other := strings.Replace(database, "1.1.0", "1.2.0", 1)
	s.mirrored(t, other, "a.yaml")
	d := s.drift(t, database, "a.yaml")
	if len(d.Changed) != 1 || d.Changed[0].Type != plan.OperatorCatalog {
		t.Errorf("another catalog: %+v", d)
	}
	if err := s.store.Tags.Delete(t.Context(), "redhat/redhat-operator-index", "v4.18"); err != nil {
		t.Fatal(err)
	}
	if d := s.drift(t, other, "a.yaml"); len(d.Missing) != 1 || d.Missing[0].Type != plan.OperatorCatalog {
		t.Errorf("no catalog: %+v", d)
	}
	if d, err := mirror.PlanPrune(t.Context(), s.named(t, other, "a.yaml"), pruner{Store: s.store}, mirror.DeleteList{ID: "prune"}); err == nil {
		t.Errorf("a list while the catalog is gone: %+v", d)
	}
}
