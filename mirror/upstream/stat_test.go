package upstream

import (
	"errors"
	"io/fs"
	"net/http"
	"testing"

	"github.com/opencontainers/go-digest"
)

func TestClient_Stat_byHeadOrGet(t *testing.T) {
	f := newFixture(t)
	c := f.client(t)
	size, err := c.Stat(t.Context(), repo, f.blob)
	if err != nil || size != int64(len(f.layer)) {
		t.Errorf("got %d, %v", size, err)
	}
	if got := f.count(http.MethodGet, "/blobs/"+f.blob.String()); got != 0 {
		t.Errorf("%d GETs", got)
	}
	if _, err := c.Stat(t.Context(), repo, digest.FromString("absent")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an absent blob: got %v", err)
	}
	t.Run("of a registry without HEAD", func(t *testing.T) {
		f.fault = func(w http.ResponseWriter, r *http.Request, _ int) bool {
			if r.Method == http.MethodHead {
				w.WriteHeader(http.StatusMethodNotAllowed)
			}
			return r.Method == http.MethodHead
		}
		if size, err := c.Stat(t.Context(), repo, f.blob); err != nil || size != int64(len(f.layer)) {
			t.Errorf("got %d, %v", size, err)
		}
	})
}
