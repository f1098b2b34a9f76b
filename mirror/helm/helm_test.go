package helm_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/mirror-appliance/appliance/cmd/sample-upstream/sample"
	"github.com/mirror-appliance/appliance/internal/fetch"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror/helm"
	"github.com/mirror-appliance/appliance/mirror/helm/render"
	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/plan"
	"github.com/mirror-appliance/appliance/mirror/upstream"
)

// site is the sample upstream, and a workspace.
type site struct {
	*sample.Content
	files workspace

	mu       sync.Mutex // guards the rest
	requests []string
	fault    func(w http.ResponseWriter, r *http.Request) bool
}

func newSite(t *testing.T) *site {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	content, err := sample.New(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s := &site{Content: content, files: workspace{t.TempDir()}}
	handler := content.Handler()
	server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.requests = append(s.requests, r.URL.Path)
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

// asked returns the requests so far, and forgets them.
func (s *site) asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.requests
	s.requests = nil
	return all
}

func (s *site) collector(t *testing.T, config string) *helm.Collector {
	t.Helper()
	text := "kind: ImageSetConfiguration\napiVersion: mirror.openshift.io/v2alpha1\nmirror:\n  helm:\n" + strings.ReplaceAll(config, "HOST", s.Host())
	c, err := imageset.Parse("isc.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	registries := upstream.NewRegistries(func(registry string) (upstream.Options, error) {
		return upstream.Options{Registry: registry, PlainHTTP: true, Retries: 1, Sleep: noSleep}, nil
	})
	t.Cleanup(registries.Close)
	return &helm.Collector{
		Config: c, Files: s.files, Repository: func(name string) string { return "prefix/" + name },
		Fetch: func(string) (fetch.Client, error) { return fetch.Client{HTTP: http.DefaultClient, Sleep: noSleep}, nil },
		Open: func(ref imageset.Reference) (helm.Registry, error) {
			return registries.Repository(ref.Registry(), ref.Repository())
		},
		Render: func(_ context.Context, c helm.Chart) (helm.Rendered, error) { return render.Chart(c) },
	}
}

func noSleep(ctx context.Context, _ time.Duration) error { return ctx.Err() }

func collect(t *testing.T, c *helm.Collector) *plan.Plan {
	t.Helper()
	p := &plan.Plan{}
	if err := c.Collect(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	return p
}

// workspace is a directory.
type workspace struct{ dir string }

func (w workspace) Read(name string) ([]byte, error) { return os.ReadFile(filepath.Join(w.dir, name)) }

func (w workspace) Write(name string, data []byte) error {
	path := filepath.Join(w.dir, name)
	return errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, data, 0o644))
}

func (w workspace) List(dir string) (names []string, err error) {
	entries, err := os.ReadDir(filepath.Join(w.dir, dir))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return names, err
}

const (
	everyChart = "    repositories:\n    - name: sample\n      url: http://HOST/charts/\n"
	oneChart   = everyChart + "      charts:\n      - name: sample-app\n        version: 1.0.0\n"
)

// images lists the destinations of a plan, and its failures and warnings.
func images(p *plan.Plan) string {
	var all []string
	for _, i := range p.Images {
		all = append(all, fmt.Sprintf("%s %s:%s", i.Type, i.Repository, i.Tag))
	}
	for _, f := range p.Failures {
		all = append(all, "failure "+f.Image.Origin+": "+f.Error)
	}
	for _, w := range p.Warnings {
		all = append(all, "warning "+w)
	}
	return strings.Join(all, "\n")
}

const podImages = "helmImage prefix/samples/docker:v1\nhelmImage prefix/samples/docker-multi:v1"

// Each way to name charts is tried with a network, and then without one, from what the first run
// kept.
//
// Spec: oc-mirror 6.5.
func TestCollector_everyWay(t *testing.T) {
	s := newSite(t)
	helper, _ := s.Manifest("samples/oci", "v1")
	byDigest := "\nhelmImage prefix/samples/oci:sha256-" + helper.Digest.Encoded()
	for _, tc := range []struct {
		name, config, want string
		kept               []string
	}{
		{"one version", oneChart, podImages, []string{"charts/sample-app-1.0.0.tgz"}},
		{"the newest, without a version", everyChart + "      charts:\n      - name: sample-app\n", podImages, []string{"charts/sample-app-1.1.0.tgz"}},
		{"the newest that fits", everyChart + "      charts:\n      - {name: sample-app, version: '<1.1'}\n", podImages, []string{"charts/sample-app-1.0.0.tgz"}},
		{"all of the index", everyChart, podImages, []string{"charts/sample-app-1.0.0.tgz", "charts/sample-app-1.1.0.tgz", "indexes/HOST/charts/index.yaml"}},
		{"a repository without slash", strings.Replace(everyChart, "/charts/", "/charts", 1), podImages, []string{"charts/sample-app-1.0.0.tgz", "charts/sample-app-1.1.0.tgz", "indexes/HOST/charts/index.yaml"}},
		{"a repository by its index", strings.Replace(everyChart, "/charts/", "/charts/index.yaml", 1), podImages, []string{"charts/sample-app-1.0.0.tgz", "charts/sample-app-1.1.0.tgz", "indexes/HOST/charts/index.yaml"}},
		{"imagePaths", oneChart + "        imagePaths:\n        - '{.spec.template.spec.containers[*].env[*].value}'\n", podImages + byDigest, []string{"charts/sample-app-1.0.0.tgz"}},
		{"an OCI registry", "    repositories:\n    - name: oci\n      url: oci://HOST/samples/charts\n      charts:\n      - {name: sample-app, version: 1.0.0}\n", podImages, []string{"charts/sample-app-1.0.0.tgz"}},
		{"an OCI registry, without a version", "    repositories:\n    - name: oci\n      url: oci://HOST/samples/charts/\n      charts:\n      - {name: sample-app}\n", podImages, []string{"charts/sample-app-1.1.0.tgz"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s.files = workspace{t.TempDir()}
			c := s.collector(t, tc.config)
			if got := images(collect(t, c)); got != tc.want {
				t.Errorf("with a network:\n%s\nwant\n%s", got, tc.want)
			}
			s.asked()
			c.Offline = true
			if got := images(collect(t, c)); got != tc.want {
				t.Errorf("without a network:\n%s\nwant\n%s", got, tc.want)
			}
			if asked := s.asked(); len(asked) > 0 {
				t.Errorf("without a network it asked for %q", asked)
			}
			for _, name := range tc.kept {
				if _, err := s.files.Read("helm/" + strings.ReplaceAll(name, "HOST", s.Host())); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// Spec: oc-mirror 6.5.
func TestCollector_local(t *testing.T) {
	s := newSite(t)
	collect(t, s.collector(t, oneChart))
	archive, err := s.files.Read("helm/charts/sample-app-1.0.0.tgz")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "mine.tgz")
	if err := os.WriteFile(path, archive, 0o600); err != nil {
		t.Fatal(err)
	}
	c := s.collector(t, "    local:\n    - name: mine\n      path: "+path+"\n")
	p := collect(t, c)
	if got := images(p); got != podImages {
		t.Errorf("an archive: %s", got)
	}
	if want := "chart sample-app 1.0.0 (isc.yaml:6)"; p.Images[0].Reason != want {
		t.Errorf("the reason is %q, want %q", p.Images[0].Reason, want)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if got := images(collect(t, c)); !strings.Contains(got, "failure chart "+path) && !strings.Contains(got, "failure chart mine") {
		t.Errorf("an archive that is gone: %s", got)
	}
	c.Offline = true
	if got := images(collect(t, c)); got != podImages {
		t.Errorf("without a network, from the workspace: %s", got)
	}
}

func TestCollector_failures(t *testing.T) {
	s := newSite(t)
	for _, tc := range []struct{ name, config, failure, hint string }{
		{"a version that is not there", strings.Replace(oneChart, "1.0.0", "9.9.9", 1), "no version 9.9.9 of chart sample-app", "1.1.0, 1.0.0"},
		{"a chart that is not there", strings.Replace(oneChart, "sample-app", "sample-ap", 1), "no chart sample-ap in the index", "sample-app"},
		{"a name with a path", strings.Replace(oneChart, "sample-app", "../../x", 1), `"../../x" is not the name of a chart`, ""},
		{"a repository that is not there", strings.Replace(oneChart, "/charts/", "/nothing", 1), "/nothing/index.yaml: 404", ""},
		{"a repository of another scheme", strings.Replace(oneChart, "http:", "ftp:", 1), "is not the url of a Helm repository", "https://"},
		{"an OCI registry without a list", "    repositories:\n    - {name: x, url: 'oci://HOST/samples/charts'}\n", "no index", "list them"},
		{"a JSONPath that is none", oneChart + "        imagePaths: ['{.spec']\n", "is not a JSONPath", ""},
		{"a local chart that is not there", "    local:\n    - {name: x, path: /nowhere/x.tgz}\n", "no such file", "relative"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := collect(t, s.collector(t, tc.config))
			if len(p.Failures) != 1 || len(p.Images) != 0 {
				t.Fatalf("plan: %s", images(p))
			}
			f := p.Failures[0]
			if !strings.Contains(f.Error, tc.failure) || !strings.Contains(hint.Of(f.Cause), tc.hint) || f.Image.Type != plan.Helm || !strings.HasPrefix(f.Image.Reason, "isc.yaml:") {
				t.Errorf("failure %+v of %+v, hint %q", f, f.Image, hint.Of(f.Cause))
			}
		})
	}
	t.Run("one that fails does not stop the others", func(t *testing.T) {
		p := collect(t, s.collector(t, oneChart+"      - {name: nothing}\n"))
		if len(p.Failures) != 1 || len(p.Images) != 2 {
			t.Errorf("plan: %s", images(p))
		}
	})
	t.Run("without a network and without the file", func(t *testing.T) {
		s.files = workspace{t.TempDir()}
		c := s.collector(t, oneChart)
		c.Offline = true
		p := collect(t, c)
		if want := "chart file not found for sample-app version 1.0.0: tried sample-app-1.0.0.tgz, sample-app-v1.0.0.tgz"; len(p.Failures) != 1 || p.Failures[0].Error != want {
			t.Errorf("plan: %s, want %s", images(p), want)
		}
	})
	t.Run("a workspace that takes nothing is an error of the run", func(t *testing.T) {
		c := s.collector(t, oneChart)
		c.Files = full{s.files}
		if err := c.Collect(t.Context(), &plan.Plan{}); !errors.Is(err, errFull) {
			t.Errorf("error %v", err)
		}
	})
}

var errFull = errors.New("no space left")

type full struct{ workspace }

func (full) Write(string, []byte) error { return errFull }

func TestCollector_downloadsOnce(t *testing.T) {
	s := newSite(t)
	c := s.collector(t, everyChart)
	collect(t, c)
	s.asked()
	collect(t, c)
	if asked := s.asked(); !slices.Equal(asked, []string{"/charts/index.yaml"}) {
		t.Errorf("the second run asked for %q", asked)
	}
}

func TestCollector_retries(t *testing.T) {
	s := newSite(t)
	failed := map[string]bool{}
	s.fault = func(w http.ResponseWriter, r *http.Request) bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		if failed[r.URL.Path] {
			return false
		}
		failed[r.URL.Path] = true
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	}
	if got := images(collect(t, s.collector(t, oneChart))); got != podImages {
		t.Errorf("after a failure of each request: %s", got)
	}
}

// keys is a login for one host.
type keys struct{ host string }

func (k keys) Resolve(target authn.Resource) (authn.Authenticator, error) {
	if target.RegistryStr() == k.host {
		return &authn.Basic{Username: "ann", Password: "secret"}, nil
	}
	return authn.Anonymous, nil
}

func TestCollector_logins(t *testing.T) {
	s := newSite(t)
	s.fault = func(w http.ResponseWriter, r *http.Request) bool {
		if user, password, _ := r.BasicAuth(); user == "ann" && password == "secret" {
			return false
		}
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}
	p := collect(t, s.collector(t, oneChart))
	if len(p.Failures) != 1 || !strings.Contains(hint.Of(p.Failures[0].Cause), "podman login "+s.Host()) {
		t.Errorf("without a login: %s", images(p))
	}
	c := s.collector(t, oneChart)
	c.Keychain = keys{s.Host()}
	if got := images(collect(t, c)); got != podImages {
		t.Errorf("with a login of the host: %s", got)
	}
	s.files = workspace{t.TempDir()}
	if got := images(collect(t, s.collector(t, strings.Replace(oneChart, "http://", "http://ann:secret@", 1)))); got != podImages {
		t.Errorf("with a login in the url: %s", got)
	}
	p = collect(t, s.collector(t, strings.Replace(oneChart, "http://", "http://ann:guess@", 1)))
	if got := images(p); len(p.Failures) != 1 || strings.Contains(got, "guess") {
		t.Errorf("a wrong password: %s", got)
	}
}

// An index may name archives at another host, which is not given the login of the repository.
func TestCollector_anotherHost(t *testing.T) {
	s := newSite(t)
	seen := ""
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = r.Header.Get("Authorization")
		s.Handler().ServeHTTP(w, r)
	}))
	defer other.Close()
	s.fault = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/charts/index.yaml" {
			return false
		}
		fmt.Fprintf(w, "entries: {sample-app: [{version: 1.0.0, digest: '00', urls: [%s/charts/sample-app-1.0.0.tgz]}]}\n", other.URL)
		return true
	}
	c := s.collector(t, oneChart)
	c.Keychain = keys{s.Host()}
	p := collect(t, c)
	if got := images(p); !strings.HasPrefix(got, podImages) || !strings.Contains(got, "warning chart sample-app 1.0.0: the index says") {
		t.Errorf("plan: %s", got)
	}
	if seen != "" {
		t.Errorf("the other host was sent %q", seen)
	}
}

func TestCollector_indexLeadsToRegistry(t *testing.T) {
	s := newSite(t)
	s.fault = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/charts/index.yaml" {
			return false
		}
		fmt.Fprintf(w, "entries: {sample-app: [{version: 1.0.0, urls: ['oci://%s/samples/charts/sample-app:1.0.0']}]}\n", s.Host())
		return true
	}
	if got := images(collect(t, s.collector(t, everyChart))); got != podImages {
		t.Errorf("plan: %s", got)
	}
}

func TestCollector_ends(t *testing.T) {
	s := newSite(t)
	ctx, cancel := context.WithCancel(t.Context())
	c := s.collector(t, everyChart)
	c.Render = func(ctx context.Context, _ helm.Chart) (helm.Rendered, error) {
		cancel()
		return helm.Rendered{}, ctx.Err()
	}
	if err := c.Collect(ctx, &plan.Plan{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}
