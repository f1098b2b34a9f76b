package store

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// What was placed and could not be synced is taken back. While it is synced, which takes long on a
// disk that is about to fail, another push of the same blob can come, put its own file in its
// place, and be told that it is held.
func TestStore_TakeBack(t *testing.T) {
	for _, a := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
		t.Run(a.String(), func(t *testing.T) { testTakeBack(t, a) })
	}
}

func testTakeBack(t *testing.T, a digest.Algorithm) {
	f := newFileFixture(t)
	const content = "pushed by two"
	d := a.FromString(content)
	place := func() fs.FileInfo {
		t.Helper()
		path := filepath.Join(f.storage(), "uploads", "placed")
		f.must(os.WriteFile(path, []byte(content), 0o600))
		file, err := os.Open(path)
		f.must(err)
		t.Cleanup(func() { file.Close() })
		placed, err := f.files.Place(file, d)
		if err != nil || placed == nil {
			t.Fatalf("Place returns %v, %v", placed, err)
		}
		return placed
	}
	f.must(f.blobGuard().Enter(f.ctx, d))

	f.must(f.undoPlace(f.ctx, place(), d))
	if _, err := os.Lstat(f.path(d)); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("the file that nobody else has put there: %v", err)
	}

	placed := place()
	u, err := f.Uploads.New(f.ctx, "app")
	f.must(err)
	_, err = u.ReadFrom(bytes.NewReader([]byte(content)))
	f.must(err)
	_, err = u.Commit(f.ctx, d)
	f.must(err)
	f.must(f.undoPlace(f.ctx, placed, d))
	f.blobGuard().Leave(d)
	if !f.blobGuard().Spared(d, f.clock.now().Add(time.Hour)) {
		t.Error("the manifest that is to come of the other push is not expected any more")
	}
	b, err := f.Blobs.Open(f.ctx, "app", d)
	f.must(err)
	defer b.Close()
	if got, err := io.ReadAll(b); err != nil || string(got) != content {
		t.Errorf("the blob that was acknowledged reads %q, %v", got, err)
	}
}

// An upload whose file is gone is not one whose blob another daemon has removed: trying again does not help.
func TestUpload_Commit_ofAFileThatIsGone(t *testing.T) {
	f := newFileFixture(t)
	content := make([]byte, 2<<20) // more than the journal takes
	u, err := f.Uploads.New(f.ctx, "app")
	f.must(err)
	_, err = u.Write(content)
	f.must(err)
	left, err := filepath.Glob(filepath.Join(f.storage(), "uploads", u.ID()+"*"))
	f.must(err)
	for _, file := range left {
		f.must(os.Remove(file))
	}
	if _, err = u.Commit(f.ctx, digest.FromBytes(content)); len(left) == 0 || !errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrUnavailable) {
		t.Errorf("without %v, Commit gives %v", left, err)
	}
}
