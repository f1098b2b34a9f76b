package blobfile

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/mirror-appliance/appliance/registry/store/blobstore"
	"github.com/mirror-appliance/appliance/registry/store/blobstore/blobstoretest"
)

func TestConformance(t *testing.T) {
	blobstoretest.Subject{
		Open: func(t *testing.T) (blobstore.Storage, func() blobstore.Storage) {
			d := open(t)
			return d.Storage(), func() blobstore.Storage {
				again, err := Open(d.Root())
				must(t, err)
				t.Cleanup(func() { _ = again.Close() })
				return again.Storage()
			}
		},
		Put: func(t *testing.T, s blobstore.Storage, name string, content []byte) {
			path := filepath.Join(s.Root(), filepath.FromSlash(name))
			must(t, os.MkdirAll(filepath.Dir(path), 0o750))
			must(t, os.WriteFile(path, content, 0o600))
		},
	}.Run(t)
}
