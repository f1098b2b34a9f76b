package updates_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/mirror-appliance/appliance/registry/updates"
)

func TestHandler(t *testing.T) {
	w := httptest.NewRecorder()
	updates.Handler().ServeHTTP(w, httptest.NewRequest("GET", updates.Path+"graph?channel=stable-4.18", nil))
	if w.Code != http.StatusNotImplemented || w.Header().Get("Content-Type") != "application/json" {
		t.Errorf("answered %d, %s", w.Code, w.Header().Get("Content-Type"))
	}
	var got map[string]string
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got["kind"] != "not_built" || got["value"] == "" {
		t.Errorf("answered %v", got)
	}
}
