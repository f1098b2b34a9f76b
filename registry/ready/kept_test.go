package ready_test

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// What catalogs offer is kept by their digests: a second verdict reads no catalog, also after a restart, and is the
// same. What is damaged is read again, and so is a catalog that is another one now.
func TestJudge_keepsWhatCatalogsOffer(t *testing.T) {
	f := newFixture(t)
	f.catalog("v4.16", maxOpenShift("1.0.0", "4.16"))
	f.catalog("v4.18", nil)
	q := api.ReadyRequest{To: "4.18.2-x86_64", Cluster: f.cluster("", installed{"1.0.0", "stable", registry + "/" + index + ":v4.16"}), Keys: f.sample.ReleaseKey()}
	judge := func() (v api.Verdict, reads int) {
		t.Helper()
		read := map[string]bool{}
		v, err := f.judged(t.Context(), q, func(p api.ReadyProgress) {
			if strings.HasPrefix(p.Reads, "catalog ") {
				read[p.Reads] = true
			}
		})
		f.must(err)
		return v, len(read)
	}
	kept := func() []string {
		t.Helper()
		all, err := filepath.Glob(filepath.Join(f.dir, "read", "offers", "*"))
		f.must(err)
		return all
	}
	first, reads := judge()
	if f.answers(first, api.ReadyRisks, "operator-update", ""); reads != 2 || len(kept()) != 2 || len(first.Basis.Catalogs) != 2 {
		t.Errorf("the first verdict has read %d catalogs, and kept %d", reads, len(kept()))
	}
	again, reads := judge()
	again.Made = first.Made
	if reads != 0 || !reflect.DeepEqual(first, again) {
		t.Errorf("the second has read %d catalogs, and is %+v", reads, again)
	}
	text, err := os.ReadFile(kept()[0])
	f.must(err)
	f.must(os.WriteFile(kept()[0], []byte(strings.Replace(string(text), "stable", "stale1", 1)), 0o600))
	again, reads = judge()
	again.Made = first.Made
	if reads != 1 || !reflect.DeepEqual(first, again) {
		t.Errorf("of two files one is damaged, and %d catalogs were read:\n%s", reads, codes(again))
	}

	m, err := f.Manifests.ByTag(t.Context(), index, "v4.16")
	f.must(err)
	all := f.parts(index, m.Digest)
	f.lose(index, m.Digest, len(all)-1)
	if v, reads := judge(); v.Answer != api.ReadyNo || reads != 0 {
		t.Errorf("a layer of a catalog is lost: %s\n%s", v.Answer, codes(v))
	}
	before := kept()
	f.catalog("v4.16", maxOpenShift("", "4.16"))
	f.must(f.Manifests.Delete(t.Context(), index, m.Digest))
	v, reads := judge()
	if f.answers(v, api.ReadyNo, "operator-stuck", "OpenShift 4.17"); reads != 1 || len(kept()) != 2 || reflect.DeepEqual(before, kept()) {
		t.Errorf("another catalog: %d catalogs were read, and %q is kept", reads, kept())
	}
}
