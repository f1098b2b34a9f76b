package retain

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/cluster/state"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/store"
)

// A pass looks at a cluster again when what it names by tag, or a release of it, has changed, and when it is attached anew.
func TestClusters_passAfterChanges(t *testing.T) {
	dir := t.TempDir()
	s, err := store.Open(context.Background(), store.Options{Database: filepath.Join(dir, "db"), Storage: filepath.Join(dir, "storage")})
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(err)
	t.Cleanup(func() { must(s.Close()) })
	ctx := t.Context()
	images := map[string]digest.Digest{}
	push := func(name string, tags ...string) {
		t.Helper()
		body := fmt.Sprintf(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[],"annotations":{"name":%q}}`, name)
		m, err := s.Manifests.Put(ctx, "a/b", []byte(body), store.PutOptions{Tags: tags})
		must(err)
		images[name] = m.Digest
	}
	c := New(Options{Store: s, Registry: "registry.test:8443", Log: slog.New(slog.DiscardHandler)})
	release := digest.FromString("a release")
	attach := func(named ...string) {
		t.Helper()
		_, err := c.Attach(ctx, api.AttachRequest{Facts: state.Facts{ID: "c-1", Version: "4.18.2", Images: named,
			Releases: []state.Release{{Version: "4.18.2", Image: "quay.io/openshift-release-dev/ocp-release@" + release.String()}}}})
		must(err)
	}
	keeps := func(what, want string) {
		t.Helper()
		_, err := c.each(ctx, (*pass).keep)
		must(err)
		var all []string
		for name, d := range images {
			by, err := s.Clusters.Keeping(ctx, "a/b", d)
			must(err)
			if len(by) > 0 {
				all = append(all, name)
			}
		}
		slices.Sort(all)
		if got := strings.Join(all, " "); got != want {
			t.Errorf("%s: it keeps %q, not %q", what, got, want)
		}
	}

	push("component")
	attach("registry.test:8443/a/b:v1")
	keeps("nothing is here", "")
	push("one", "v1")
	keeps("its tag has come", "one")
	push("two", "v1")
	keeps("its tag has moved", "two")
	was := c.settled["c-1"]
	push("other", "v2")
	keeps("another tag has come", "two")
	if c.settled["c-1"] != was {
		t.Error("the cluster was read anew for a change that is not about it")
	}
	text, err := json.Marshal([]digest.Digest{images["component"]})
	must(err)
	must(s.SetNote(ctx, noted+release.String(), string(text))) // as once it can be read
	keeps("its release is known", "component two")
	attach("registry.test:8443/a/b@" + images["one"].String())
	keeps("it runs another image", "component one")
	must(c.Detach(ctx, "c-1"))
	keeps("it is detached", "")
}
