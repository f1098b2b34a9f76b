package registry

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestRefuseConsole(t *testing.T) {
	get := func(path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		refuseConsole("registry.example.com:8443")(w, httptest.NewRequest("GET", path, nil))
		return w
	}
	t.Run("the front page says what works", func(t *testing.T) {
		w := get("/")
		if w.Code != http.StatusNotImplemented {
			t.Errorf("answered %d", w.Code)
		}
		for _, want := range []string{"web console is not built yet", "podman login registry.example.com:8443\n",
			"registry.example.com:8443/health/instance", "/metrics", "/ca.crt"} {
			if !strings.Contains(w.Body.String(), want) {
				t.Errorf("%q is not in\n%s", want, w.Body)
			}
		}
	})
	t.Run("another path is not found", func(t *testing.T) {
		if w := get("/repository"); w.Code != http.StatusNotFound {
			t.Errorf("answered %d", w.Code)
		}
	})
}

func TestRefuseUpdates(t *testing.T) {
	w := httptest.NewRecorder()
	refuseUpdates(w, httptest.NewRequest("GET", updatesPath+"graph?channel=stable-4.18", nil))
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
