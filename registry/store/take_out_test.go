package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/opencontainers/go-digest"
)

// Hardly anybody pushes sha512, so that a blob of it may well be the only one: whether it is the
// storage that is lost, the others can tell.
func TestStore_OpenBlob_ofTheOnlyOneOfItsAlgorithm(t *testing.T) {
	f := newFixture(t)
	for i := range 3 {
		f.blob("app", fmt.Sprint("another ", i))
	}
	d := digest.SHA512.FromString("content")
	push := func() {
		t.Helper()
		u, err := f.Uploads.New(f.ctx, "app")
		f.must(err)
		_, err = u.ReadFrom(bytes.NewReader([]byte("content")))
		f.must(err)
		_, err = u.Commit(f.ctx, d)
		f.must(err)
	}
	push()
	f.must(os.Remove(f.path(d)))
	_, err := f.Blobs.Open(f.ctx, "app", d)
	if !errors.Is(err, ErrNotFound) {
		t.Errorf("opening it gives %v", err)
	}
	_, err = f.Blobs.Stat(f.ctx, "app", d)
	if !errors.Is(err, ErrNotFound) {
		t.Errorf("who asks whether to push it again is told %v", err)
	}
	push()
	b, err := f.Blobs.Open(f.ctx, "app", d)
	f.must(err)
	f.must(b.Close())
}
