package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
)

// What is below a file system that is not mounted may look like a storage, too: a registry that was once started
// without it has made the directories, and was pushed to.
func TestStore_ScrubBlob_ofAStorageThatIsAnother(t *testing.T) {
	f := newFixture(t)
	var ds []digest.Digest
	for i := range 20 {
		ds = append(ds, f.blob("app", fmt.Sprint("blob ", i)).Digest)
	}
	dir := f.files.dir(digest.SHA256)
	f.must(os.Rename(dir, dir+".elsewhere"))
	f.must(os.MkdirAll(filepath.Join(dir, "aa"), 0o750))
	pay := func(context.Context, int) error { return nil }
	for _, d := range ds {
		if damage, err := f.ScrubBlob(f.ctx, d, pay); !errors.As(err, new(*StorageError)) {
			t.Fatalf("scrub says %q, %v", damage, err)
		}
	}
	f.must(os.RemoveAll(dir))
	f.must(os.Rename(dir+".elsewhere", dir))
	if n := f.verify(); n != len(ds) {
		t.Errorf("%d blobs are left of %d", n, len(ds))
	}
}
