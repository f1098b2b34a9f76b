package registry_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/config"
)

// newCatalogSync returns a sync of a catalog, whole, and of one of its operators, and what writes its image
// set: the operator's versions from one on.
func newCatalogSync(t *testing.T) (source string, set config.Sync, write func(from string)) {
	source, dir := newSample(t), t.TempDir()
	set = config.Sync{ImageSet: filepath.Join(dir, "set.yaml"), Workspace: filepath.Join(dir, "ws"), Interval: time.Hour}
	return source, set, func(from string) {
		text := `kind: ImageSetConfiguration
apiVersion: mirror.openshift.io/v2alpha1
mirror:
  additionalImages:
  - {name: HOST/redhat/redhat-operator-index:v4.18, targetRepo: originals/index, targetTag: v4.18}
  operators:
  - catalog: HOST/redhat/redhat-operator-index:v4.18
    packages: [{name: sample-database, channels: [{name: stable, minVersion: FROM}]}]
`
		must(t, os.WriteFile(set.ImageSet, []byte(strings.NewReplacer("HOST", source, "FROM", from).Replace(text)), 0o600))
	}
}

// TestCatalogs_followByThemselves has a daemon that syncs, deletes, collects and rolls back, and a
// client that has pinned an old digest.
func TestCatalogs_followByThemselves(t *testing.T) {
	_, set, write := newCatalogSync(t)
	view := config.Catalog{Name: "views/db:v1", Original: "originals/index:v4.18", Keep: time.Hour,
		Packages: []imageset.Package{{Name: "sample-database", MinVersion: "1.0.0", Channels: []imageset.PackageChannel{{Name: "stable"}}}}}
	broken := config.Catalog{Name: "views/broken:v1", Original: "originals/absent:v1", Keep: time.Hour}
	r := start(t, func(c *config.Config) { c.Sync, c.Catalogs = []config.Sync{set}, []config.Catalog{broken, view} })
	wait := func(what string, ok func(api.CatalogView) bool) api.CatalogView {
		t.Helper()
		var last api.CatalogView
		for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
			s, err := r.admin.Status(t.Context())
			must(t, err)
			if last = s.Catalogs[1]; ok(last) {
				return last
			}
		}
		t.Fatalf("%s: the view stays %+v", what, last)
		return last
	}

	write("1.1.0")
	r.mirrored(t, set, true)
	pinned := wait("a sync", func(v api.CatalogView) bool { return v.Bundles == 2 }).Digest
	write("1.0.0")
	r.mirrored(t, set, true)
	full := wait("a second sync", func(v api.CatalogView) bool { return v.Bundles == 3 })
	reason := wait("the sync", func(v api.CatalogView) bool { return true }).Reason
	if !strings.Contains(reason, "sample-database.v1.0.0 came") {
		t.Errorf("the reason is %q", reason)
	}

	_, tags := r.as(t, "pull", http.MethodGet, "/v2/operators/sample-database-bundle/tags/list")
	tag := tags[strings.LastIndex(tags, "sha256-"):][:71]
	if status, text := r.as(t, "admin", http.MethodDelete, "/v2/operators/sample-database-bundle/manifests/"+strings.Replace(tag, "-", ":", 1)); status != http.StatusAccepted {
		t.Fatalf("delete: %d %s", status, text)
	}
	less := wait("a delete", func(v api.CatalogView) bool { return v.Digest != full.Digest })
	if less.Bundles >= 3 || len(less.LeftOut) == 0 || !strings.Contains(less.LeftOut[0].Reason, "absent from operators/sample-database-bundle") {
		t.Errorf("after a delete: %+v", less)
	}
	none := api.Duration(0)
	_, err := r.admin.GC(t.Context(), api.GCRequest{GracePeriod: &none}, nil)
	must(t, err)
	if status, text := r.as(t, "pull", http.MethodGet, "/v2/views/db/manifests/"+pinned.String()); status != http.StatusOK {
		t.Errorf("the old digest is answered %d %s", status, text)
	}

	past, err := r.admin.PastSyncs(t.Context(), api.PastRequest{})
	must(t, err)
	if past[0].ID != less.Run || !strings.HasPrefix(past[0].Name, "catalog views/db:v1: ") {
		t.Errorf("the last run is %+v, the view's %s", past[0], less.Run)
	}
	_, err = r.admin.Rollback(t.Context(), less.Run, api.RollbackRequest{Force: true}) // of a bundle that is gone
	must(t, err)
	wait("a rollback", func(v api.CatalogView) bool { return v.RolledBack && v.Digest == full.Digest })
	r = r.restart(t)
	_, err = r.admin.Catalogs(t.Context(), nil) // beside the pass of the start
	must(t, err)
	wait("a restart", func(v api.CatalogView) bool { return v.RolledBack && v.Digest == full.Digest })

	s, err := r.admin.Status(t.Context())
	must(t, err)
	if len(s.Trouble) == 0 || !strings.Contains(s.Trouble[0].Problem, "view views/broken:v1: the original originals/absent:v1 is not in this registry") || s.Trouble[0].Hint == "" {
		t.Errorf("a view that is broken is no trouble: %+v", s.Trouble)
	}
	if kept, err := filepath.Glob(r.cfg.Database + ".*/*/catalog-index"); err != nil || len(kept) != 1 {
		t.Errorf("of the catalog there is %v, %v", kept, err)
	}
	if text := r.resources(t, "pull", "cs-db-v1.yaml"); !strings.Contains(text, "image: "+host+"/views/db:v1\n") {
		t.Errorf("the cluster resources of the view are %q", text)
	}
	if text := r.resources(t, "pull", "idms-oc-mirror.yaml"); strings.Contains(text, "views") {
		t.Errorf("clusters are led to the view: %s", text)
	}
}
