package pull

import (
	"net/http"
	"testing"
	"time"
)

// A client waits for the round trips to the upstream that there have to be: one, once the registry
// has said how it wants a login.
func TestPuller_roundTrips(t *testing.T) {
	f := newFixture(t)
	const trip = 100 * time.Millisecond
	f.misbehave(func(http.ResponseWriter, *http.Request) bool { time.Sleep(trip); return false })
	for _, step := range []struct {
		what  string
		trips int
		ask   func() error
	}{
		{"the first manifest", 2, func() error { _, err := f.Manifest(t.Context(), here, "v1"); return err }},
		{"a blob", 1, func() error {
			rc, _, err := f.Blob(t.Context(), here, f.blob)
			if err == nil {
				defer rc.Close()
			}
			return err
		}},
		{"a manifest of another repository", 1, func() error {
			_, _ = f.Manifest(t.Context(), "hub/library/other", "v1")
			return nil
		}},
	} {
		before, began := f.total(), time.Now()
		err := step.ask()
		took := time.Since(began)
		if n := f.total() - before; err != nil || n != step.trips {
			t.Errorf("%s: %d round trips, want %d, %v", step.what, n, step.trips, err)
		}
		t.Logf("%s: %d round trips of %s, %s", step.what, step.trips, trip, took.Round(time.Millisecond))
	}
}
