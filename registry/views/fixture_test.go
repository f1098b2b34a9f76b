package views_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/cmd/sample-upstream/sample"
	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/catalog"
	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/upstream"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/registry/store"
	"github.com/mirror-appliance/appliance/registry/views"
)

// fixture is a store that is mirrored into from a sample upstream, and views of it.
type fixture struct {
	*testing.T
	*store.Store
	sample   *sample.Content
	dir      string
	options  store.Options
	now      time.Time
	catalogs []config.Catalog
	views    *views.Views
}

func newFixture(t *testing.T, catalogs ...config.Catalog) *fixture {
	t.Helper()
	f := &fixture{T: t, dir: t.TempDir(), catalogs: catalogs}
	f.options = store.Options{Database: filepath.Join(f.dir, "db"), Storage: filepath.Join(f.dir, "storage")}
	f.options.Now = func() time.Time { return f.time() }
	server := httptest.NewUnstartedServer(nil)
	var err error
	f.sample, err = sample.New(server.Listener.Addr().String())
	f.must(err)
	server.Config.Handler = f.sample.Handler()
	server.Start()
	t.Cleanup(server.Close)
	f.open()
	t.Cleanup(func() { f.must(f.Close()) })
	return f
}

// time is now, or later after wait.
func (f *fixture) time() time.Time {
	if f.now.IsZero() {
		return time.Now()
	}
	return f.now
}

func (f *fixture) must(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

// open opens the store and the views, as a daemon does when it starts.
func (f *fixture) open() {
	f.Helper()
	var err error
	f.Store, err = store.Open(context.Background(), f.options)
	f.must(err)
	f.configure(f.catalogs...)
}

// restart opens the store again.
func (f *fixture) restart() {
	f.Helper()
	f.must(f.Close())
	f.open()
}

// configure changes the configuration.
func (f *fixture) configure(catalogs ...config.Catalog) {
	f.Helper()
	f.catalogs = catalogs
	f.views = views.New(context.Background(), views.Options{Catalogs: catalogs, Store: f.Store, Dir: filepath.Join(f.dir, "catalogs"),
		Drain: context.Background(), Log: slog.New(slog.DiscardHandler), Now: f.time})
}

// mirror mirrors what an image set lists below mirror. HOST in it is the upstream.
func (f *fixture) mirror(text string) {
	f.Helper()
	text = "kind: ImageSetConfiguration\napiVersion: mirror.openshift.io/v2alpha1\nmirror:\n" + strings.ReplaceAll(text, "HOST", f.sample.Host())
	set, err := imageset.Parse("set.yaml", []byte(text))
	f.must(err)
	registries := upstream.NewRegistries(func(registry string) (upstream.Options, error) {
		return upstream.Options{Registry: registry, PlainHTTP: true}, nil
	})
	defer registries.Close()
	_, err = mirror.Run(f.Context(), mirror.Options{
		Config: set, Registry: "registry.test:8443", Prefix: "far", Workspace: filepath.Join(f.dir, "workspace"),
		Open: func(ref imageset.Reference) (mirror.Source, error) {
			return registries.Repository(ref.Registry(), ref.Repository())
		},
		Begin: func(ctx context.Context, name string) (mirror.Destination, error) { return f.Runs.Begin(ctx, name) },
	})
	f.must(err)
}

// pass makes the views, and returns the states.
func (f *fixture) pass() []api.CatalogView {
	f.Helper()
	result, err := f.views.Runner().Run(f.Context(), api.CatalogsRequest{}, nil)
	f.must(err)
	return result.Views
}

// one makes the views, of which there is one that has no error.
func (f *fixture) one() api.CatalogView {
	f.Helper()
	all := f.pass()
	if len(all) != 1 || all[0].Error != "" {
		f.Fatalf("the views are %+v", all)
	}
	return all[0]
}

// digest returns what a tag names, "" for nothing.
func (f *fixture) digest(repo, tag string) digest.Digest {
	f.Helper()
	m, err := f.Manifests.ByTag(f.Context(), repo, tag)
	if errors.Is(err, store.ErrNotFound) {
		return ""
	}
	f.must(err)
	return m.Digest
}

// catalog reads a catalog of the store by a tag or digest, as channels with their entries.
func (f *fixture) catalog(repo, ref string) string {
	f.Helper()
	index, _, err := catalog.Load(f.Context(), repository{f.Store, repo}, ref, f.TempDir())
	f.must(err)
	all, err := index.Select(imageset.Operator{Full: true}, nil)
	if err != nil {
		return err.Error()
	}
	var lines []string
	for _, p := range all.Packages {
		for _, c := range p.Channels {
			line := strings.TrimPrefix(p.Name, "sample-") + " " + c.Name + ":"
			for _, e := range c.Entries {
				line += strings.TrimPrefix(e.Name, p.Name+".v") + " "
			}
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return strings.Join(lines, ", ")
}

// shows fails unless a view shows a catalog.
func (f *fixture) shows(repo, tag, want string) {
	f.Helper()
	if got := f.catalog(repo, tag); got != want {
		f.Errorf("%s:%s has %q, want %q", repo, tag, got, want)
	}
}

// past returns the names of the runs that moved tags of views, the last first.
func (f *fixture) past() []string {
	f.Helper()
	all, err := f.Runs.Past(f.Context(), 100, "", "")
	f.must(err)
	var names []string
	for _, r := range all {
		if strings.HasPrefix(r.Name, "catalog ") {
			names = append(names, strings.TrimPrefix(r.Name, "catalog "))
		}
	}
	return names
}

// image returns the repository and digest of an image that the sample has.
func (f *fixture) image(repo, tag string) (string, digest.Digest) {
	f.Helper()
	m, ok := f.sample.Manifest(repo, tag)
	if !ok {
		f.Fatalf("the sample has no %s:%s", repo, tag)
	}
	return "far/" + repo, m.Digest
}

// delete deletes an image as the distribution API does.
func (f *fixture) delete(repo, tag string) {
	f.Helper()
	name, d := f.image(repo, tag)
	f.must(f.Manifests.Delete(f.Context(), name, d))
}

// repository is a repository of a store as a source.
type repository struct {
	store *store.Store
	name  string
}

func (r repository) Manifest(ctx context.Context, ref string) (ocispec.Descriptor, []byte, error) {
	m, err := r.store.Manifests.ByTag(ctx, r.name, ref)
	if d := digest.Digest(ref); d.Validate() == nil {
		m, err = r.store.Manifests.Get(ctx, r.name, d)
	}
	return ocispec.Descriptor{MediaType: m.MediaType, Digest: m.Digest, Size: int64(len(m.Body))}, m.Body, err
}

func (r repository) Blob(ctx context.Context, d digest.Digest) (io.ReadCloser, int64, error) {
	b, err := r.store.Blobs.Open(ctx, r.name, d)
	if err != nil {
		return nil, 0, err
	}
	return b, b.Size, nil
}

func (r repository) BlobFrom(context.Context, digest.Digest, int64) (io.ReadCloser, int64, error) {
	return nil, 0, fs.ErrInvalid
}

func (r repository) Stat(ctx context.Context, d digest.Digest) (int64, error) {
	return r.store.Blobs.Stat(ctx, r.name, d)
}
