package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/registry/store/blobfile"
)

func TestStore_PushAndPull(t *testing.T) {
	f := newFixture(t)
	put := f.pushImage("library/app", "app", "v1", "latest")

	got, err := f.ManifestByTag(f.ctx, "library/app", "v1")
	f.must(err)
	if got.Digest != put.Digest || !bytes.Equal(got.Body, put.Body) || got.MediaType != put.MediaType {
		t.Errorf("by tag: got %+v, put %+v", got, put)
	}
	got, err = f.Manifest(f.ctx, "library/app", put.Digest)
	f.must(err)
	if !got.Created.Equal(put.Created) || got.Descriptor().Size != int64(len(put.Body)) {
		t.Errorf("by digest: got %+v, put %+v", got, put)
	}
	tags, more, err := f.Tags(f.ctx, "library/app", "", -1)
	f.must(err)
	if strings.Join(tags, " ") != "latest v1" || more {
		t.Errorf("tags %v, more %v", tags, more)
	}
}

func TestOpen_SecondOwnerIsRefused(t *testing.T) {
	f := newFixture(t)
	_, err := Open(f.ctx, Options{Database: f.database, Storage: f.storage()})
	var locked *LockedError
	if !errors.As(err, &locked) || locked.Hint() == "" {
		t.Fatalf("got %v, want a LockedError", err)
	}
	f.reopen() // and the lock goes when the owner does
}

func TestOpen_FileThatIsNoDatabase(t *testing.T) {
	foreign := filepath.Join(t.TempDir(), "foreign.db")
	db, err := sql.Open("sqlite", foreign)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(`CREATE TABLE accounts (id INTEGER)`); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	foreignBytes, err := os.ReadFile(foreign)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"text":                []byte("listen: :8443\n"),
		"other program's":     foreignBytes,
		"damaged":             append([]byte("SQLite format 3\x00"), append(make([]byte, 52), append([]byte{0x6d, 0x69, 0x72, 0x72}, bytes.Repeat([]byte{0xff}, 8000)...)...)...),
		"nothing but a start": []byte("SQLite"),
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "appliance.db")
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Open(context.Background(), Options{Database: path, Storage: t.TempDir()})
			var not *NotDatabaseError
			if !errors.As(err, &not) || !strings.Contains(err.Error(), path) {
				t.Fatalf("got %v, want a NotDatabaseError that names %s", err, path)
			}
			after, err := os.ReadFile(path)
			if err != nil || !bytes.Equal(after, content) {
				t.Errorf("the file was written to (%v)", err)
			}
		})
	}
}

func TestOpen_NewerDatabaseIsRefused(t *testing.T) {
	f := newFixture(t)
	var version int
	f.must(f.writer.QueryRow(`SELECT user_version FROM pragma_user_version`).Scan(&version))
	_, err := f.writer.Exec(`PRAGMA user_version = 999`)
	f.must(err)
	path := f.database
	f.must(f.Close())
	_, err = Open(f.ctx, Options{Database: path, Storage: f.storage()})
	var newer *NewerError
	if !errors.As(err, &newer) || newer.Have != 999 || newer.Hint() == "" {
		t.Fatalf("got %v, want a NewerError", err)
	}
	db, err := sql.Open("sqlite", path)
	f.must(err)
	_, err = db.Exec(fmt.Sprintf(`PRAGMA user_version = %d`, version))
	f.must(err)
	f.must(db.Close())
	f.Store = nil
	f.reopen()
}

func TestOpen_FilesAreTheOwnersAlone(t *testing.T) {
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

func TestOpen_WhatIsAcknowledgedIsSynced(t *testing.T) {
	f := newFixture(t)
	for name, db := range map[string]*sql.DB{"writer": f.writer, "reader": f.reader} {
		var conns []*sql.Conn // kept, so that the pool opens another for the next
		for range readers {   // every connection of the pool has the pragmas, not the first alone
			conn, err := db.Conn(f.ctx)
			f.must(err)
			conns = append(conns, conn)
			var journal string
			var synchronous, foreignKeys int
			f.must(conn.QueryRowContext(f.ctx, `SELECT * FROM pragma_journal_mode, pragma_synchronous, pragma_foreign_keys`).
				Scan(&journal, &synchronous, &foreignKeys))
			if journal != "wal" || synchronous != 2 || foreignKeys != 1 {
				t.Errorf("%s: journal_mode %s, synchronous %d, foreign_keys %d", name, journal, synchronous, foreignKeys)
			}
			if name == "writer" {
				break
			}
		}
		for _, conn := range conns {
			f.must(conn.Close())
		}
	}
	if _, err := f.reader.Exec(`DELETE FROM blobs`); err == nil {
		t.Error("a reader connection could write")
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
		if blobfile.IsUploadID(id) {
			t.Errorf("id %q is accepted", id)
		}
	}
}
