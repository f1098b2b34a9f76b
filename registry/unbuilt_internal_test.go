package registry

import (
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
