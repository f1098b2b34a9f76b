package pull

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/registry/store"
	"github.com/opencontainers/go-digest"
)

// halfway sends half of a blob, signals that, and sends the rest when released.
func (f *fixture) halfway() (sent chan struct{}, release chan struct{}) {
	sent, release = make(chan struct{}), make(chan struct{})
	f.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/blobs/") {
			return false
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(f.layer)))
		_, _ = w.Write(f.layer[:len(f.layer)/2])
		w.(http.Flusher).Flush()
		close(sent)
		select {
		case <-release:
			_, _ = w.Write(f.layer[len(f.layer)/2:])
		case <-r.Context().Done():
		}
		return true
	})
	return sent, release
}

func TestPuller_Blob(t *testing.T) {
	f := newFixture(t)
	got, err := f.pull(f.blob)
	if err != nil || !bytes.Equal(got, f.layer) {
		t.Fatalf("got %d bytes, %v", len(got), err)
	}
	f.wantStored(f.blob, f.layer)
	f.server.Close()
	if got, err := f.pull(f.blob); err != nil || !bytes.Equal(got, f.layer) {
		t.Errorf("stored, with the upstream down: %d bytes, %v", len(got), err)
	}
}

func TestPuller_Blob_empty(t *testing.T) {
	f := newFixture(t)
	d := digest.FromString("")
	f.open(&fakeSource{blob: func(context.Context, digest.Digest) (io.ReadCloser, int64, error) {
		return io.NopCloser(strings.NewReader("")), 0, nil
	}})
	if got, err := f.pull(d); err != nil || len(got) != 0 {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	f.wantStored(d, nil)
}

func TestPuller_Blob_absent(t *testing.T) {
	f := newFixture(t)
	content := []byte("later")
	d := digest.FromBytes(content)
	if _, err := f.pull(d); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	f.pushBlob(content)
	f.pass(absentTime)
	if got, err := f.pull(d); err != nil || !bytes.Equal(got, content) {
		t.Errorf("once it exists: got %q, %v", got, err)
	}
	f.server.Close()
	if _, err := f.pull(digest.FromString("x")); err == nil || errors.Is(err, store.ErrNotFound) {
		t.Errorf("with the upstream down: got %v", err)
	}
}

func TestPuller_Blob_isFetchedOnceAndReadWhileItArrives(t *testing.T) {
	f := newFixture(t)
	sent, release := f.halfway()
	half := int64(len(f.layer) / 2)
	var begun, all sync.WaitGroup
	for i := range 8 {
		begun.Add(1)
		all.Go(func() {
			rc, size, err := f.Blob(t.Context(), here, f.blob)
			if err != nil {
				begun.Done()
				t.Error(err)
				return
			}
			defer rc.Close()
			first := make([]byte, half)
			_, err = io.ReadFull(rc, first)
			begun.Done()
			if err != nil || size != int64(len(f.layer)) {
				t.Errorf("reader %d, the first half: size %d, %v", i, size, err)
			}
			rest, err := io.ReadAll(rc)
			if err != nil || !bytes.Equal(append(first, rest...), f.layer) {
				t.Errorf("reader %d: got %d bytes, %v", i, len(first)+len(rest), err)
			}
		})
	}
	<-sent
	begun.Wait() // every reader has the first half
	close(release)
	all.Wait()
	if got := f.asked("GET blobs/" + f.blob.String()); got != 1 {
		t.Errorf("fetched %d times", got)
	}
	f.wantStored(f.blob, f.layer)
}

func TestPuller_Blob_isSeekableWhileItArrives(t *testing.T) {
	f := newFixture(t)
	_, release := f.halfway()
	rc, size, err := f.Blob(t.Context(), here, f.blob)
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	if end, err := rc.Seek(0, io.SeekEnd); err != nil || end != size {
		t.Errorf("got %d, %v", end, err)
	}
	if at, err := rc.Seek(-size+100, io.SeekCurrent); err != nil || at != 100 {
		t.Errorf("got %d, %v", at, err)
	}
	got := make([]byte, 50)
	if _, err := io.ReadFull(rc, got); err != nil || !bytes.Equal(got, f.layer[100:150]) {
		t.Errorf("in the half that has arrived: %v", err)
	}
	close(release)
	if _, err := rc.Seek(-50, io.SeekEnd); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(rc); err != nil || !bytes.Equal(got, f.layer[size-50:]) {
		t.Errorf("the end: %d bytes, %v", len(got), err)
	}
	for _, bad := range []func() (int64, error){
		func() (int64, error) { return rc.Seek(-1, io.SeekStart) },
		func() (int64, error) { return rc.Seek(0, 9) },
	} {
		if _, err := bad(); err == nil {
			t.Error("a seek outside of the blob succeeded")
		}
	}
}

func TestPuller_Blob_outlivesItsReaders(t *testing.T) {
	t.Run("while others read", func(t *testing.T) {
		f := newFixture(t)
		_, release := f.halfway()
		ctx, leave := context.WithCancel(t.Context())
		goes, _, err := f.Blob(ctx, here, f.blob)
		if err != nil {
			t.Fatal(err)
		}
		stays, _, err := f.Blob(t.Context(), here, f.blob)
		if err != nil {
			t.Fatal(err)
		}
		defer stays.Close()
		leave()
		if _, err := io.ReadAll(goes); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		goes.Close()
		if _, err := goes.Read(make([]byte, 1)); err == nil {
			t.Error("read after Close")
		}
		close(release)
		if got, err := io.ReadAll(stays); err != nil || !bytes.Equal(got, f.layer) {
			t.Errorf("got %d bytes, %v", len(got), err)
		}
	})
	t.Run("to the end, without readers", func(t *testing.T) {
		f := newFixture(t)
		_, release := f.halfway()
		rc, _, err := f.Blob(t.Context(), here, f.blob)
		if err != nil {
			t.Fatal(err)
		}
		rc.Close()
		close(release)
		f.fetches.Wait()
		f.wantStored(f.blob, f.layer)
	})
	t.Run("for a limited time", func(t *testing.T) {
		f := newFixture(t)
		f.downloads.linger = time.Millisecond
		_, _ = f.halfway()
		rc, _, err := f.Blob(t.Context(), here, f.blob)
		if err != nil {
			t.Fatal(err)
		}
		rc.Close()
		f.fetches.Wait() // without the limit it never returns
		if _, err := f.store.Blobs.Stat(t.Context(), here, f.blob); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("got %v", err)
		}
		if f.log.count("WARN", f.blob.String()) != 1 {
			t.Error("the failure is not logged")
		}
		f.misbehave(nil)
		if got, err := f.pull(f.blob); err != nil || !bytes.Equal(got, f.layer) {
			t.Errorf("the next reader gets %d bytes, %v", len(got), err)
		}
	})
}

func TestPuller_Blob_fails(t *testing.T) {
	content := bytes.Repeat([]byte("x"), 100_000)
	d := digest.FromBytes(content)
	broken := errors.New("the line broke")
	for name, test := range map[string]struct {
		body io.Reader
		size int64
		err  error // nil: any
	}{
		"half way":         {io.MultiReader(bytes.NewReader(content[:50_000]), errorReader{broken}), 100_000, broken},
		"too short":        {bytes.NewReader(content[:50_000]), 100_000, io.ErrUnexpectedEOF},
		"too long":         {bytes.NewReader(append(content, 'x')), 100_000, nil},
		"damaged":          {bytes.NewReader(append([]byte("y"), content[1:]...)), 100_000, nil},
		"damaged, no size": {strings.NewReader("y"), -1, nil},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.open(&fakeSource{blob: func(context.Context, digest.Digest) (io.ReadCloser, int64, error) {
				return io.NopCloser(test.body), test.size, nil
			}})
			got, err := f.pull(d)
			if err == nil || errors.Is(err, store.ErrNotFound) || test.err != nil && !errors.Is(err, test.err) {
				t.Errorf("got %v", err)
			}
			if len(got) >= len(content) {
				t.Error("a damaged blob was served to its end")
			}
			f.fetches.Wait()
			if _, err := f.store.Blobs.Stat(t.Context(), here, d); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("it is stored: %v", err)
			}
			if left, err := os.ReadDir(filepath.Join(f.place.Objects, "uploads")); err != nil && !errors.Is(err, fs.ErrNotExist) || len(left) != 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

type errorReader struct{ err error }

func (r errorReader) Read([]byte) (int, error) { return 0, r.err }

func TestPuller_Blob_withoutASize(t *testing.T) {
	f := newFixture(t)
	f.open(&fakeSource{blob: func(context.Context, digest.Digest) (io.ReadCloser, int64, error) {
		return io.NopCloser(bytes.NewReader(f.layer)), -1, nil
	}})
	if got, err := f.pull(f.blob); err != nil || !bytes.Equal(got, f.layer) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
}

func TestPuller_Blob_overABadLine(t *testing.T) {
	f := newFixture(t)
	var broken atomic.Bool
	f.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/blobs/") || broken.Swap(true) {
			return false
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(f.layer)))
		_, _ = w.Write(f.layer[:len(f.layer)/2])
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	if got, err := f.pull(f.blob); err != nil || !bytes.Equal(got, f.layer) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
}

func TestPuller_Blob_limitsConcurrency(t *testing.T) {
	f := newFixture(t)
	contents := map[digest.Digest]string{}
	for i := range 10 {
		content := strings.Repeat(fmt.Sprint(i), 100_000)
		contents[digest.FromString(content)] = content
	}
	var now, most atomic.Int32
	f.open(&fakeSource{blob: func(_ context.Context, d digest.Digest) (io.ReadCloser, int64, error) {
		n := now.Add(1)
		for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
		}
		return &countedBody{Reader: strings.NewReader(contents[d]), now: &now}, int64(len(contents[d])), nil
	}}, func(o *Options) { o.Concurrency = 2 })
	var all sync.WaitGroup
	for d := range contents {
		all.Go(func() {
			if _, err := f.pull(d); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if most.Load() > 2 {
		t.Errorf("%d at once", most.Load())
	}
}

type countedBody struct {
	io.Reader
	now *atomic.Int32
}

func (b *countedBody) Close() error {
	b.now.Add(-1)
	return nil
}

func TestPuller_Close_endsDownloads(t *testing.T) {
	f := newFixture(t)
	_, _ = f.halfway()
	rc, _, err := f.Blob(t.Context(), here, f.blob)
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	asked := make(chan error)
	f.misbehave(func(_ http.ResponseWriter, r *http.Request) bool {
		asked <- nil
		<-r.Context().Done()
		return true
	})
	waiting := make(chan error)
	go func() {
		_, err := f.Manifest(t.Context(), here, "v1")
		waiting <- err
	}()
	<-asked
	if err := f.Puller.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(rc); err == nil {
		t.Error("the reader got the whole blob")
	}
	if err := <-waiting; err == nil {
		t.Error("the other client got a manifest")
	}
	if _, err := f.Manifest(t.Context(), here, "v1"); !errors.Is(err, errClosed) {
		t.Errorf("after Close: got %v", err)
	}
	if _, _, err := f.Blob(t.Context(), here, f.blob); !errors.Is(err, errClosed) {
		t.Errorf("after Close: got %v", err)
	}
}

// A silent upstream uses up its own places and no others.
func TestPuller_Blob_silentUpstreamDelaysNoOther(t *testing.T) {
	f := newFixture(t)
	asked := make(chan struct{})
	silent := &fakeSource{blob: func(ctx context.Context, _ digest.Digest) (io.ReadCloser, int64, error) {
		close(asked)
		<-ctx.Done()
		return nil, 0, ctx.Err()
	}}
	p := New(f.store, []Route{{Prefix: "silent", Source: silent}, {Prefix: "hub", Source: f.client}}, Options{Concurrency: 1})
	var waiting sync.WaitGroup
	waiting.Go(func() {
		if _, _, err := p.Blob(t.Context(), "silent/x", f.blob); err == nil {
			t.Error("a silent upstream sent something")
		}
	})
	<-asked
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	rc, _, err := p.Blob(ctx, here, f.blob)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(rc); err != nil || !bytes.Equal(got, f.layer) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if err := errors.Join(rc.Close(), p.Close()); err != nil {
		t.Error(err)
	}
	waiting.Wait()
}

// holdElsewhere puts content into a repository that is not pulled through.
func (f *fixture) holdElsewhere(content []byte) digest.Digest {
	f.t.Helper()
	u, err := f.store.Uploads.New(f.t.Context(), "team/private")
	if err != nil {
		f.t.Fatal(err)
	}
	if _, err := u.Write(content); err != nil {
		f.t.Fatal(err)
	}
	d := digest.FromBytes(content)
	if _, err := u.Commit(f.t.Context(), d); err != nil {
		f.t.Fatal(err)
	}
	return d
}

// An upstream's manifest may refer to a blob of another repository. That alone does
// not give access to it.
func TestPuller_Blob_ofAnotherRepository(t *testing.T) {
	named := func(f *fixture, layer digest.Digest, size int) {
		t.Helper()
		body := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"a/b","digest":%q,"size":%d},"layers":[]}`, layer, size)
		if _, err := f.store.Manifests.PutPulled(t.Context(), here, body, store.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("is not found where the upstream lacks it", func(t *testing.T) {
		f := newFixture(t)
		d := f.holdElsewhere([]byte("secret"))
		named(f, d, 6)
		if _, err := f.pull(d); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("got %v", err)
		}
		if f.asked("HEAD blobs/"+d.String()) == 0 {
			t.Error("the upstream was not asked")
		}
		if _, err := f.store.Blobs.Stat(t.Context(), here, d); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("afterwards it exists: %v", err)
		}
	})
	t.Run("is served without being fetched where the upstream has it", func(t *testing.T) {
		f := newFixture(t)
		f.holdElsewhere(f.layer)
		named(f, f.blob, len(f.layer))
		if got, err := f.pull(f.blob); err != nil || !bytes.Equal(got, f.layer) {
			t.Errorf("got %d bytes, %v", len(got), err)
		}
		if n := f.asked("GET blobs/" + f.blob.String()); n != 0 {
			t.Errorf("it was fetched %d times", n)
		}
		f.server.Close()
		f.wantStored(f.blob, f.layer)
	})
	t.Run("is fetched where its file is lost", func(t *testing.T) {
		f := newFixture(t)
		f.holdElsewhere(f.layer)
		hex := f.blob.Encoded()
		if err := os.Remove(filepath.Join(f.place.Objects, "sha256", hex[:2], hex)); err != nil {
			t.Fatal(err)
		}
		if got, err := f.pull(f.blob); err != nil || !bytes.Equal(got, f.layer) {
			t.Errorf("got %d bytes, %v", len(got), err)
		}
		f.server.Close()
		f.wantStored(f.blob, f.layer)
	})
	t.Run("is fetched where the upstream announces another size", func(t *testing.T) {
		f := newFixture(t)
		f.holdElsewhere(f.layer)
		f.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodHead {
				w.Header().Set("Content-Length", "1")
			}
			return r.Method == http.MethodHead
		})
		if got, err := f.pull(f.blob); err != nil || !bytes.Equal(got, f.layer) {
			t.Errorf("got %d bytes, %v", len(got), err)
		}
		if n := f.asked("GET blobs/" + f.blob.String()); n != 1 {
			t.Errorf("it was fetched %d times", n)
		}
	})
	t.Run("is not served while the upstream is down", func(t *testing.T) {
		f := newFixture(t)
		f.holdElsewhere(f.layer)
		named(f, f.blob, len(f.layer))
		f.server.Close()
		if _, err := f.pull(f.blob); err == nil || errors.Is(err, store.ErrNotFound) {
			t.Errorf("got %v", err)
		}
	})
}
