package pull

import (
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/registry/store"
	"github.com/opencontainers/go-digest"
)

// endless serves blobs whose body ends only when the client hangs up, and counts the
// bytes that it sent.
func (f *fixture) endless(length int64) (sent chan int64) {
	sent = make(chan int64, 16)
	f.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet || r.URL.Path != "/v2/"+there+"/blobs/"+f.blob.String() {
			return false
		}
		if length >= 0 {
			w.Header().Set("Content-Length", strconv.FormatInt(length, 10))
		}
		var n int64
		for garbage := make([]byte, 32<<10); ; {
			m, err := w.Write(garbage)
			if n += int64(m); err != nil {
				sent <- n
				return true
			}
		}
	})
	return sent
}

// stored returns the size of the store's files.
func (f *fixture) stored() (bytes int64) {
	f.t.Helper()
	err := filepath.WalkDir(f.place.Objects, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		bytes += info.Size()
		return err
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return bytes
}

func TestPuller_Blob_endless(t *testing.T) {
	t.Run("is cut where its descriptor ends", func(t *testing.T) {
		f := newFixture(t)
		f.wantTag(f.manifest)
		sent := f.endless(-1)
		before := f.stored()
		_, err := f.pull(f.blob)
		if !errors.Is(err, errTooLong) || !strings.Contains(err.Error(), strconv.Itoa(len(f.layer))+" announced") {
			t.Errorf("got %v", err)
		}
		if n := <-sent; n > 64<<20 {
			t.Errorf("%d bytes were read", n)
		}
		if err := f.Puller.Close(); err != nil {
			t.Fatal(err)
		}
		if after := f.stored(); after != before {
			t.Errorf("%d bytes are stored, %d were before", after, before)
		}
	})
	t.Run("is refused where it announces more than its descriptor", func(t *testing.T) {
		f := newFixture(t)
		f.wantTag(f.manifest)
		sent := f.endless(1 << 40)
		if _, err := f.pull(f.blob); !errors.Is(err, errTooLong) {
			t.Errorf("got %v", err)
		}
		<-sent
	})
	t.Run("is refused where there is no space for it", func(t *testing.T) {
		f := newFixture(t)
		sent := f.endless(1 << 60)
		_, err := f.pull(f.blob)
		if f.place.Credentials != "" { // in S3 the size of a blob is bounded, and the space is another's
			if !errors.As(err, new(*store.TooLargeError)) {
				t.Errorf("got %v", err)
			}
		} else if !errors.As(err, new(*store.FullError)) {
			t.Errorf("got %v", err)
		}
		<-sent
	})
	t.Run("another repository's manifest does not count", func(t *testing.T) {
		f := newFixture(t)
		f.wantTag(f.manifest)
		size, err := f.store.Blobs.ReferencedSize(t.Context(), "hub/other", f.blob)
		if err != nil || size != -1 {
			t.Errorf("got %d, %v", size, err)
		}
		if size, err := f.store.Blobs.ReferencedSize(t.Context(), here, f.blob); err != nil || size != int64(len(f.layer)) {
			t.Errorf("here: got %d, %v", size, err)
		}
	})
}

// A blob without an announced size is readable while it arrives, since its manifest has the size.
func TestPuller_Blob_sizeOfItsManifest(t *testing.T) {
	f := newFixture(t)
	f.wantTag(f.manifest)
	goOn := make(chan struct{})
	defer close(goOn)
	f.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet || digest.Digest(filepath.Base(r.URL.Path)) != f.blob {
			return false
		}
		_, _ = w.Write(f.layer[:len(f.layer)/2])
		w.(http.Flusher).Flush()
		wait(r, goOn)
		return true
	})
	rc, size, err := f.Blob(t.Context(), here, f.blob)
	if err != nil || size != int64(len(f.layer)) {
		t.Fatalf("got %d, %v", size, err)
	}
	defer rc.Close()
	if n, err := rc.Read(make([]byte, 1024)); n == 0 || err != nil {
		t.Errorf("got %d bytes, %v", n, err)
	}
}
