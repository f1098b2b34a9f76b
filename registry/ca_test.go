package registry

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestCAFile_isRefusedUnlessItHoldsCertificates asks without a login, as anybody may: a FIFO must
// not hold the request, nor a device the memory.
func TestCAFile_isRefusedUnlessItHoldsCertificates(t *testing.T) {
	dir := t.TempDir()
	fifo, key := filepath.Join(dir, "fifo"), filepath.Join(dir, "key.pem")
	must(t, unix.Mkfifo(fifo, 0o600))
	must(t, os.WriteFile(key, []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), 0o600))
	for path, want := range map[string]int{
		"": http.StatusNotFound, filepath.Join(dir, "absent"): http.StatusInternalServerError, key: http.StatusInternalServerError,
		fifo: http.StatusInternalServerError, "/dev/zero": http.StatusInternalServerError,
	} {
		w := httptest.NewRecorder()
		caFile(path).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/ca.crt", nil))
		if w.Code != want || strings.Contains(w.Body.String(), "AAAA") || path != "" && strings.Contains(w.Body.String(), path) {
			t.Errorf("%q: %d %s", path, w.Code, w.Body)
		}
	}
}
