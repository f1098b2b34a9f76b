package main_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/config"
)

func TestCatalogs_throughTheDaemon(t *testing.T) {
	_, source := newUpstream(t)
	f := newFaulty(t, "")
	f.cfg.Catalogs = []config.Catalog{
		{Name: "views/db:v1", Original: "originals/index:v4.18", Keep: time.Hour, Packages: []imageset.Package{{Name: "sample-database", MinVersion: "1.0.0"}}},
		{Name: "views/none:v1", Original: "originals/absent:v1", Keep: time.Hour},
	}
	set := f.syncs(t, `  additionalImages: [{name: "`+source+`/redhat/redhat-operator-index:v4.18", targetRepo: originals/index}]
  operators:
  - catalog: `+source+`/redhat/redhat-operator-index:v4.18
    packages: [{name: sample-database}]
`, fmt.Sprintf("[[registry]]\nlocation=%q\ninsecure=true\n", source))
	f.begin(t)
	code, stdout, stderr := outcome(t, f.command("sync", set.ImageSet))
	if code != 0 {
		t.Fatalf("exit code %d\n%s%s", code, stdout, stderr)
	}

	for { // refused while the daemon's own goes on
		code, stdout, stderr = outcome(t, f.command("catalogs"))
		if !strings.Contains(stderr, "under way") {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	for _, want := range []string{
		"views/db:v1 of originals/index:v4.18: 1 package, 2 bundles, sha256:",
		"  without sample-database.v1.0.0: image " + source + "/operators/sample-database-bundle@sha256:",
		": it is absent from operators/sample-database-bundle, or not whole there\n", "views/none:v1 of originals/absent:v1: not shown yet\n", "  failed: the original",
	} {
		if !strings.Contains(stdout, want) {
			t.Errorf("it does not list %q:\n%s", want, stdout)
		}
	}
	if code != 1 || !strings.Contains(stderr, "view views/none:v1: the original originals/absent:v1 is not in this registry") || !strings.Contains(stderr, "hint: ") {
		t.Errorf("exit code %d, %s", code, stderr)
	}
	_, stdout, _ = outcome(t, f.command("catalogs", "-o", "json"))
	var result api.CatalogsResult
	if err := json.Unmarshal([]byte(stdout), &result); err != nil && stdout != "" || err == nil && (len(result.Views) != 2 || result.Views[0].Bundles != 2) {
		t.Errorf("as JSON %v: %s", err, stdout)
	}
	_, stdout, _ = outcome(t, f.command("status"))
	for _, want := range []string{"catalog       views/db:v1 of originals/index:v4.18: 1 package, 2 bundles", "trouble: view views/none:v1: "} {
		if !strings.Contains(stdout, want) {
			t.Errorf("the status has no %q:\n%s", want, stdout)
		}
	}

	_, stdout, _ = outcome(t, f.command("imageset", "from-store"))
	if !strings.Contains(stdout, "images of type operatorCatalogView, 1 of them") || strings.Contains(stdout, "original\n") {
		t.Errorf("the image set of what is there:\n%s", stdout)
	}
	past, err := f.admin.PastSyncs(t.Context(), api.PastRequest{})
	must(t, err)
	if past[0].View != "views/db:v1" || past[len(past)-1].View != "" {
		t.Errorf("the runs are %+v", past)
	}
	f.stop(t)
}
