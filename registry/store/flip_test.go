package store

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/registry/store/backup"
)

// flips gives a copy of a file for each place where it has some text, with one bit of the
// text's last letter flipped.
func flips(t *testing.T, content []byte, text string) [][]byte {
	t.Helper()
	var all [][]byte
	for at := 0; ; {
		i := bytes.Index(content[at:], []byte(text))
		if i < 0 {
			break
		}
		at += i + len(text)
		flipped := bytes.Clone(content)
		flipped[at-1] ^= 1 // the last: the place in an index stays that of the digest
		all = append(all, flipped)
	}
	if len(all) < 6 { // blobs, links and their index, references and their index, the manifest
		t.Fatalf("%s is at %d places only", text, len(all))
	}
	return all
}

// flipped is a closed store with one image, and the content of its database.
func flipped(t *testing.T) (f *fixture, layer digest.Digest, body, database []byte) {
	f = newFileFixture(t)
	l := f.blob("app", "a layer")
	body = manifestOf(f.blob("app", "{}"), l)
	_, err := f.Manifests.Put(f.ctx, "app", body, PutOptions{Tags: []string{"v1"}})
	f.must(err)
	path := f.database
	f.must(f.Close())
	f.Store = nil // to be opened again
	database, err = os.ReadFile(path)
	f.must(err)
	return f, l.Digest, body, database
}

// One bit of the database that flips is noticed before a layer that is in use goes, and before a
// manifest is served that is not what was pushed.
func TestStore_oneBitOfTheDatabase_SQLite(t *testing.T) {
	f, layer, body, database := flipped(t)
	path := filepath.Join(f.dir, "appliance.db")
	file := filepath.Join(f.dir, "storage", "sha256", layer.Encoded()[:2], layer.Encoded())
	for i, content := range flips(t, database, layer.Encoded()) {
		f.must(os.WriteFile(path, content, 0o600))
		s, err := Open(f.ctx, Options{Database: path, Storage: filepath.Join(f.dir, "storage"), Now: time.Now})
		if err != nil {
			continue // noticed at once
		}
		if m, err := s.Manifests.ByTag(f.ctx, "app", "v1"); err == nil && !bytes.Equal(m.Body, body) {
			t.Errorf("%d: served %s", i, m.Body)
		}
		later := time.Now().Add(time.Hour)
		checked := s.Garbage.CheckReferences(f.ctx)
		if checked == nil {
			var garbage []digest.Digest
			_ = s.Garbage.GarbageBlobs(f.ctx, later, func(d digest.Digest, _ int64) error {
				garbage = append(garbage, d)
				return nil
			})
			_, _, _ = s.Garbage.RemoveBlobs(f.ctx, later, garbage)
		} else if !errors.As(checked, new(*CorruptError)) {
			t.Errorf("%d: %v", i, checked)
		}
		if _, err := os.Stat(file); err != nil {
			t.Fatalf("%d: the layer is gone: %v", i, err)
		}
		f.must(s.Close())
	}
	f.must(os.WriteFile(path, database, 0o600))
	f.reopen()
	f.must(f.Garbage.CheckReferences(f.ctx))
}

// No backup whose database has one bit flipped is restored as if it were whole.
func TestRestore_oneBitOfTheDatabase_SQLite(t *testing.T) {
	f, layer, _, _ := flipped(t)
	f.reopen()
	from := filepath.Join(f.dir, "backup")
	_, err := f.backup(from)
	f.must(err)
	database, err := os.ReadFile(filepath.Join(from, "appliance.db"))
	f.must(err)
	restore := func(content []byte) error {
		f.must(os.WriteFile(filepath.Join(from, "appliance.db"), content, 0o600))
		to := t.TempDir()
		_, err := backup.Restore(f.ctx, from, backup.RestoreOptions{Database: filepath.Join(to, "db"), Storage: filepath.Join(to, "storage")})
		if _, there := os.Stat(filepath.Join(to, "db")); err != nil && there == nil {
			t.Errorf("it left a database: %v", err)
		}
		return err
	}
	for i, content := range flips(t, database, layer.Encoded()) {
		if err := restore(content); err == nil {
			t.Errorf("flip %d was restored", i)
		}
	}
	for name, content := range map[string][]byte{"nothing": {}, "a part of the header": database[:50], "a page": database[:4096], "half": database[:len(database)/2]} {
		if err := restore(content); !errors.As(err, new(*backup.Error)) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	f.must(restore(database))
}
