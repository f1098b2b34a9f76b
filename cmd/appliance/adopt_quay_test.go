package main_test

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/crypto/bcrypt"
	_ "modernc.org/sqlite"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// quaySchema is the part of Quay's schema that matters, of the revision that mirror-registry 2.0.11 has.
const quaySchema = `
CREATE TABLE alembic_version (version_num TEXT NOT NULL);
INSERT INTO alembic_version VALUES ('3f8d7acdf7f9');
CREATE TABLE user (id INTEGER PRIMARY KEY, uuid TEXT, username TEXT NOT NULL, password_hash TEXT, email TEXT NOT NULL,
	verified INTEGER NOT NULL, organization INTEGER NOT NULL, robot INTEGER NOT NULL, invalid_login_attempts INTEGER NOT NULL, enabled INTEGER NOT NULL);
CREATE TABLE robotaccounttoken (id INTEGER PRIMARY KEY, robot_account_id INTEGER NOT NULL, token TEXT NOT NULL, fully_migrated INTEGER NOT NULL);
CREATE TABLE repository (id INTEGER PRIMARY KEY, namespace_user_id INTEGER, name TEXT NOT NULL, visibility_id INTEGER NOT NULL, kind_id INTEGER NOT NULL, state INTEGER NOT NULL);
CREATE TABLE repositorypermission (id INTEGER PRIMARY KEY, team_id INTEGER, user_id INTEGER, repository_id INTEGER NOT NULL, role_id INTEGER NOT NULL);
CREATE TABLE mediatype (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE manifest (id INTEGER PRIMARY KEY, repository_id INTEGER NOT NULL, digest TEXT NOT NULL, media_type_id INTEGER NOT NULL, manifest_bytes TEXT NOT NULL);
CREATE TABLE tag (id INTEGER PRIMARY KEY, name TEXT NOT NULL, repository_id INTEGER NOT NULL, manifest_id INTEGER, lifetime_start_ms INTEGER NOT NULL,
	lifetime_end_ms INTEGER, hidden INTEGER NOT NULL, reversion INTEGER NOT NULL, tag_kind_id INTEGER NOT NULL, linked_tag_id INTEGER);
INSERT INTO mediatype VALUES (1, 'application/vnd.oci.image.manifest.v1+json');
INSERT INTO user VALUES
	(1, 'u1', 'init', :hash, 'init@x', 1, 0, 0, 0, 1), (2, 'u2', 'openshift', NULL, '', 1, 1, 0, 0, 1),
	(3, 'u3', 'init+ci', NULL, '', 1, 0, 1, 0, 1), (4, 'u4', 'dev', :hash, 'dev@x', 1, 0, 0, 0, 1),
	(5, 'u5', 'openshift+old', NULL, '', 1, 0, 1, 0, 1), (6, 'u6', 'gone', :hash, '', 1, 0, 0, 0, 0);
INSERT INTO robotaccounttoken VALUES (1, 3, :token, 1), (2, 5, 'v0$$AAAA', 1);
INSERT INTO repository VALUES (1, 2, 'release', 2, 1, 0), (2, 2, 'release/images', 1, 1, 0), (3, 1, 'deleted', 2, 1, 3), (4, 1, 'own', 2, 1, 0);
INSERT INTO repositorypermission VALUES (1, NULL, 3, 1, 2), (2, NULL, 4, 1, 3);
`

const (
	quayPassword = "as-in-quay"
	robotToken   = "ROBOTTOKENA1B2C3D4E5F6A1B2C3D4E5F6A1B2C3D4E5F6A1B2C3D4E5F6XYZXYZ"
	quaySecret   = "85112049853271294817328747192847192847"
	// sealedToken is robotToken as python's cryptography encrypts it with that secret.
	sealedToken = "v0$$AAECAwQFBgcICQoLDDAe5c5OOpTPH9OShvfcLFvtQ5R2afOcJM/fZf8U4h4t44ToXWpxZYFnXcG3ymB2ACuSp6BiRxSgpiGT+bs/PuZVxnCnjZHBrXQ0MrRTmHll"
)

// quay is the install directory of a mirror-registry.
type quay struct {
	root string
	db   *sql.DB // open, so that the newest is in the WAL
}

func newQuay(t *testing.T, root string) *quay {
	t.Helper()
	q := &quay{root: root}
	for _, dir := range []string{"quay-config", "quay-rootCA", "quay-storage/uploads", "sqlite-storage"} {
		must(t, os.MkdirAll(filepath.Join(root, dir), 0o755))
	}
	must(t, os.WriteFile(filepath.Join(root, "quay-config/config.yaml"), fmt.Appendf(nil,
		"SERVER_HOSTNAME: registry.example.com:8443\nDB_URI: sqlite:////sqlite/quay_sqlite.db\nDATABASE_SECRET_KEY: '%s'\nSUPER_USERS:\n  - init\n", quaySecret), 0o644))
	var err error
	q.db, err = sql.Open("sqlite", "file:"+filepath.Join(root, "sqlite-storage/quay_sqlite.db")+"?_pragma=journal_mode(wal)")
	must(t, err)
	t.Cleanup(func() { must(t, q.db.Close()) })
	hash, err := bcrypt.GenerateFromPassword([]byte(quayPassword), bcrypt.MinCost)
	must(t, err)
	_, err = q.db.Exec(quaySchema, sql.Named("hash", string(hash)), sql.Named("token", sealedToken))
	must(t, err)
	return q
}

func (q *quay) file(d digest.Digest) string {
	return filepath.Join(q.root, "quay-storage/sha256", d.Encoded()[:2], d.Encoded())
}

// push writes an image as Quay does, and returns the id of its manifest.
func (q *quay) push(t *testing.T, repository int, m *testImage) (id int64) {
	t.Helper()
	for _, content := range m.contents {
		file := q.file(digest.FromBytes(content))
		must(t, os.MkdirAll(filepath.Dir(file), 0o755))
		must(t, os.WriteFile(file, content, 0o644))
	}
	r, err := q.db.Exec(`INSERT INTO manifest (repository_id, digest, media_type_id, manifest_bytes) VALUES (?, ?, 1, ?)`, repository, m.digest, string(m.body))
	must(t, err)
	id, err = r.LastInsertId()
	must(t, err)
	return id
}

// tag writes a tag, which ends at some time unless that is zero.
func (q *quay) tag(t *testing.T, repository int, name string, manifest int64, end time.Time, hidden bool) {
	t.Helper()
	var ms any
	if !end.IsZero() {
		ms = end.UnixMilli()
	}
	_, err := q.db.Exec(`INSERT INTO tag (name, repository_id, manifest_id, lifetime_start_ms, lifetime_end_ms, hidden, reversion, tag_kind_id)
		VALUES (?, ?, ?, 1, ?, ?, 0, 1)`, name, repository, manifest, ms, hidden)
	must(t, err)
}

// TestAdopt_mirrorRegistry: what is alive in Quay's database is taken over with users and robots.
func TestAdopt_mirrorRegistry(t *testing.T) {
	f := newFaulty(t, "")
	f.start(t)
	q := newQuay(t, filepath.Join(t.TempDir(), "quay-install"))
	release := newTestImage("openshift/release", "4.17", randomBytes(2<<20), randomBytes(10))
	nested := newTestImage("openshift/release/images", "v1", randomBytes(1<<20))
	untagged := newTestImage("init/own", "", randomBytes(100))
	dead := newTestImage("init/deleted", "x", randomBytes(100))
	now := time.Now()
	id := q.push(t, 1, release)
	q.tag(t, 1, "4.17", id, time.Time{}, false)
	q.tag(t, 1, "soon", id, now.Add(time.Hour), false)
	q.tag(t, 1, "past", id, now.Add(-time.Hour), false)
	q.tag(t, 1, "$temp-1", id, time.Time{}, true)
	q.tag(t, 2, "v1", q.push(t, 2, nested), time.Time{}, false)
	q.push(t, 4, untagged)
	q.tag(t, 3, "x", q.push(t, 3, dead), time.Time{}, false)
	before := readAll(t, filepath.Join(q.root, "sqlite-storage"), "quay_sqlite.db", "quay_sqlite.db-wal")

	if r := f.adopts(t, 1, q.root, "--dry-run"); r.Manifests != 3 || r.Tags != 3 || len(r.Users) != 3 {
		t.Errorf("the dry run reports %+v", r)
	}
	r := f.adopts(t, 1, q.root)
	if r.Repositories != 3 || r.Manifests != 3 || r.Tags != 3 || !slices.Equal(r.Users, []string{"init", "init+ci", "dev"}) {
		t.Errorf("the report is %+v", r)
	}
	if len(r.Problems) != 3 {
		t.Errorf("the problems are %v", r.Problems)
	}
	said := fmt.Sprint(r.Problems)
	for _, want := range []string{"user openshift+old: its token cannot be read", "user gone: it is disabled", "user dev: it can no longer pull openshift/release"} {
		if !strings.Contains(said, want) {
			t.Errorf("it does not say %q: %s", want, said)
		}
	}
	if !slices.Equal(before, readAll(t, filepath.Join(q.root, "sqlite-storage"), "quay_sqlite.db", "quay_sqlite.db-wal")) {
		t.Error("Quay's database is changed")
	}
	f.answers(t, release.path()+"4.17", map[string]int{"init:" + quayPassword: 200, "init+ci:" + robotToken: 200, "init+ci:wrong-token": 401, "dev:" + quayPassword: 403})
	users, err := f.admin.Users(t.Context())
	must(t, err)
	for name, want := range map[string]string{"init": "admin []", "init+ci": "push [openshift/release]", "dev": "push [dev/*]"} {
		i := slices.IndexFunc(users, func(u api.User) bool { return u.Name == name })
		if got := fmt.Sprint(users[i].Role, " ", users[i].Repositories); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	f.stop(t)
	f.verify(t)
}

// TestAdopt_mirrorRegistryOfAUser has database and blobs in volumes of a rootless podman: root finds them by
// the units in the home directory.
func TestAdopt_mirrorRegistryOfAUser(t *testing.T) {
	f := newFaulty(t, "")
	f.start(t)
	home := filepath.Join(t.TempDir(), "alice")
	q := newQuay(t, filepath.Join(home, "quay-install"))
	q.tag(t, 1, "4.17", q.push(t, 1, newTestImage("openshift/release", "4.17", randomBytes(1<<20))), time.Time{}, false)
	volumes, units := filepath.Join(home, ".local/share/containers/storage/volumes"), filepath.Join(home, ".config/systemd/user")
	for _, name := range []string{"quay-storage", "sqlite-storage"} {
		must(t, os.MkdirAll(filepath.Join(volumes, name), 0o700))
		must(t, os.Rename(filepath.Join(q.root, name), filepath.Join(volumes, name, "_data")))
	}
	must(t, os.MkdirAll(units, 0o700))
	must(t, os.WriteFile(filepath.Join(units, "quay-app.service"), fmt.Appendf(nil, "[Service]\nExecStart=/usr/bin/podman run -v %s/quay-config:/quay-registry/conf/stack:Z "+
		"-v sqlite-storage:/sqlite:Z,U -v quay-storage:/datastorage:Z quay\n", q.root), 0o600))
	must(t, os.Chown(home, 4711, 4711))
	if r := f.adopts(t, 1, q.root); r.Manifests != 1 || r.Blobs != 2 {
		t.Errorf("the report is %+v", r)
	}
}

// TestAdopt_mirrorRegistryOfVersion1 has PostgreSQL, and is told what to do first.
func TestAdopt_mirrorRegistryOfVersion1(t *testing.T) {
	f := newFaulty(t, "")
	f.begin(t)
	root := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(root, "quay-config"), 0o755))
	must(t, os.WriteFile(filepath.Join(root, "quay-config/config.yaml"), []byte("DB_URI: postgresql://user:s3cret@quay-postgres/quay\n"), 0o600))
	code, stdout, stderr := outcome(t, f.command("adopt", root))
	if code == 0 || !strings.Contains(stderr, "is a 1.x") || !strings.Contains(stderr, "upgrade it to 2.x first") || strings.Contains(stdout+stderr, "s3cret") {
		t.Errorf("it ends with %d: %s", code, stderr)
	}
}

// readAll returns files of a directory with their content.
func readAll(t *testing.T, dir string, names ...string) (files []string) {
	t.Helper()
	for _, name := range names {
		content, err := os.ReadFile(filepath.Join(dir, name))
		must(t, err)
		files = append(files, name+" "+digest.FromBytes(content).String())
	}
	return files
}
