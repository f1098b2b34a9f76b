package retain

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/cluster/state"
	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/operator"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/store"
)

// unreadable are catalogs that cannot be read.
type unreadable struct {
	Catalogs
	asked int
}

func (u *unreadable) Uses(context.Context, mirror.Place) (map[string][]operator.Bundle, error) {
	u.asked++
	return nil, errors.New("its layer is not here")
}

// A catalog takes seconds until it is known that it cannot be read, and a fleet has thousands of operators from it.
func TestClusters_readsACatalogOnceInAPass(t *testing.T) {
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
	body := `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`
	_, err = s.Manifests.Put(t.Context(), "a/index", []byte(body), store.PutOptions{Tags: []string{"v4.18"}})
	must(err)
	u := &unreadable{}
	c := New(Options{Store: s, Registry: "registry.test:8443", Catalogs: u, Log: slog.New(slog.DiscardHandler)})
	for _, id := range []string{"c-1", "c-2"} {
		_, err := c.Attach(t.Context(), api.AttachRequest{Facts: state.Facts{ID: id, Version: "4.18.2",
			ClusterCatalogs: []state.ClusterCatalog{{Name: "ours", Image: "registry.test:8443/a/index:v4.18"}},
			Extensions:      []state.Extension{{Name: "one", Package: "one", Bundle: "one.v1"}, {Name: "two", Package: "two", Bundle: "two.v1"}}}})
		must(err)
	}
	u.asked = 0
	all, err := c.List(t.Context())
	must(err)
	if u.asked != 1 {
		t.Errorf("the catalog was read %d times", u.asked)
	}
	for _, told := range all {
		if text := strings.Join(told.Problems, "\n"); strings.Count(text, "its layer is not here") != 2 {
			t.Errorf("%s is told: %s", told.ID, text)
		}
	}
}
