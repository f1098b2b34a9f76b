package ready_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/cmd/sample-upstream/sample"
	"github.com/mirror-appliance/appliance/internal/fetch"
	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/signature"
	"github.com/mirror-appliance/appliance/mirror/updategraph"
	"github.com/mirror-appliance/appliance/mirror/upstream"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/ready"
	"github.com/mirror-appliance/appliance/registry/store"
	"github.com/mirror-appliance/appliance/registry/updates"
)

const (
	registry   = "registry.test:8443"
	payloads   = "openshift/release-images"
	components = "openshift/release"
)

// mirrored is a store that is mirrored once, and copied for each test.
type mirrored struct {
	dir    string
	sample *sample.Content
}

var once = sync.OnceValues(func() (*mirrored, error) {
	dir, err := os.MkdirTemp("", "ready-")
	if err != nil {
		return nil, err
	}
	server := httptest.NewUnstartedServer(nil)
	m := &mirrored{dir: dir}
	if m.sample, err = sample.New(server.Listener.Addr().String()); err != nil {
		return nil, err
	}
	server.Config.Handler = m.sample.Handler()
	server.Start()
	defer server.Close()
	s, err := store.Open(context.Background(), storeIn(dir))
	if err != nil {
		return nil, err
	}
	err = m.mirror(s, `  platform:
    graph: true
    architectures: [amd64, arm64, multi]
    channels: [{name: eus-4.18, full: true}]
  operators:
  - catalog: registry.redhat.io/redhat/redhat-operator-index:v4.18
    full: true
`)
	if err != nil {
		return nil, err
	}
	return m, s.Close()
})

func TestMain(m *testing.M) {
	code := m.Run()
	if found, err := once(); err == nil {
		_ = os.RemoveAll(found.dir)
	}
	os.Exit(code)
}

func storeIn(dir string) store.Options {
	return store.Options{Database: filepath.Join(dir, "db"), Storage: filepath.Join(dir, "storage")}
}

// mirror mirrors what an image set lists below mirror.
func (m *mirrored) mirror(s *store.Store, text string) error {
	set, err := imageset.Parse("set.yaml", []byte("kind: ImageSetConfiguration\napiVersion: mirror.openshift.io/v2alpha1\nmirror:\n"+text))
	if err != nil {
		return err
	}
	registries := upstream.NewRegistries(func(registry string) (upstream.Options, error) {
		return upstream.Options{Registry: registry, PlainHTTP: true}, nil
	})
	defer registries.Close()
	keys, err := signature.ParseKeys(m.sample.ReleaseKey())
	if err != nil {
		return err
	}
	_, err = mirror.Run(context.Background(), mirror.Options{
		Config: set, Registry: registry, Workspace: filepath.Join(m.dir, "workspace"),
		Open: func(ref imageset.Reference) (mirror.Source, error) {
			return registries.Repository(m.sample.Host(), ref.Repository()) // registry.access.redhat.com too
		},
		Begin: func(ctx context.Context, name string) (mirror.Destination, error) { return s.Runs.Begin(ctx, name) },
		Graph: updategraph.Client{URL: "http://" + m.sample.Host() + sample.GraphPath, HTTP: http.DefaultClient},
		Signatures: mirror.Signatures{Releases: &signature.Client{URL: "http://" + m.sample.Host() + sample.SignaturesPath, Keys: keys,
			Get: fetch.Client{HTTP: http.DefaultClient}}},
	})
	return err
}

// fixture is a copy of the mirrored store.
type fixture struct {
	*testing.T
	*store.Store
	sample *sample.Content
	dir    string
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	m, err := once()
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{T: t, sample: m.sample, dir: t.TempDir()}
	for _, name := range []string{"db", "storage"} {
		f.must(copyTree(filepath.Join(m.dir, name), filepath.Join(f.dir, name)))
	}
	f.Store, err = store.Open(context.Background(), storeIn(f.dir))
	f.must(err)
	t.Cleanup(func() { f.must(f.Close()) })
	return f
}

func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := to + strings.TrimPrefix(path, from)
		if d.IsDir() {
			return os.MkdirAll(name, 0o700)
		}
		text, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(name, text, 0o600)
		}
		return err
	})
}

func (f *fixture) must(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

// judge asks for a verdict.
func (f *fixture) judge(q api.ReadyRequest) api.Verdict {
	f.Helper()
	v, err := f.ask(q)
	f.must(err)
	return v
}

func (f *fixture) ask(q api.ReadyRequest) (api.Verdict, error) {
	f.Helper()
	if q.Keys == nil {
		q.Keys = f.sample.ReleaseKey()
	}
	return f.judged(f.Context(), q, func(api.ReadyProgress) {})
}

func (f *fixture) judged(ctx context.Context, q api.ReadyRequest, progress func(api.ReadyProgress)) (api.Verdict, error) {
	service := updates.New(updates.Options{Store: f.Store, Registry: registry, Log: slog.New(slog.DiscardHandler)})
	j := ready.New(ready.Options{Store: f.Store, Registry: registry, Version: "v0-test", Updates: service, Dir: filepath.Join(f.dir, "read")})
	return j.Judge(ctx, q, progress)
}

// release returns a release of the sample.
func (f *fixture) release(version, arch string) sample.Release {
	f.Helper()
	r, ok := f.sample.Release(version, arch)
	if !ok {
		f.Fatalf("there is no %s for %s", version, arch)
	}
	return r
}

// component returns the digest of a component.
func (f *fixture) component(r sample.Release, name string) digest.Digest {
	f.Helper()
	_, d, ok := strings.Cut(r.Components[name], "@")
	if !ok {
		f.Fatalf("there is no component %s", name)
	}
	return digest.Digest(d)
}

// parts returns the blobs and children of a manifest, in its order.
func (f *fixture) parts(repository string, d digest.Digest) (all []digest.Digest) {
	f.Helper()
	m, err := f.Manifests.Get(f.Context(), repository, d)
	f.must(err)
	var body struct {
		Config    struct{ Digest digest.Digest }
		Layers    []struct{ Digest digest.Digest }
		Manifests []struct{ Digest digest.Digest }
	}
	f.must(json.Unmarshal(m.Body, &body))
	if body.Config.Digest != "" {
		all = append(all, body.Config.Digest)
	}
	for _, l := range append(body.Layers, body.Manifests...) {
		all = append(all, l.Digest)
	}
	return all
}

// file returns the file of a blob.
func (f *fixture) file(d digest.Digest) (name string) {
	f.Helper()
	f.must(filepath.WalkDir(filepath.Join(f.dir, "storage"), func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() && strings.Contains(path, d.Encoded()) {
			name = path
		}
		return err
	}))
	if name == "" {
		f.Fatalf("blob %s has no file", d)
	}
	return name
}

// codes returns the reasons and risks of a verdict, in short.
func codes(v api.Verdict) string {
	var all []string
	for _, r := range append(v.Reasons, v.Risks...) {
		all = append(all, fmt.Sprintf("%s %s (%s) → %s", r.Code, r.Where, r.Text, r.Hint))
	}
	return strings.Join(all, "\n")
}
