package backup

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/registry/store"
	"github.com/mirror-appliance/appliance/registry/store/blobfile"
	"github.com/mirror-appliance/appliance/registry/store/integrity"
)

// clock is a time that a test moves.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time { return c.add(0) }

func (c *clock) add(d time.Duration) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
	return c.t
}

// fixture is a store in a temporary directory.
type fixture struct {
	*store.Store
	t     *testing.T
	ctx   context.Context
	clock *clock
	dir   string
}

// newFixture opens an empty store.
func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := emptyFixture(t)
	f.reopen()
	t.Cleanup(f.close)
	return f
}

// emptyFixture is one without a store, to be restored to.
func emptyFixture(t *testing.T) *fixture {
	t.Helper()
	return &fixture{t: t, ctx: context.Background(), clock: &clock{t: time.Now()}, dir: t.TempDir()}
}

func (f *fixture) database() string            { return filepath.Join(f.dir, "appliance.db") }
func (f *fixture) storage() string             { return filepath.Join(f.dir, "storage") }
func (f *fixture) path(d digest.Digest) string { return filepath.Join(f.storage(), blobfile.Name(d)) }
func (f *fixture) restoreOptions() RestoreOptions {
	return RestoreOptions{Database: f.database(), Storage: f.storage()}
}

// close closes the store, if it is open.
func (f *fixture) close() {
	f.t.Helper()
	if f.Store != nil {
		f.must(f.Store.Close())
		f.Store = nil
	}
}

// reopen closes the store, if it is open, and opens it again.
func (f *fixture) reopen() {
	f.t.Helper()
	f.close()
	var err error
	f.Store, err = store.Open(f.ctx, store.Options{Database: f.database(), Storage: f.storage(), Now: f.clock.now})
	f.must(err)
}

func (f *fixture) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// push pushes an image of a config and a layer.
func push(ctx context.Context, s *store.Store, repo, name string, tags ...string) (store.Manifest, error) {
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	for _, content := range []string{fmt.Sprintf(`{"config of":%q}`, name), "layer of " + name} {
		d := digest.FromString(content)
		u, err := s.Uploads.New(ctx, repo)
		if err != nil {
			return store.Manifest{}, err
		}
		if _, err := u.Write([]byte(content)); err != nil {
			return store.Manifest{}, err
		}
		if _, err := u.Commit(ctx, d); err != nil {
			return store.Manifest{}, err
		}
		m.Layers = append(m.Layers, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: d, Size: int64(len(content))})
	}
	m.Config, m.Layers = m.Layers[0], m.Layers[1:]
	m.Config.MediaType = ocispec.MediaTypeImageConfig
	body, err := json.Marshal(m)
	if err != nil {
		return store.Manifest{}, err
	}
	return s.Manifests.Put(ctx, repo, body, store.PutOptions{Tags: tags})
}

func (f *fixture) pushImage(repo, name string, tags ...string) store.Manifest {
	f.t.Helper()
	m, err := push(f.ctx, f.Store, repo, name, tags...)
	f.must(err)
	return m
}

// layerOf is the layer of an image of pushImage.
func layerOf(m store.Manifest) digest.Digest {
	var image ocispec.Manifest
	if err := json.Unmarshal(m.Body, &image); err != nil {
		panic(err)
	}
	return image.Layers[0].Digest
}

// variety pushes an image, an index with a child that is missing, and a pulled-through
// image without its blobs.
func (f *fixture) variety() {
	f.t.Helper()
	m := f.pushImage("team/app", "app", "v1", "latest")
	child := f.pushImage("team/multi", "child")
	sparse := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("missing"), Size: 7}
	index, err := json.Marshal(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex,
		Manifests: []ocispec.Descriptor{child.Descriptor(), sparse}})
	f.must(err)
	_, err = f.Manifests.Put(f.ctx, "team/multi", index, store.PutOptions{Tags: []string{"v1"}})
	f.must(err)
	_, err = f.Manifests.Put(f.ctx, "team/multi", index, store.PutOptions{Digest: digest.SHA512.FromBytes(index)})
	f.must(err)
	f.must(f.Blobs.RecordSource(f.ctx, "lazy", "quay.io", "lazy"))
	lazy := bytes.ReplaceAll(m.Body, []byte(layerOf(m)), []byte(digest.FromString("later")))
	_, err = f.Manifests.PutPulled(f.ctx, "lazy", lazy, store.PutOptions{Tags: []string{"v1"}})
	f.must(err)
}

// collect removes what is garbage since before.
func (f *fixture) collect(before time.Time) {
	var plan []digest.Digest
	err := f.Garbage.GarbageBlobs(f.ctx, before, func(d digest.Digest, _ int64) error { plan = append(plan, d); return nil })
	if err == nil {
		_, _, err = f.Garbage.RemoveBlobs(f.ctx, before, plan)
	}
	if err != nil {
		f.t.Error(err)
	}
}

// place replaces the file of a blob, as a push does.
func (f *fixture) place(d digest.Digest, content string) {
	f.t.Helper()
	f.must(os.WriteFile(f.path(d)+".tmp", []byte(content), 0o600))
	f.must(os.Rename(f.path(d)+".tmp", f.path(d)))
}

func (f *fixture) flip(d digest.Digest) {
	f.t.Helper()
	content, err := os.ReadFile(f.path(d))
	f.must(err)
	content[len(content)/2] ^= 1
	f.must(os.WriteFile(f.path(d), content, 0o600))
}

// unreadable makes reads of a blob fail with EIO, by the one file that does so on every Linux: the
// memory of this process, of which the first page is never mapped.
func (f *fixture) unreadable(d digest.Digest) {
	f.t.Helper()
	f.must(os.Remove(f.path(d)))
	f.must(os.Symlink("/proc/self/mem", f.path(d)))
}

func (f *fixture) verified() integrity.VerifyReport {
	f.t.Helper()
	r, err := f.Integrity().Verify(f.ctx, integrity.VerifyOptions{Content: true})
	f.must(err)
	return r
}

func (f *fixture) mustBeClean() {
	f.t.Helper()
	if got := f.verified(); !got.Clean() {
		f.t.Errorf("problems: %v", got.Problems)
	}
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

// create makes a snapshot and backs it up.
func (f *fixture) create(ctx context.Context, dest string, o Options) (r Report, err error) {
	f.t.Helper()
	snapshot, err := f.Snapshot(ctx)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, snapshot.Release()) }()
	o.Database, o.Snapshot, o.Storage = f.database(), snapshot.Name, f.storage()
	return Create(ctx, dest, o)
}

func (f *fixture) backup(dest string, o Options) Report {
	f.t.Helper()
	r, err := f.create(f.ctx, dest, o)
	f.must(err)
	return r
}

// restore restores a backup to where the fixture has its store.
func (f *fixture) restore(ctx context.Context, from string) error {
	_, err := Restore(ctx, from, f.restoreOptions())
	return err
}

// restoredOpen opens what was restored from a backup.
func restoredOpen(t *testing.T, from string) *fixture {
	t.Helper()
	g := emptyFixture(t)
	g.must(g.restore(g.ctx, from))
	g.reopen()
	t.Cleanup(g.close)
	return g
}

// restored opens what was restored from a backup, and verifies it.
func restored(t *testing.T, from string) *fixture {
	t.Helper()
	g := restoredOpen(t, from)
	if r := g.verified(); !r.Clean() || r.ExtraFiles != 0 {
		t.Errorf("restored with %+v", r)
	}
	return g
}

// otherFileSystem returns a directory that no file of the fixture can be linked to.
func otherFileSystem(t *testing.T) string {
	t.Helper()
	var ours, theirs unix.Stat_t
	if err := unix.Stat(t.TempDir(), &ours); err != nil {
		t.Fatal(err)
	}
	for _, in := range []string{"/dev/shm", "/var/tmp"} {
		if err := unix.Stat(in, &theirs); err != nil || theirs.Dev == ours.Dev {
			continue
		}
		dir, err := os.MkdirTemp(in, "backup")
		if err != nil {
			continue
		}
		t.Cleanup(func() {
			if err := os.RemoveAll(dir); err != nil {
				t.Error(err)
			}
		})
		return dir
	}
	t.Skip("there is no second file system")
	return ""
}
