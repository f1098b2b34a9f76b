package transfer_test

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/internal/pgurl"
	"github.com/mirror-appliance/appliance/registry/store"
	"github.com/mirror-appliance/appliance/registry/store/blobfile"
	"github.com/mirror-appliance/appliance/registry/store/postgres"
	"github.com/mirror-appliance/appliance/registry/store/transfer"
)

// place is a store that may exist.
type place struct {
	transfer.Side
	objects string // the directory that has the blobs by their names
}

// inFiles returns a place of SQLite and files.
func inFiles(t *testing.T) place {
	t.Helper()
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "storage"), 0o700))
	return place{transfer.Side{Config: filepath.Join(dir, "config.yaml"), Database: filepath.Join(dir, "appliance.db"), Storage: filepath.Join(dir, "storage")},
		filepath.Join(dir, "storage")}
}

func (p place) open(t *testing.T) *store.Store {
	t.Helper()
	s, err := p.tryOpen(t)
	must(t, err)
	return s
}

func (p place) tryOpen(t *testing.T) (*store.Store, error) {
	t.Helper()
	return store.Open(t.Context(), store.Options{Database: p.Database, Storage: p.Storage, Credentials: p.Credentials})
}

// blob returns the path of a blob.
func (p place) blob(d digest.Digest) string { return filepath.Join(p.objects, blobfile.Name(d)) }

// direct opens the database without its rules.
func (p place) direct(t *testing.T) *sql.DB {
	t.Helper()
	var db *sql.DB
	var err error
	if pgurl.Is(p.Database) {
		db, err = postgres.Beside(p.Database, map[string]string{"session_replication_role": "replica"})
	} else {
		db, err = sql.Open("sqlite", "file:"+p.Database+"?_pragma=busy_timeout(10000)")
	}
	must(t, err)
	t.Cleanup(func() { must(t, db.Close()) })
	return db
}

// layers are the sizes of those of an image: in the journal, beyond it, in parts of S3.
var layers = []int{100, 100 << 10, 3 << 20}

// content returns bytes that are others for each name.
func content(name string, size int) []byte {
	return bytes.Repeat([]byte(name+"\n"), size/(len(name)+1)+1)[:size]
}

// push pushes an image and returns the descriptors of its blobs.
func push(t *testing.T, s *store.Store, repo, tag string) (blobs []ocispec.Descriptor) {
	t.Helper()
	ctx := t.Context()
	put := func(body []byte) ocispec.Descriptor {
		u, err := s.Uploads.New(ctx, repo)
		must(t, err)
		_, err = u.ReadFrom(bytes.NewReader(body))
		must(t, err)
		d := digest.FromBytes(body)
		_, err = u.Commit(ctx, d)
		must(t, err)
		return ocispec.Descriptor{MediaType: "application/octet-stream", Digest: d, Size: int64(len(body))}
	}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: put([]byte(`{"of":"` + repo + tag + `"}`))}
	m.Annotations = map[string]string{"about": "ä \x00 " + repo}
	for i, size := range layers {
		m.Layers = append(m.Layers, put(content(fmt.Sprint(repo, tag, i), size)))
	}
	body, err := json.Marshal(m)
	must(t, err)
	_, err = s.Manifests.Put(ctx, repo, body, store.PutOptions{Tags: []string{tag}})
	must(t, err)
	return append(m.Layers, m.Config)
}

// fill makes a store with rows in each table.
func fill(t *testing.T, p place) (blobs []ocispec.Descriptor) {
	t.Helper()
	s := p.open(t)
	ctx := t.Context()
	for i := range 3 {
		blobs = append(blobs, push(t, s, fmt.Sprint("repo", i), "v1")...)
	}
	_, err := s.Secret(ctx, "secret")
	must(t, err)
	must(t, s.SetNote(ctx, "wants 1", "a note"))
	r, err := s.Runs.Begin(ctx, "open run")
	must(t, err)
	staged := []byte("staged")
	must(t, r.PutBlob(ctx, "staged", ocispec.Descriptor{Digest: digest.FromBytes(staged), Size: int64(len(staged))}, bytes.NewReader(staged)))
	must(t, s.Close())
	db := p.direct(t)
	for _, text := range []string{
		`INSERT INTO users (name, role, password_hash, created, updated, repositories) SELECT 'u', 'admin', value, 1, 2, 'a*' FROM secrets`,
		`INSERT INTO run_manifests (run, repository, digest, media_type) SELECT r.id, 'staged', m.digest, '' FROM runs r, manifests m`,
		`INSERT INTO run_tags (run, repository, name, digest) SELECT id, 'staged', 't', 'sha256:x' FROM runs`,
		`INSERT INTO run_origins (run, repository, tag, origin, about) SELECT id, 'staged', 't', 'o', '{}' FROM runs`,
		`INSERT INTO origins (repository, digest, tag, origin, about, recorded) SELECT repository, digest, 'v1', 'o', '{}', 5 FROM repository_manifests`,
		`INSERT INTO removals (id, digest, repository, whole, belongs_to) SELECT 'r', 'sha256:x', id, 1, '' FROM repositories WHERE name = 'repo1'`,
		`INSERT INTO sources (repository, registry, path, pulled, seen) VALUES ('repo1', 'quay.io', 'p', 1, 9)`,
		`INSERT INTO quarantine (digest, size, cause, since) VALUES ('sha256:bad', 4, 'it was damaged', 3)`,
		`INSERT INTO quarantine_links (digest, repository, linked) SELECT 'sha256:bad', id, 4 FROM repositories`,
		`INSERT INTO clusters (id, name, "user", facts, updated) VALUES ('c', 'prod', 'u', '{}', 6)`,
		`INSERT INTO cluster_manifests (digest, cluster) VALUES ('sha256:y', 'c')`,
		`INSERT INTO audit (id, kind, at, event, "user", remote, outcome, details) VALUES (41, 'login', 7, 'e', 'u', '::1', 'ok', '{}')`,
		`INSERT INTO following (one, position, whole, run, equal) VALUES (1, 'p', 1, '', 8)`,
		`INSERT INTO followed (kind, repository, name, state, lacks) VALUES ('tag', 'repo1', 'v1', '', 1)`,
		`INSERT INTO followers (id, address, ca, token, session, users, since, seen, started, checks, listing) VALUES ('f', 'h:1', '', 't', 's', 1, 2, 3, 4, '["c"]', 1)`,
		`INSERT INTO changes (seq, kind, repository, name) VALUES (900, 'tag', 'repo1', 'v1')`,
		`UPDATE feed SET head = 900`,
	} {
		if _, err := db.Exec(text); err != nil {
			t.Fatal(text, err)
		}
	}
	for _, name := range transfer.Names() {
		var n int
		must(t, db.QueryRow(`SELECT count(*) FROM `+name).Scan(&n))
		if n == 0 {
			t.Fatalf("table %s is empty: let fill make a row", name)
		}
	}
	return blobs
}

// dump returns the rows of all tables that are copied, as texts.
func dump(t *testing.T, p place) map[string][]string {
	t.Helper()
	db := p.direct(t)
	all := map[string][]string{}
	for _, name := range transfer.Names() {
		rows, err := db.Query(`SELECT * FROM ` + name)
		must(t, err)
		columns, err := rows.Columns()
		must(t, err)
		for rows.Next() {
			values, places := make([]any, len(columns)), make([]any, len(columns))
			for i := range values {
				places[i] = &values[i]
			}
			must(t, rows.Scan(places...))
			var texts []string
			for i, v := range values {
				texts = append(texts, fmt.Sprintf("%s=%T %s", columns[i], v, fmt.Sprint(v)))
			}
			slices.Sort(texts)
			// Besides the mark, opening a store notes the owner of a bucket.
			if text := strings.Join(texts, " "); !strings.Contains(text, "name=string store copy ") && !strings.Contains(text, "name=string storage owner ") {
				all[name] = append(all[name], text)
			}
		}
		must(t, rows.Err())
		must(t, rows.Close())
		slices.Sort(all[name])
	}
	return all
}

// equal fails unless both have the same rows and the target has every blob whole.
func equal(t *testing.T, from, to place) {
	t.Helper()
	a, b := dump(t, from), dump(t, to)
	for _, name := range transfer.Names() {
		if !slices.Equal(a[name], b[name]) {
			t.Errorf("table %s differs:\n%s\nand\n%s", name, strings.Join(a[name], "\n"), strings.Join(b[name], "\n"))
		}
	}
	s := to.open(t)
	report, err := s.Integrity().Verify(t.Context(), store.VerifyOptions{Content: true})
	must(t, err)
	if !report.Clean() && !onlyMade(report) {
		t.Errorf("the target has problems: %v", report.Problems)
	}
	must(t, s.Close())
}

// onlyMade reports whether the problems are those that fill has made.
func onlyMade(r store.VerifyReport) bool {
	for _, p := range r.Problems {
		if !strings.Contains(fmt.Sprint(p), "sha256:x") && !strings.Contains(fmt.Sprint(p), "sha256:bad") {
			return false
		}
	}
	return true
}

func run(t *testing.T, from, to place) transfer.Report {
	t.Helper()
	r, err := transfer.Run(t.Context(), transfer.Options{From: from.Side, To: to.Side})
	must(t, err)
	if !r.Whole {
		t.Errorf("the report is %+v", r)
	}
	return r
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
