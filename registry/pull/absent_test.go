package pull

import (
	"bytes"
	"errors"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/registry/store"
)

// askAbsent asks for what does not exist, in every way, and returns how many requests for a manifest
// that cost.
func (f *fixture) askAbsent(times int) int {
	f.t.Helper()
	const request = "GET /v2/none/image/manifests/v7"
	before := f.asked(request)
	var all sync.WaitGroup
	for range times {
		all.Go(func() {
			f.askAll("hub/none/image", func(what string, err error) {
				if what != "referrers" && !errors.Is(err, store.ErrNotFound) {
					f.t.Errorf("%s: got %v", what, err)
				}
			})
		})
	}
	all.Wait()
	return f.asked(request) - before
}

// lacksAll is an upstream without content.
func lacksAll(w http.ResponseWriter, r *http.Request) bool {
	if r.URL.Path == "/v2/" {
		return false
	}
	w.WriteHeader(http.StatusNotFound)
	_, _ = w.Write([]byte(`{"errors":[{"code":"NAME_UNKNOWN"}]}`))
	return true
}

func TestPuller_absentIsAskedForOnce(t *testing.T) {
	f := newFixture(t)
	f.misbehave(lacksAll)
	f.askAbsent(100)
	for path, n := range f.seen {
		if n > 1 {
			t.Errorf("%s: %d requests", path, n)
		}
	}
	if n := f.askAbsent(1); n != 0 {
		t.Errorf("%d requests while it is remembered", n)
	}
	f.pass(absentTime)
	if n := f.askAbsent(1); n == 0 {
		t.Error("it is remembered for good")
	}
	f.SetRoutes([]Route{{Prefix: "hub", Source: f.client, TTL: time.Minute}})
	if n := f.askAbsent(1); n == 0 {
		t.Error("it is remembered over a reload")
	}
	f.Hold(errors.New("offline"))
	if _, err := f.Manifest(t.Context(), "hub/none/image", "v7"); err == nil || errors.Is(err, store.ErrNotFound) {
		t.Errorf("while nothing is fetched: got %v", err)
	}
	f.Hold(nil)
	if n := f.askAbsent(1); n == 0 {
		t.Error("it is remembered over a hold")
	}
}

// A mirror run may put an image where the upstream has none.
func TestPuller_absentIsNotWhatIsHeld(t *testing.T) {
	f := newFixture(t)
	f.misbehave(lacksAll)
	ask := func(want bool) {
		t.Helper()
		for _, ref := range []string{"mine", f.manifest.String()} {
			_, err := f.Manifest(t.Context(), "hub/mine", ref)
			_, err2 := f.Resolve(t.Context(), "hub/mine", ref)
			if (err == nil) != want || (err2 == nil) != want {
				t.Errorf("%s: got %v and %v", ref, err, err2)
			}
		}
		if _, err := f.Stat(t.Context(), "hub/mine", f.blob); (err == nil) != want {
			t.Errorf("the blob: got %v", err)
		}
	}
	ask(false)
	run, err := f.store.Runs.Begin(t.Context(), "test")
	if err != nil {
		t.Fatal(err)
	}
	blob := func(content []byte) error {
		d := ocispec.Descriptor{Digest: digest.FromBytes(content), Size: int64(len(content)), MediaType: "x/y"}
		return run.PutBlob(t.Context(), "hub/mine", d, bytes.NewReader(content))
	}
	for _, err := range []error{
		blob(f.layer), blob([]byte("{}")),
		run.PutManifest(t.Context(), "hub/mine", ocispec.Descriptor{Digest: f.manifest,
			Size: int64(len(f.body)), MediaType: ocispec.MediaTypeImageManifest}, f.body),
		run.Tag(t.Context(), map[string]map[string]digest.Digest{"hub/mine": {"mine": f.manifest}}),
		run.Commit(t.Context()),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	ask(true)
}
