package registry_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/resources"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/config"
)

// sources returns the repositories and tags of the CatalogSources that a user gets, by their names.
func (r *running) sources(t *testing.T, user string) map[string]string {
	t.Helper()
	var all []api.Resource
	must(t, json.Unmarshal([]byte(r.resources(t, user, "")), &all))
	var files []resources.File
	for _, f := range all {
		files = append(files, resources.File{Name: f.Name, Data: []byte(f.Data)})
	}
	names, err := resources.SourceNames(files)
	must(t, err)
	of := map[string]string{}
	for image, name := range names {
		of[name] = strings.TrimPrefix(image, host+"/")
	}
	return of
}

// The first catalog of a name keeps it, whatever mirrors or shows another later, and each user and
// each workspace has the same names.
func TestRun_servesOneNameForACatalog(t *testing.T) {
	source, dir := newSample(t), t.TempDir()
	set := func(name, entries string) config.Sync {
		file := filepath.Join(dir, name+".yaml")
		text := "kind: ImageSetConfiguration\napiVersion: mirror.openshift.io/v2alpha1\nmirror:\n" + strings.ReplaceAll(entries, "INDEX", source+"/redhat/redhat-operator-index:v4.18")
		must(t, os.WriteFile(file, []byte(text), 0o600))
		return config.Sync{ImageSet: file, Workspace: filepath.Join(dir, name), Interval: time.Hour}
	}
	first := set("first", "  operators: [{catalog: INDEX, targetCatalog: y/my-cat, packages: [{name: sample-logging}]}]\n"+
		"  additionalImages: [{name: INDEX, targetRepo: originals/index}]\n")
	second := set("second", "  operators: [{catalog: INDEX, targetCatalog: a/my-cat, packages: [{name: sample-logging}]}]\n")
	view := config.Catalog{Name: "b/my-cat:v4.18", Original: "originals/index:v4.18", Keep: time.Hour, Packages: []imageset.Package{{Name: "sample-logging"}}}
	r := start(t, func(c *config.Config) { c.Sync, c.Catalogs = []config.Sync{second}, []config.Catalog{view} })
	r.mirrored(t, first, false)
	r.mirrored(t, second, true)
	var all map[string]string
	for end := time.Now().Add(30 * time.Second); len(all) < 3 && time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		all = r.sources(t, "pull")
	}
	const name = "cs-my-cat-v4-18"
	if len(all) != 3 || all[name] != "y/my-cat:v4.18" {
		t.Fatalf("the CatalogSources are %v", all)
	}
	_, err := r.admin.CreateUser(t.Context(), api.NewUser{Name: "limited", Role: "pull", Password: password, Repositories: []string{"a/*", "b/*"}})
	must(t, err)
	seen := r.sources(t, "limited")
	for name, catalog := range seen {
		if all[name] != catalog {
			t.Errorf("of %s a user who sees a part gets %s", catalog, name)
		}
		text, err := os.ReadFile(filepath.Join(second.Workspace, "working-dir/cluster-resources", name+".yaml"))
		if of := strings.HasPrefix(catalog, "a/"); of && (err != nil || !strings.Contains(string(text), "/"+catalog)) {
			t.Errorf("the workspace has of %s: %v %s", name, err, text)
		}
	}
	if len(seen) != 2 {
		t.Errorf("a user who sees a part gets %v", seen)
	}
	if status, text := r.as(t, "admin", http.MethodDelete, "/v2/y/my-cat/manifests/v4.18"); status != http.StatusAccepted {
		t.Fatalf("delete: %d %s", status, text)
	}
	if left := r.sources(t, "pull"); left[name] != "" || len(left) != 2 {
		t.Errorf("after the catalog is deleted the CatalogSources are %v", left)
	}
}
