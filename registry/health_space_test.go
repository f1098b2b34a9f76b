package registry

import (
	"path/filepath"
	"testing"

	"github.com/mirror-appliance/appliance/registry/store"
)

// While every push is refused for want of space, the health check does not say that there is space.
func TestHealth_spaceIsThatOfPushes(t *testing.T) {
	for name, minFree := range map[string]int64{"enough": 0, "less than minFree": 1 << 60} {
		dir := t.TempDir()
		s, err := store.Open(t.Context(), store.Options{
			Database: filepath.Join(dir, "appliance.db"), Storage: filepath.Join(dir, "storage"), MinFree: minFree,
		})
		must(t, err)
		u, refused := s.Uploads.New(t.Context(), "app")
		if refused == nil {
			must(t, u.Cancel(t.Context()))
		}
		healthy := (&daemon{store: s}).checkStorage(t.Context())
		if (refused == nil) != (healthy == nil) {
			t.Errorf("%s: a push gets %v, the health check %v", name, refused, healthy)
		}
		must(t, s.Close())
	}
}
