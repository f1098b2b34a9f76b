package store

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/internal/throttle"
	"github.com/mirror-appliance/appliance/registry/store/blobstore"
)

// counted is content that breaks off at a byte, and counts what is read of it.
type counted struct {
	*bytes.Reader
	breaks int64 // 0: never
	read   int64
	held   <-chan struct{} // what the first Read waits for
}

var errLine = errors.New("the line is dead")

func (c *counted) Read(p []byte) (int, error) {
	if c.held != nil {
		<-c.held
	}
	if at := c.Size() - int64(c.Len()); c.breaks > 0 {
		if at >= c.breaks {
			return 0, errLine
		}
		p = p[:min(int64(len(p)), c.breaks-at)]
	}
	n, err := c.Reader.Read(p)
	c.read += int64(n)
	return n, err
}

func of(content []byte) *counted { return &counted{Reader: bytes.NewReader(content)} }

// partial leaves the first 2 MiB of a blob of 6 MiB.
func (f *fixture) partial() (*Run, []byte, ocispec.Descriptor) {
	f.t.Helper()
	content := []byte(incompressible(6 << 20))
	desc := descriptor("x/y", content)
	r, err := f.Runs.Begin(f.ctx, "test")
	f.must(err)
	half := of(content)
	half.breaks = 2 << 20
	if err := r.PutBlob(f.ctx, "app", desc, half); !errors.Is(err, errLine) {
		f.t.Fatalf("the error is %v", err)
	}
	return r, content, desc
}

func incompressible(n int) string {
	var b bytes.Buffer
	for d := digest.FromString("seed"); b.Len() < n; d = digest.FromString(d.String()) {
		b.WriteString(d.Encoded())
	}
	return b.String()[:n]
}

func TestRun_PutBlob_continuesWhatBrokeOff(t *testing.T) {
	for name, tc := range map[string]struct {
		open      func(testing.TB) *fixture
		meanwhile func(f *fixture, id string)
		reads     int64
	}{
		"in the same process":  {newFixture, func(*fixture, string) {}, 4 << 20},
		"after a restart":      {newFixture, func(f *fixture, _ string) { f.reopen() }, 4 << 20},
		"without a saved hash": {newFileFixture, func(f *fixture, id string) { f.must(os.Remove(f.uploadPath(id + ".json"))) }, 4 << 20},
		"with bytes after the saved hash": {newFileFixture, func(f *fixture, id string) {
			file, err := os.OpenFile(f.uploadPath(id), os.O_WRONLY|os.O_APPEND, 0)
			f.must(err)
			_, err = file.WriteString(incompressible(6 << 20)[2<<20 : 3<<20])
			f.must(errors.Join(err, file.Close()))
		}, 3 << 20},
		"with a saved hash of other bytes than there are": {newFileFixture, func(f *fixture, id string) { f.must(os.Truncate(f.uploadPath(id), 1<<20)) }, 5 << 20},
		"with a torn state":    {newFileFixture, func(f *fixture, id string) { f.must(os.Truncate(f.uploadPath(id+".json"), 20)) }, 4 << 20},
		"whose bytes are gone": {newFileFixture, func(f *fixture, id string) { f.must(os.Remove(f.uploadPath(id))) }, 6 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			f := tc.open(t)
			_, content, desc := f.partial()
			tc.meanwhile(f, blobstore.PartialID(desc.Digest))
			r, err := f.Runs.Begin(f.ctx, "another")
			f.must(err)
			rest := of(content)
			f.must(r.PutBlob(f.ctx, "other/app", desc, rest))
			if rest.read != tc.reads {
				t.Errorf("%d bytes are read, want %d", rest.read, tc.reads)
			}
			has, err := hasBlob(f.ctx, r, "other/app", desc.Digest)
			f.must(err)
			if got, err := os.ReadFile(f.path(desc.Digest)); !has || err != nil || !bytes.Equal(got, content) {
				t.Errorf("exists: %v, %v", has, err)
			}
			if left := f.list("uploads"); len(left) != 0 || f.Runs.Partial(f.ctx, []digest.Digest{desc.Digest}) != nil {
				t.Errorf("left over: %v", left)
			}
		})
	}
}

func TestRun_PutBlob_beginsAgainAfterOtherBytes(t *testing.T) {
	f := newFileFixture(t)
	r, content, desc := f.partial()
	id := blobstore.PartialID(desc.Digest)
	f.must(os.Remove(f.uploadPath(id + ".json")))
	f.must(os.WriteFile(f.uploadPath(id), make([]byte, 2<<20), 0o600))
	var wrong *DigestError
	if err := r.PutBlob(f.ctx, "app", desc, of(content)); !errors.As(err, &wrong) {
		t.Fatalf("the error is %v", err)
	}
	whole := of(content)
	f.must(r.PutBlob(f.ctx, "app", desc, whole))
	if whole.read != desc.Size {
		t.Errorf("%d bytes are read", whole.read)
	}
}

// Content that cannot begin in the middle comes whole, and content of which all is here not at all.
func TestRun_PutBlob_ofContentThatIsHere(t *testing.T) {
	f := newFileFixture(t)
	r, content, desc := f.partial()
	f.must(os.WriteFile(f.uploadPath(blobstore.PartialID(desc.Digest)), content, 0o600))
	all := of(content)
	f.must(r.PutBlob(f.ctx, "app", desc, all))
	if all.read != 0 {
		t.Errorf("%d bytes are read", all.read)
	}
	f = newFixture(t)
	r, content, desc = f.partial()
	f.must(r.PutBlob(f.ctx, "app", desc, io.MultiReader(bytes.NewReader(content))))
}

func TestRun_PutRest_whatItRefuses(t *testing.T) {
	f := newFixture(t)
	r, content, desc := f.partial()
	var invalid *InvalidError
	for _, offset := range []int64{-1, desc.Size + 1} {
		if err := r.PutRest(f.ctx, "app", desc, offset, bytes.NewReader(nil)); !errors.As(err, &invalid) {
			t.Errorf("offset %d: %v", offset, err)
		}
	}
	var gone *PartialError
	if err := r.PutRest(f.ctx, "app", desc, 3<<20, bytes.NewReader(nil)); !errors.As(err, &gone) {
		t.Error(err)
	}
	f.must(r.PutRest(f.ctx, "app", desc, 1<<20, bytes.NewReader(content[1<<20:])))
	if left := f.list("uploads"); len(left) != 0 {
		t.Errorf("left over: %v", left)
	}
}

// Two runs that put the same blob do not wait for each other.
func TestRun_PutBlob_whileAnotherDoes(t *testing.T) {
	f := newFileFixture(t)
	content := []byte(incompressible(3 << 20))
	desc := descriptor("x/y", content)
	r, err := f.Runs.Begin(f.ctx, "test")
	f.must(err)
	begun, proceed := make(chan struct{}), make(chan struct{})
	first := of(content)
	first.held = proceed
	done := make(chan error)
	go func() {
		done <- r.PutBlob(f.ctx, "app", desc, io.MultiReader(signal{begun}, first))
	}()
	<-begun
	f.must(r.PutBlob(f.ctx, "app", desc, of(content)))
	// Nor does one that finds what has come of the other.
	f.must(os.WriteFile(f.uploadPath(blobstore.PartialID(desc.Digest)), content[:1<<20], 0o600))
	f.must(r.PutBlob(f.ctx, "app", desc, of(content)))
	f.must(os.Remove(f.uploadPath(blobstore.PartialID(desc.Digest))))
	close(proceed)
	f.must(<-done)
	if left := f.list("uploads"); len(left) != 0 {
		t.Errorf("left over: %v", left)
	}
}

// signal is empty content that tells when it is read.
type signal struct{ begun chan struct{} }

func (s signal) Read([]byte) (int, error) {
	close(s.begun)
	return 0, io.EOF
}

func TestRun_PutBlob_whatIsLeftExpires(t *testing.T) {
	f := newFixture(t)
	_, _, desc := f.partial()
	id := blobstore.PartialID(desc.Digest)
	if _, err := f.Uploads.Resume(f.ctx, "app", id); !errors.Is(err, ErrNotFound) {
		t.Errorf("a session resumes it: %v", err)
	}
	old := time.Now().Add(-48 * time.Hour)
	f.must(os.Chtimes(f.statePath(id), old, old))
	if f.bucket == nil { // where the bytes are in the state
		f.must(os.Chtimes(f.uploadPath(id), old, old))
	}
	var stale []string
	before := f.clock.now().Add(-24 * time.Hour)
	f.must(f.Garbage.StaleUploads(f.ctx, before, func(id string, size int64) error {
		if size < 2<<20 {
			t.Errorf("its size is %d", size)
		}
		stale = append(stale, id)
		return nil
	}))
	if len(stale) != 1 || stale[0] != id {
		t.Fatalf("stale are %v", stale)
	}
	freed, err := f.Garbage.RemoveUpload(context.WithoutCancel(f.ctx), before, id)
	if err != nil || freed < 2<<20 {
		t.Errorf("%d bytes are freed, %v", freed, err)
	}
	if left, _ := filepath.Glob(f.uploadPath("*")); len(left) != 0 {
		t.Errorf("left over: %v", left)
	}
}

func TestRun_Written(t *testing.T) {
	f := newFileFixture(t)
	run, err := f.Runs.Begin(t.Context(), "test")
	f.must(err)
	const size = 2 << 20
	content := bytes.Repeat([]byte("x"), size)
	desc := ocispec.Descriptor{Digest: digest.FromBytes(content), Size: size}
	for name, tc := range map[string]struct{ size, n int64 }{
		"a small blob": {1 << 10, 0}, "before its beginning": {size, -1}, "past its end": {size, size + 1},
	} {
		var invalid *InvalidError
		if _, err := run.Written(t.Context(), ocispec.Descriptor{Digest: desc.Digest, Size: tc.size}, tc.n); !errors.As(err, &invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	var gone *PartialError
	if _, err := run.Written(t.Context(), desc, 5); !errors.As(err, &gone) {
		t.Errorf("of a file that is not there: %v", err)
	}
	path, err := run.Written(t.Context(), desc, 0)
	f.must(err)
	f.must(os.WriteFile(path, content[:size/2], 0o600))
	again, err := run.Written(t.Context(), desc, size/2)
	if err != nil || again != path {
		t.Errorf("the file is %s and was %s, %v", again, path, err)
	}
	f.must(os.WriteFile(path, content, 0o600))
	f.must(run.PutRest(t.Context(), "a", desc, size, bytes.NewReader(nil)))
	if has, err := hasBlob(f.ctx, run, "a", desc.Digest); err != nil || !has {
		t.Errorf("exists: %v, %v", has, err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file of the upload: %v", err)
	}
}

// TestRun_PutBlob_ofAClientThatLeft: all of a blob has come when its client goes away.
func TestRun_PutBlob_ofAClientThatLeft(t *testing.T) {
	f := newFixture(t)
	content := []byte(incompressible(6 << 20))
	desc := descriptor("x/y", content)
	r, err := f.Runs.Begin(f.ctx, "test")
	f.must(err)
	ctx, leave := context.WithCancel(f.ctx)
	last := of(content)
	err = r.PutBlob(ctx, "app", desc, io.MultiReader(last, throttle.ReaderFunc(func([]byte) (int, error) {
		leave()
		return 0, io.EOF
	})))
	f.must(err)
	next, err := f.Runs.Begin(f.ctx, "next")
	f.must(err)
	staged, err := next.Confirm(f.ctx, map[string][]ocispec.Descriptor{"app": {desc}})
	f.must(err)
	if len(staged["app"]) != 1 {
		t.Error("the next run does not find the blob")
	}
}
