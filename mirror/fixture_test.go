package mirror_test

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/cmd/sample-upstream/sample"
	"github.com/mirror-appliance/appliance/internal/fetch"
	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/helm"
	"github.com/mirror-appliance/appliance/mirror/helm/render"
	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/plan"
	"github.com/mirror-appliance/appliance/mirror/updategraph"
	"github.com/mirror-appliance/appliance/mirror/upstream"
	"github.com/mirror-appliance/appliance/registry/store"
)

// source is the sample upstream, served by a registry that tests make misbehave.
type source struct {
	*sample.Content
	host string

	mu       sync.Mutex // guards the rest
	requests []string   // "GET /v2/…"
	fault    func(w http.ResponseWriter, r *http.Request) bool
}

func newSource(t *testing.T) *source {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	s := &source{host: server.Listener.Addr().String()}
	content, err := sample.New(s.host)
	if err != nil {
		t.Fatal(err)
	}
	s.Content = content
	handler := content.Handler()
	server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.requests = append(s.requests, r.Method+" "+r.URL.Path)
		fault := s.fault
		s.mu.Unlock()
		if fault == nil || !fault(w, r) {
			handler.ServeHTTP(w, r)
		}
	})
	server.Start()
	t.Cleanup(server.Close)
	return s
}

// fails makes the upstream answer by fault, where it says that it did.
func (s *source) fails(fault func(w http.ResponseWriter, r *http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = fault
}

// asked lists the requests so far that contain part, and forgets all.
func (s *source) asked(part string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := slices.DeleteFunc(slices.Clone(s.requests), func(r string) bool { return !strings.Contains(r, part) })
	s.requests = nil
	return found
}

func (s *source) digest(t *testing.T, repo, ref string) digest.Digest {
	t.Helper()
	m, ok := s.Manifest(repo, ref)
	if !ok {
		t.Fatalf("the sample has no %s:%s", repo, ref)
	}
	return m.Digest
}

// component is the repository and digest of a release's component.
func (s *source) component(t *testing.T, version, name string) (repo string, d digest.Digest) {
	t.Helper()
	r, ok := s.Release(version, "amd64")
	if !ok || r.Components[name] == "" {
		t.Fatalf("the sample has no component %s of %s", name, version)
	}
	full, d2, _ := strings.Cut(r.Components[name], "@")
	_, repo, _ = strings.Cut(full, "/")
	return repo, digest.Digest(d2)
}

// layer is the last layer of an image, one that belongs to it alone.
func (s *source) layer(t *testing.T, repo, ref string) digest.Digest {
	t.Helper()
	m, ok := s.Manifest(repo, ref)
	if !ok {
		t.Fatalf("the sample has no %s:%s", repo, ref)
	}
	i := strings.LastIndex(string(m.Body), `"sha256:`)
	return digest.Digest(string(m.Body)[i+1 : i+1+71])
}

// setup is an engine between the sample upstream and a store of its own.
type setup struct {
	*source
	store     *store.Store
	workspace string
	engine    *mirror.Engine
	events    *events
}

// options changes what a setup's engine is made with.
type options func(*mirror.Options)

func newSetup(t *testing.T, config string, change ...options) *setup {
	t.Helper()
	return newSetupFrom(t, newSource(t), config, change...)
}

func newSetupFrom(t *testing.T, src *source, config string, change ...options) *setup {
	t.Helper()
	s := &setup{source: src, store: openStore(t), workspace: filepath.Join(t.TempDir(), "workspace"), events: &events{}}
	s.engine = s.newEngine(t, config, change...)
	return s
}

// newEngine makes an engine for another image set; HOST in it stands for the upstream.
func (s *setup) newEngine(t *testing.T, config string, change ...options) *mirror.Engine {
	t.Helper()
	e, err := mirror.New(s.options(t, config, change...))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func (s *setup) options(t *testing.T, config string, change ...options) mirror.Options {
	t.Helper()
	c, err := imageset.Parse("isc.yaml", []byte(imageSet(config, s.host)))
	if err != nil {
		t.Fatal(err)
	}
	sources := upstream.NewRegistries(func(registry string) (upstream.Options, error) {
		return upstream.Options{Registry: registry, PlainHTTP: true, Retries: 2, Sleep: noSleep}, nil
	})
	t.Cleanup(sources.Close)
	o := mirror.Options{
		Config: c, Registry: "mirror.example.com:8443", Workspace: s.workspace,
		Graph: updategraph.Client{URL: "http://" + s.host + sample.GraphPath, HTTP: http.DefaultClient},
		Open: func(ref imageset.Reference) (mirror.Source, error) {
			return sources.Repository(s.registry(ref), ref.Repository())
		},
		Signatures: mirror.Signatures{Releases: s.signatures(t)},
		Charts: mirror.Charts{
			Fetch:  func(string) (fetch.Client, error) { return fetch.Client{HTTP: http.DefaultClient, Sleep: noSleep}, nil },
			Render: func(_ context.Context, c helm.Chart) (helm.Rendered, error) { return render.Chart(c) },
		},
		Version: "v1.2.3", Now: func() time.Time { return time.Date(2026, 11, 20, 22, 58, 33, 0, time.UTC) },
		Sleep: noSleep, Events: s.events.add, Held: pruner{Store: s.store}.Manifest,
	}
	for _, f := range change {
		f(&o)
	}
	return o
}

// registry returns the upstream in the place of the registry of base images.
func (s *source) registry(ref imageset.Reference) string {
	return strings.Replace(ref.Registry(), "registry.access.redhat.com", s.host, 1)
}

// imageSet completes what stands below mirror:.
func imageSet(config, host string) string {
	return "kind: ImageSetConfiguration\napiVersion: mirror.openshift.io/v2alpha1\nmirror:\n" + strings.ReplaceAll(config, "HOST", host)
}

func oneAtATime(o *mirror.Options) { o.ParallelImages, o.ParallelLayers = 1, 1 }

func noSleep(ctx context.Context, _ time.Duration) error { return ctx.Err() }

func openStore(t *testing.T) *store.Store {
	t.Helper()
	dir := t.TempDir()
	s, err := store.Open(t.Context(), store.Options{Database: filepath.Join(dir, "db"), Storage: filepath.Join(dir, "storage")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *setup) plan(t *testing.T) *plan.Plan {
	t.Helper()
	p, err := s.engine.Plan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (s *setup) run(t *testing.T) *store.Run {
	t.Helper()
	run, err := s.store.Runs.Begin(t.Context(), t.Name())
	if err != nil {
		t.Fatal(err)
	}
	return run
}

// mirror plans and executes into the store.
func (s *setup) mirror(t *testing.T) (*mirror.Report, error) {
	t.Helper()
	report, err := s.engine.Execute(t.Context(), s.plan(t), s.run(t))
	if errResults := s.engine.WriteResults(report); errResults != nil {
		t.Fatal(errResults)
	}
	return report, err
}

// holds checks that a tag is there, names the digest, and can be read whole.
func (s *setup) holds(t *testing.T, repo, tag string, want digest.Digest) {
	t.Helper()
	m, err := s.store.Manifests.ByTag(t.Context(), repo, tag)
	if err != nil {
		t.Errorf("%s:%s: %v", repo, tag, err)
		return
	}
	if m.Digest != want {
		t.Errorf("%s:%s is %s, want %s", repo, tag, m.Digest, want)
	}
	s.whole(t, repo, m)
}

func (s *setup) lacks(t *testing.T, repo, tag string) {
	t.Helper()
	if _, err := s.store.Manifests.ByTag(t.Context(), repo, tag); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("%s:%s: %v, want that it is not there", repo, tag, err)
	}
}

// tags lists a repository's tags; none if there is no such repository.
func (s *setup) tags(t *testing.T, repo string) []string {
	t.Helper()
	tags, _, err := s.store.Tags.List(t.Context(), repo, "", -1)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		t.Fatal(err)
	}
	return tags
}

func (s *setup) repositories(t *testing.T) []string {
	t.Helper()
	names, _, err := s.store.Repositories(t.Context(), "", -1)
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// files lists what is in the workspace.
func (s *setup) files(t *testing.T) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(s.workspace, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && path == s.workspace {
			return fs.SkipAll
		}
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(s.workspace, path)
			files = append(files, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func (s *setup) read(t *testing.T, path ...string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(append([]string{s.workspace, "working-dir"}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// events collects the progress of an engine.
type events struct {
	mu   sync.Mutex
	list []mirror.Event
}

func (e *events) add(ev mirror.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = append(e.list, ev)
}

func (e *events) count(kind mirror.EventKind) (n int, bytes int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, ev := range e.list {
		if ev.Kind == kind {
			n++
			bytes += ev.Bytes
		}
	}
	return n, bytes
}

// bytes returns what was read for an image.
func (e *events) bytes(image *plan.Image) (n int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, ev := range e.list {
		if ev.Kind == mirror.Bytes && ev.Image == image {
			n += ev.Bytes
		}
	}
	return n
}

// exitCode is what the command would end with.
func exitCode(err error) int {
	var coded interface{ ExitCode() int }
	switch {
	case err == nil:
		return 0
	case errors.As(err, &coded):
		return coded.ExitCode()
	}
	return 1
}

const additional = `  additionalImages:
  - name: HOST/samples/docker:v1
  - name: HOST/samples/oci-multi:v1
`

const twoReleases = `  platform:
    channels:
    - name: stable-4.18
      minVersion: 4.18.1
      maxVersion: 4.18.2
`
