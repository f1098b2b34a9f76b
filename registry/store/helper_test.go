package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/registry/store/backup"
	"github.com/mirror-appliance/appliance/registry/store/blobfile"
	"github.com/mirror-appliance/appliance/registry/store/blobs3/s3test"
	"github.com/mirror-appliance/appliance/registry/store/fence"
	"github.com/mirror-appliance/appliance/registry/store/guard"
)

// clock is a time that a test moves.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
	return c.t
}

// fixture is a store in a temporary directory. Its clock starts at the real time,
// which the files have.
type fixture struct {
	*Store
	t     testing.TB
	ctx   context.Context
	clock *clock
	dir   string

	several bool           // other processes may have the store
	inFiles bool           // also where other fixtures have their blobs in S3
	bucket  *s3test.Server // nil unless blobs are in S3
}

// inBucket has the fixtures keep their blobs in S3, and not in files, except those of newFileFixture.
var inBucket = os.Getenv("APPLIANCE_TEST_STORAGE") == "s3"

func newFixture(t testing.TB) *fixture {
	t.Helper()
	return newFixtureIn(t, t.TempDir())
}

// newFileFixture is newFixture for a test of what only files have: their journal and their syncs, the
// names in the directory of a storage, and things in the place of a file that are none.
func newFileFixture(t testing.TB) *fixture {
	t.Helper()
	return newFileFixtureIn(t, t.TempDir())
}

func newFileFixtureIn(t testing.TB, dir string) *fixture {
	t.Helper()
	return (&fixture{t: t, dir: dir, inFiles: true}).begin()
}

func newFixtureIn(t testing.TB, dir string) *fixture {
	t.Helper()
	return (&fixture{t: t, dir: dir}).begin()
}

func (f *fixture) begin() *fixture {
	t := f.t
	t.Helper()
	f.ctx, f.clock = context.Background(), &clock{t: time.Now()}
	f.reopen()
	t.Cleanup(func() {
		if f.Store == nil {
			return // a reopen that failed
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

// reopen closes the store, if it is open, and opens it again.
func (f *fixture) reopen() {
	f.t.Helper()
	if f.Store != nil {
		f.must(f.Close())
	}
	s, err := Open(f.ctx, f.options())
	f.must(err)
	f.Store = s
}

// options returns those of reopen.
func (f *fixture) options() Options {
	f.t.Helper()
	o := Options{
		Database: databaseIn(f.t, f.dir),
		Storage:  filepath.Join(f.dir, "storage"),
		Now:      f.clock.now,
		rehearse: rehearsing(),
		Shared:   f.several,
	}
	if inBucket && !f.inFiles {
		if f.bucket == nil {
			f.bucket = s3test.Start(f.t)
		}
		o.Storage, _ = f.bucket.Address(f.t, "")
		o.Credentials = f.bucket.Credentials
	}
	return o
}

func (f *fixture) storage() string {
	if f.bucket != nil {
		return f.bucket.Dir // the server has objects in files of their names
	}
	return f.files.Root()
}

// path is where the file of a blob is.
func (f *fixture) path(d digest.Digest) string { return filepath.Join(f.storage(), blobfile.Name(d)) }

func (f *fixture) uploadPath(id string) string { return filepath.Join(f.storage(), "uploads", id) }

// statePath is where the file of the state of an upload is.
func (f *fixture) statePath(id string) string {
	if f.bucket != nil {
		return f.uploadPath(id) + ".state"
	}
	return f.uploadPath(id) + ".json"
}

// uploaded returns the bytes of a small upload.
func (f *fixture) uploaded(id string) []byte {
	f.t.Helper()
	path := f.uploadPath(id)
	if f.bucket != nil {
		path = f.statePath(id)
	}
	content, err := os.ReadFile(path)
	f.must(err)
	if f.bucket != nil { // after a line of the state
		_, content, _ = bytes.Cut(content, []byte("\n"))
	}
	return content
}

// list lists the files in a directory of the storage and below.
func (f *fixture) list(dir string) []string {
	f.t.Helper()
	var names []string
	f.must(filepath.WalkDir(filepath.Join(f.storage(), dir), func(path string, e os.DirEntry, err error) error {
		if err == nil && f.bucket != nil && e.Name() == ".sgwtmp" { // of the server
			return filepath.SkipDir
		}
		if f.bucket != nil && errors.Is(err, fs.ErrNotExist) { // it has no directory without an object
			return nil
		}
		if f.bucket != nil && path == filepath.Join(f.storage(), "owner") { // of each bucket that a store has
			return nil
		}
		if path == filepath.Join(f.storage(), fence.Note) { // of each storage whose database is in PostgreSQL
			return nil
		}
		if err == nil && !e.IsDir() {
			names = append(names, filepath.Base(path))
		}
		return err
	}))
	return names
}

func (f *fixture) touch(d digest.Digest, t time.Time) error { return os.Chtimes(f.path(d), t, t) }

// replace replaces the open files of a name by another, until restore.
func (f *fixture) replace(path, by string) (restore func()) {
	f.t.Helper()
	other, err := os.OpenFile(by, os.O_RDWR, 0)
	f.must(err)
	defer other.Close()
	return f.replaceBy(path, other)
}

// replaceBy is replace with a file that is open.
func (f *fixture) replaceBy(path string, other *os.File) (restore func()) {
	f.t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	f.must(err)
	var replaced []int // before there are others of that name
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		f.must(err)
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && to == path && fd != int(other.Fd()) {
			replaced = append(replaced, fd)
		}
	}
	var back []func()
	for _, fd := range replaced {
		kept, err := unix.Dup(fd)
		f.must(err)
		f.t.Cleanup(func() { f.must(unix.Close(kept)) })
		f.must(unix.Dup2(int(other.Fd()), fd))
		back = append(back, func() { f.must(unix.Dup2(kept, fd)) })
	}
	if len(back) == 0 {
		f.t.Fatal(path, "is not open")
	}
	return func() {
		for _, restore := range back {
			restore()
		}
	}
}

func (f *fixture) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// blob pushes content to repo.
func (f *fixture) blob(repo, content string) ocispec.Descriptor {
	f.t.Helper()
	u, err := f.Uploads.New(f.ctx, repo)
	f.must(err)
	_, err = u.ReadFrom(bytes.NewReader([]byte(content)))
	f.must(err)
	d := digest.FromString(content)
	_, err = u.Commit(f.ctx, d)
	f.must(err)
	return descriptor(ocispec.MediaTypeImageLayerGzip, []byte(content))
}

func descriptor(mediaType string, content []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(content), Size: int64(len(content))}
}

// Digests of blobs that no test pushes.
var (
	dA = digest.FromString("a")
	dC = digest.SHA512.FromString("c")
)

// manifestOf makes a manifest of a config and layers.
func manifestOf(config ocispec.Descriptor, layers ...ocispec.Descriptor) []byte {
	config.MediaType = ocispec.MediaTypeImageConfig
	if layers == nil {
		layers = []ocispec.Descriptor{}
	}
	return mustJSON(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: config, Layers: layers,
	})
}

func index(children ...ocispec.Descriptor) []byte {
	return mustJSON(ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: children,
	})
}

func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// pushImage pushes a config, a layer and the manifest of them; name makes it another image.
func (f *fixture) pushImage(repo, name string, tags ...string) Manifest {
	f.t.Helper()
	config := f.blob(repo, fmt.Sprintf(`{"config of":%q}`, name))
	layer := f.blob(repo, "layer of "+name)
	m, err := f.Manifests.Put(f.ctx, repo, manifestOf(config, layer), PutOptions{Tags: tags})
	f.must(err)
	return m
}

// exec runs a statement in a direct connection, and returns how many rows it changed.
func (f *fixture) exec(text string, args ...any) int64 {
	f.t.Helper()
	db := f.direct()
	result, err := db.Exec(text, args...)
	f.must(errors.Join(err, db.Close()))
	n, err := result.RowsAffected()
	f.must(err)
	return n
}

// afterCommits calls note after each commit, until the function that it returns is called.
func (f *fixture) afterCommits(note func()) (end func()) {
	f.cache.forgotten = note
	return func() { f.cache.forgotten = nil }
}

func (f *fixture) mustHave(repo, tag string) {
	f.t.Helper()
	m, err := f.Manifests.ByTag(f.ctx, repo, tag)
	f.must(err)
	b, err := f.Blobs.Open(f.ctx, repo, layerOf(m))
	f.must(err)
	defer b.Close()
	content, err := io.ReadAll(b)
	if err != nil || digest.FromBytes(content) != layerOf(m) {
		f.t.Errorf("layer of %s:%s: %q, %v", repo, tag, content, err)
	}
}

func (f *fixture) mustBeClean() {
	f.t.Helper()
	if got := f.verified(VerifyOptions{Content: true}); !got.Clean() {
		f.t.Errorf("problems: %v", got.Problems)
	}
}

// backup backs the store up.
func (f *fixture) backup(dest string) (r backup.Report, err error) {
	f.t.Helper()
	snapshot, err := f.Snapshot(f.ctx)
	f.must(err)
	defer func() { err = errors.Join(err, snapshot.Release()) }()
	return backup.Create(f.ctx, dest, backup.Options{Database: f.database, Snapshot: snapshot.Name, Storage: f.storage()})
}

// blobGuard returns the guard of one daemon.
func (f *fixture) blobGuard() *guard.Blobs { return f.guard.Blobs.(*memoryBlobs).blobs }
