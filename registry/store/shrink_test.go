package store

import (
	"bytes"
	"database/sql"
	"errors"
	"os"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/diskspace/diskspacetest"
	"github.com/mirror-appliance/appliance/registry/store/database"
)

// largeManifest pushes a manifest of so many bytes.
func (f *fixture) largeManifest(n, size int) (Manifest, error) {
	body := mustJSON(map[string]any{"schemaVersion": 2, "mediaType": "x/y", "n": n, "filler": bytes.Repeat([]byte("x"), size*3/4)})
	return f.Manifests.Put(f.ctx, "app", body, PutOptions{})
}

func (f *fixture) databaseBytes() int64 {
	f.t.Helper()
	info, err := os.Stat(f.database)
	f.must(err)
	return info.Size()
}

// A disk is filled with manifests until pushes are refused; they are deleted, and pushes work
// again: at once, since the free pages of the database are as good as free, and what they take is
// given back to the file system.
func TestStore_DiskFullOfManifests_SQLite(t *testing.T) {
	dir, _ := diskspacetest.Small(t)
	f := newFixtureIn(t, dir)
	var pushed []digest.Digest
	var err error
	for n := 0; err == nil && n < 1000; n++ {
		var m Manifest
		if m, err = f.largeManifest(n, 256<<10); err == nil {
			pushed = append(pushed, m.Digest)
		}
	}
	var fullErr *FullError
	if !errors.As(err, &fullErr) {
		t.Fatalf("the disk is not full: %v", err)
	}
	if err := f.CheckSpace(); !errors.As(err, &fullErr) {
		t.Errorf("the disk is full, and it is said that pushes work: %v", err)
	}
	for _, d := range pushed {
		f.must(f.Manifests.Delete(f.ctx, "app", d))
	}
	f.must(f.CheckSpace())
	room, err := f.Space()
	f.must(err)
	if room[0].Free < int64(len(pushed))*256<<10 {
		t.Errorf("%d bytes are free", room[0].Free)
	}
	for n := range len(pushed) / 2 {
		_, err := f.largeManifest(-n, 256<<10)
		f.must(err)
	}
	grown := f.databaseBytes()
	for d := range f.manifests() {
		f.must(f.Manifests.Delete(f.ctx, "app", d))
	}
	f.must(f.Maintain(f.ctx))
	if size := f.databaseBytes(); size > grown/4 {
		t.Errorf("the database had %d bytes, and has %d with nothing in it", grown, size)
	}
	f.blob("app", string(bytes.Repeat([]byte("layer"), 1<<20)))
	f.verify()
}

// manifests are those that are held.
func (f *fixture) manifests() map[digest.Digest]bool {
	f.t.Helper()
	held := map[digest.Digest]bool{}
	f.must(database.Query(f.ctx, f.db.Reader(), func(rows *sql.Rows) error {
		var d digest.Digest
		err := rows.Scan(&d)
		held[d] = true
		return err
	}, `SELECT digest FROM manifests`))
	return held
}

// Nothing has to be called for it: what was deleted is given back soon after, or
// when the store is closed.
func TestStore_ShrinksAfterDeleting_SQLite(t *testing.T) {
	f := newFixture(t)
	for n := range 40 {
		_, err := f.largeManifest(n, 256<<10)
		f.must(err)
	}
	f.reopen()
	grown := f.databaseBytes()
	for d := range f.manifests() {
		f.must(f.Manifests.Delete(f.ctx, "app", d))
	}
	f.reopen()
	if size := f.databaseBytes(); grown < 8<<20 || size > grown/4 {
		t.Errorf("the database had %d bytes, and has %d with nothing in it", grown, size)
	}
}
