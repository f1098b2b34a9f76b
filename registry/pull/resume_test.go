package pull

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// ranges serves ranges of the layer, and records which were asked for.
func (f *fixture) ranges() func() []string {
	var mu sync.Mutex
	var all []string
	f.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, "/blobs/"+f.blob.String()) {
			return false
		}
		if r.Method == http.MethodGet {
			mu.Lock()
			all = append(all, r.Header.Get("Range"))
			mu.Unlock()
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.layer))
		return true
	})
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return all
	}
}

// half pulls half of the layer, and then has the appliance end.
func (f *fixture) half() {
	f.t.Helper()
	f.wantTag(f.manifest) // which has the size
	sent, release := f.halfway()
	defer close(release)
	rc, _, err := f.Blob(f.t.Context(), here, f.blob)
	if err != nil {
		f.t.Fatal(err)
	}
	defer rc.Close()
	<-sent
	if _, err := io.ReadFull(rc, make([]byte, len(f.layer)/2)); err != nil {
		f.t.Fatal(err)
	}
	if err := f.Puller.Close(); err != nil {
		f.t.Fatal(err)
	}
	f.Puller = New(f.store, []Route{{Prefix: "hub", Source: f.client}}, Options{Now: f.now})
	f.t.Cleanup(func() { _ = f.Puller.Close() })
}

// What had arrived of a layer when the appliance ended is not fetched again, and readers get all of it.
func TestPuller_Blob_goesOnAfterAnEnd(t *testing.T) {
	f := newFileFixture(t)
	f.half()
	ranges := f.ranges()
	if got, err := f.pull(f.blob); err != nil || !bytes.Equal(got, f.layer) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	if all := ranges(); len(all) != 1 || all[0] != "bytes=524288-" {
		t.Errorf("it asked for %q", all)
	}
	f.wantStored(f.blob, f.layer)
}

// A part that is not that of the layer ends with an error, and all of the layer is fetched then.
func TestPuller_Blob_goesOnFromAWrongPart(t *testing.T) {
	f := newFileFixture(t)
	f.half()
	u, err := f.store.Uploads.ContinuePulled(t.Context(), here, f.blob, int64(len(f.layer)), 0, func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := u.Write(make([]byte, len(f.layer)/2)); err != nil {
		t.Fatal(err)
	}
	if err := u.Keep(); err != nil {
		t.Fatal(err)
	}
	if n := f.store.Uploads.PulledPart(t.Context(), f.blob, int64(len(f.layer))); n != int64(len(f.layer)/2) {
		t.Fatalf("%d bytes are kept", n)
	}
	f.ranges()
	if got, err := f.pull(f.blob); err == nil || len(got) == len(f.layer) {
		t.Errorf("with a wrong part: %d bytes, %v", len(got), err)
	}
	ranges := f.ranges()
	if got, err := f.pull(f.blob); err != nil || !bytes.Equal(got, f.layer) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if all := ranges(); len(all) != 1 || all[0] != "" {
		t.Errorf("it asked for %q", all)
	}
}

// A link that is cut is no reason to fetch again, either.
func TestPuller_Hold_keepsWhatHasArrived(t *testing.T) {
	f := newFileFixture(t)
	f.wantTag(f.manifest)
	sent, release := f.halfway()
	defer close(release)
	rc, _, err := f.Blob(t.Context(), here, f.blob)
	if err != nil {
		t.Fatal(err)
	}
	<-sent
	if _, err := io.ReadFull(rc, make([]byte, len(f.layer)/2)); err != nil {
		t.Fatal(err)
	}
	f.Hold(errors.New("the link is cut"))
	_, _ = io.Copy(io.Discard, rc) // until it has ended
	rc.Close()
	f.Hold(nil)
	ranges := f.ranges()
	if got, err := f.pull(f.blob); err != nil || !bytes.Equal(got, f.layer) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	if all := ranges(); len(all) != 1 || !strings.HasPrefix(all[0], "bytes=") {
		t.Errorf("it asked for %q", all)
	}
}
