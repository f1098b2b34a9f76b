package store

import (
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// oldDatabase makes a database as the first version of the program left it, with a user in it.
func oldDatabase(t *testing.T) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "appliance.db")
	db, err := sql.Open("sqlite", dsn(path))
	if err != nil {
		t.Fatal(err)
	}
	text, err := migrations.ReadFile("migrations/0001_initial.sql")
	if err != nil {
		t.Fatal(err)
	}
	if err := applyMigration(t.Context(), db, 1, string(text)); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(`INSERT INTO users (name, role, password_hash, created, updated) VALUES ('init', 'admin', x'00', 1, 1)`); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestOpen_MigratesAfterABackup(t *testing.T) {
	path := oldDatabase(t)
	for _, name := range []string{".schema-0.backup", ".schema-1.backup.tmp"} { // of an upgrade long ago, and one that was killed
		if err := os.WriteFile(path+name, []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := Open(t.Context(), Options{Database: path, Storage: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if u, err := s.User(t.Context(), "init"); err != nil || u.Role != "admin" || u.Repositories != nil {
		t.Errorf("after the migration: %+v, %v", u, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	backups, err := filepath.Glob(path + ".schema-*")
	if err != nil || len(backups) != 1 || backups[0] != migrationBackup(path, 1) {
		t.Fatalf("backups: %v, %v", backups, err)
	}
	if info, err := os.Stat(backups[0]); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	db, err := sql.Open("sqlite", backups[0])
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var users, version int
	if err := db.QueryRow(`SELECT count(*), user_version FROM users, pragma_user_version`).Scan(&users, &version); err != nil || users != 1 || version != 1 {
		t.Errorf("the backup has %d users and version %d, %v", users, version, err)
	}
}

// A command that only reads leaves the database to the older program.
func TestOpen_CurrentRefusesToMigrate(t *testing.T) {
	path := oldDatabase(t)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Open(t.Context(), Options{Database: path, Storage: t.TempDir(), Current: true})
	var older *OlderError
	if !errors.As(err, &older) || older.Have != 1 || !strings.Contains(older.Hint(), "serve") {
		t.Errorf("got %v", err)
	}
	after, err := os.ReadFile(path)
	if err != nil || string(after) != string(before) {
		t.Errorf("the database was written to (%v)", err)
	}
	s, err := Open(t.Context(), Options{Database: filepath.Join(t.TempDir(), "new.db"), Storage: t.TempDir(), Current: true})
	if err != nil {
		t.Fatalf("a new one: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestOpen_WithNothingToMigrateMakesNoBackup(t *testing.T) {
	f := newFixture(t)
	f.reopen()
	if backups, err := filepath.Glob(f.database + ".schema-*"); err != nil || len(backups) != 0 {
		t.Errorf("backups: %v, %v", backups, err)
	}
}

func TestOpen_WithoutItsBackupDoesNotMigrate(t *testing.T) {
	path := oldDatabase(t)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// A directory is in the way, as a full disk would be.
	if err := os.MkdirAll(filepath.Join(migrationBackup(path, 1), "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	_, err = Open(t.Context(), Options{Database: path, Storage: t.TempDir()})
	if !errors.Is(err, syscall.EEXIST) && !errors.Is(err, syscall.ENOTEMPTY) && !errors.Is(err, syscall.EISDIR) || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v", err)
	}
	after, err := os.ReadFile(path)
	if err != nil || string(after) != string(before) {
		t.Errorf("the database was written to (%v)", err)
	}
	if _, err := os.Stat(migrationBackup(path, 1) + ".tmp"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("half a backup is left: %v", err)
	}
}
