package registry_test

import (
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// TestControl_listsAreLists: scripts go through them, also when nothing is in one.
func TestControl_listsAreLists(t *testing.T) {
	r := start(t)
	plan, err := r.admin.GC(t.Context(), api.GCRequest{DryRun: true}, nil)
	must(t, err)
	if text, err := json.Marshal(plan); err != nil || !strings.Contains(string(text), `"plan":[]`) {
		t.Errorf("a dry run that finds nothing is %s, %v", text, err)
	}
	done, err := r.admin.GC(t.Context(), api.GCRequest{}, nil)
	must(t, err)
	if text, err := json.Marshal(done); err != nil || strings.Contains(string(text), `"plan"`) {
		t.Errorf("a collection, which lists nothing, is %s, %v", text, err)
	}
	must(t, os.Rename(r.cfg.Storage, r.cfg.Storage+".away"))
	code, body := r.as(t, "admin", http.MethodGet, "/api/v1/status")
	must(t, os.Rename(r.cfg.Storage+".away", r.cfg.Storage))
	if code != http.StatusOK || !strings.Contains(body, `"space":[]`) || !strings.Contains(body, "look at the file systems") {
		t.Errorf("without the storage the status is %d %s", code, body)
	}
}
