package store

import (
	"bytes"
	"database/sql"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/registry/store/blobstore"
	"github.com/mirror-appliance/appliance/registry/store/migrations"
	"github.com/mirror-appliance/appliance/registry/store/sqlite"
)

func TestStore_PushAndPull(t *testing.T) {
	f := newFixture(t)
	put := f.pushImage("library/app", "app", "v1", "latest")

	got, err := f.Manifests.ByTag(f.ctx, "library/app", "v1")
	f.must(err)
	if got.Digest != put.Digest || !bytes.Equal(got.Body, put.Body) || got.MediaType != put.MediaType {
		t.Errorf("by tag: got %+v, put %+v", got, put)
	}
	got, err = f.Manifests.Get(f.ctx, "library/app", put.Digest)
	f.must(err)
	if !got.Created.Equal(put.Created) || got.Descriptor().Size != int64(len(put.Body)) {
		t.Errorf("by digest: got %+v, put %+v", got, put)
	}
	tags, more, err := f.Tags.List(f.ctx, "library/app", "", -1)
	f.must(err)
	if strings.Join(tags, " ") != "latest v1" || more {
		t.Errorf("tags %v, more %v", tags, more)
	}
}

func TestOpen_SecondOwnerIsRefused(t *testing.T) {
	f := newFixture(t)
	_, err := Open(f.ctx, f.options())
	var locked *LockedError
	if !errors.As(err, &locked) || locked.Hint() == "" {
		t.Fatalf("got %v, want a LockedError", err)
	}
	f.reopen() // and the lock goes when the owner does
}

func TestStore_Close_twice(t *testing.T) {
	f := newFixture(t)
	f.must(f.Close())
	if err := f.Close(); err == nil { // it says so, and does not panic
		t.Error("closed twice without an error")
	}
	f.Store = nil
}

// The first version of the program had the first migration alone.
func TestOpen_migratesTheFirstVersion_SQLite(t *testing.T) {
	schema := migrations.Schema()
	initial, err := fs.ReadFile(schema.Migrations, "0001_initial.sql")
	if err != nil {
		t.Fatal(err)
	}
	schema.Migrations = fstest.MapFS{"0001_initial.sql": &fstest.MapFile{Data: initial}}
	path := filepath.Join(t.TempDir(), "appliance.db")
	old, err := sqlite.Open(t.Context(), sqlite.Options{Path: path, Schema: schema})
	if err != nil {
		t.Fatal(err)
	}
	err = old.Write(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.Exec(`INSERT INTO users (name, role, password_hash, created, updated) VALUES ('init', 'admin', x'00', 1, 1)`)
		return err
	})
	if err := errors.Join(err, old.Close()); err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), Options{Database: path, Storage: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if u, err := s.Users.Get(t.Context(), "init"); err != nil || u.Role != "admin" || u.Repositories != nil {
		t.Errorf("after the migration: %+v, %v", u, err)
	}
}

func TestOpen_FilesAreTheOwnersAlone_SQLite(t *testing.T) {
	f := newFixture(t)
	f.pushImage("app", "app")
	for _, path := range []string{f.database, f.database + "-wal", f.database + "-shm", f.database + ".lock"} {
		info, err := os.Stat(path)
		f.must(err)
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
	}
}

func TestStore_Names(t *testing.T) {
	good := []string{"a", "a/b/c/d", "openshift-release-dev/ocp-v4.0-art-dev", "a__b", "a---b", "a.b_c", strings.Repeat("a", 255)}
	bad := []string{"", "A", "/a", "a/", "a//b", "a..b", "a_", "-a", "localhost:5000/a", "a/../b", "a b", "ä", "a\n", strings.Repeat("a", 256)}
	for _, name := range good {
		if err := image.CheckRepository(name); err != nil {
			t.Errorf("repository %q: %v", name, err)
		}
	}
	for _, name := range bad {
		if image.CheckRepository(name) == nil {
			t.Errorf("repository %q is accepted", name)
		}
	}
	for _, tag := range []string{"v1", "_x", "A.b-c_d", strings.Repeat("a", 128)} {
		if err := image.CheckTag(tag); err != nil {
			t.Errorf("tag %q: %v", tag, err)
		}
	}
	for _, tag := range []string{"", ".a", "-a", "a/b", "a:b", "a\n", strings.Repeat("a", 129)} {
		if image.CheckTag(tag) == nil {
			t.Errorf("tag %q is accepted", tag)
		}
	}
	for _, id := range []string{"", "..", "../../etc/passwd", "6BA7B810-9DAD-11D1-80B4-00C04FD430C8", "{6ba7b810-9dad-11d1-80b4-00c04fd430c8}", "6ba7b8109dad11d180b400c04fd430c8"} {
		if blobstore.IsUploadID(id) {
			t.Errorf("id %q is accepted", id)
		}
	}
}
