package archive_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/cmd/sample-upstream/sample"
	"github.com/mirror-appliance/appliance/internal/fetch"
	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/archive"
	"github.com/mirror-appliance/appliance/mirror/helm"
	"github.com/mirror-appliance/appliance/mirror/helm/render"
	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/signature"
	"github.com/mirror-appliance/appliance/mirror/updategraph"
	"github.com/mirror-appliance/appliance/mirror/upstream"
	"github.com/mirror-appliance/appliance/registry/store"
)

// gap is two sides with a network between them that carries files only.
type gap struct {
	*workbench
	*sample.Content
	host  string
	far   string // the workspace of the last import
	store *store.Store
	near  *http.Client
	fails func(*http.Request) bool // of the upstream; nil: nothing does

	lost  atomic.Value // a part of the path of what the upstream does not have now
	asked atomic.Int64 // blobs that the upstream has been asked for
}

func newGap(t *testing.T) *gap {
	server := httptest.NewUnstartedServer(nil)
	g := &gap{workbench: newWorkbench(t), host: server.Listener.Addr().String(), near: http.DefaultClient}
	var err error
	g.Content, err = sample.New(g.host)
	must(t, err)
	g.lost.Store("none")
	content := g.Handler()
	server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if g.fails != nil && g.fails(r) {
			http.Error(w, "out of order", http.StatusInternalServerError)
			return
		}
		if strings.Contains(r.URL.Path, g.lost.Load().(string)) {
			http.NotFound(w, r)
			return
		}
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
			g.asked.Add(1)
		}
		content.ServeHTTP(w, r)
	})
	server.Start()
	t.Cleanup(server.Close)
	dir := t.TempDir()
	g.store, err = store.Open(t.Context(), store.Options{Database: filepath.Join(dir, "db"), Storage: filepath.Join(dir, "storage")})
	must(t, err)
	t.Cleanup(func() { must(t, g.store.Close()) })
	return g
}

func (g *gap) config(config string) *imageset.Config {
	g.Helper()
	text := "kind: ImageSetConfiguration\napiVersion: mirror.openshift.io/v2alpha1\nmirror:\n" + strings.ReplaceAll(config, "HOST", g.host)
	c, err := imageset.Parse("isc.yaml", []byte(text))
	must(g.T, err)
	return c
}

// toDisk mirrors to an archive.
func (g *gap) toDisk(config string, change ...func(*archive.Options)) (*mirror.Report, error) {
	g.Helper()
	sources := upstream.NewRegistries(func(registry string) (upstream.Options, error) {
		return upstream.Options{Registry: registry, PlainHTTP: true, Retries: 2, Sleep: noSleep}, nil
	})
	defer sources.Close()
	report, err := mirror.Run(g.Context(), mirror.Options{
		Config: g.config(config), Registry: "localhost:55000", Workspace: g.dir, ToArchive: true,
		Graph: updategraph.Client{URL: "http://" + g.host + sample.GraphPath, HTTP: g.near},
		Open: func(ref imageset.Reference) (mirror.Source, error) {
			return sources.Repository(strings.Replace(ref.Registry(), "registry.access.redhat.com", g.host, 1), ref.Repository())
		},
		Begin:      func(ctx context.Context, _ string) (mirror.Destination, error) { return g.create(ctx, change...) },
		Signatures: g.signatures(g.near),
		Charts: mirror.Charts{
			Fetch:  func(string) (fetch.Client, error) { return fetch.Client{HTTP: g.near}, nil },
			Render: renderChart,
		},
		Version: "v1.2.3", Now: g.clock.now, Sleep: noSleep,
	})
	g.close()
	return report, err
}

// signatures verifies the signatures of the upstream's releases.
func (g *gap) signatures(over *http.Client) mirror.Signatures {
	keys, err := signature.ParseKeys(g.ReleaseKey())
	must(g.T, err)
	return mirror.Signatures{Strict: true, Releases: &signature.Client{
		URL: "http://" + g.host + sample.SignaturesPath, Get: fetch.Client{HTTP: over, Sleep: noSleep}, Keys: keys,
	}}
}

func noSleep(ctx context.Context, _ time.Duration) error { return ctx.Err() }

// offline fails the test when it is used.
type offline struct{ *testing.T }

func (o offline) RoundTrip(r *http.Request) (*http.Response, error) {
	o.Errorf("the network is used: %s", r.URL)
	return nil, errors.New("there is no network")
}

// fromDisk mirrors from archives into the store.
func (g *gap) fromDisk(config string, dirs ...string) (*mirror.Report, error) {
	g.Helper()
	a, err := archive.Open(g.Context(), dirs...)
	if err != nil {
		return nil, err
	}
	return g.imported(config, a)
}

// imported mirrors from an archive, and closes it.
func (g *gap) imported(config string, a *archive.Archive) (*mirror.Report, error) {
	g.Helper()
	defer a.Close()
	a.Alias(g.host+"/samples/oci:v1", "renamed", "v7")
	g.far = g.TempDir()
	return mirror.Run(g.Context(), mirror.Options{
		Config: g.config(config), Registry: "mirror.example.com:8443", Workspace: g.far, Documents: a,
		Graph: updategraph.Client{HTTP: &http.Client{Transport: offline{g.T}}},
		Open: func(ref imageset.Reference) (mirror.Source, error) {
			return a.Repository(ref.Name(), ref.Path), nil
		},
		Begin: func(ctx context.Context, name string) (mirror.Destination, error) {
			return g.store.Runs.Begin(ctx, name)
		},
		Signatures: g.signatures(&http.Client{Transport: offline{g.T}}),
		Charts:     mirror.Charts{Render: renderChart},
		Version:    "v1.2.3", Now: g.clock.now, Sleep: noSleep,
	})
}

func renderChart(_ context.Context, c helm.Chart) (helm.Rendered, error) { return render.Chart(c) }

// serves checks that the store has the same image under a name as the upstream under another.
func (g *gap) serves(repo, tag, upstreamRepo, ref string) {
	g.Helper()
	want, ok := g.Manifest(upstreamRepo, ref)
	if !ok {
		g.Fatalf("the sample has no %s:%s", upstreamRepo, ref)
	}
	m, err := g.store.Manifests.ByTag(g.Context(), repo, tag)
	if err != nil || m.Digest != want.Digest {
		g.Errorf("%s:%s is %s, %v, want %s", repo, tag, m.Digest, err, want.Digest)
	}
}

const wholeSet = `  platform:
    graph: true
    channels:
    - {name: stable-4.18, minVersion: 4.18.2, maxVersion: 4.18.3}
  additionalImages:
  - name: HOST/samples/docker:v1
  - name: HOST/samples/oci-multi:v1
  - {name: HOST/samples/oci:v1, targetRepo: renamed, targetTag: v7}
`

func (g *gap) servesAll() {
	g.Helper()
	for _, v := range []string{"4.18.2-x86_64", "4.18.3-x86_64"} {
		g.serves("openshift/release-images", v, "openshift-release-dev/ocp-release", v)
	}
	g.serves("samples/docker", "v1", "samples/docker", "v1")
	g.serves("samples/oci-multi", "v1", "samples/oci-multi", "v1")
	g.serves("renamed", "v7", "samples/oci", "v1")
}

// Spec: oc-mirror 1.2, 8.5.
func TestArchive_toDiskAndFromDisk(t *testing.T) {
	for name, change := range map[string]func(*archive.Options){"one chunk": func(*archive.Options) {}, "many chunks": smallChunks} {
		t.Run(name, func(t *testing.T) {
			g := newGap(t)
			report, err := g.toDisk(wholeSet, change)
			must(t, err)
			if len(report.Resources) > 0 {
				t.Errorf("resources for a cluster: %v", report.Resources)
			}
			report, err = g.fromDisk(wholeSet, g.moved())
			must(t, err)
			if report.Planned != len(report.Mirrored) {
				t.Errorf("the report is %+v", report)
			}
			for _, name := range []string{"signature-configmap.yaml", "updateService.yaml"} {
				if !slices.ContainsFunc(report.Resources, func(f string) bool { return strings.HasSuffix(f, name) }) {
					t.Errorf("the resources are %v", report.Resources)
				}
			}
			g.servesAll()
		})
	}
}

// Charts come from the archive too, also one without a version, and all of an index. They are in the
// workspace then, for helm.
//
// Spec: oc-mirror 6.5.
func TestArchive_charts(t *testing.T) {
	for _, list := range []string{"", "      charts: [{name: sample-app}]\n"} {
		g := newGap(t)
		charts := "  helm:\n    repositories:\n    - name: sample\n      url: http://HOST/charts\n" + list
		_, err := g.toDisk(charts)
		must(t, err)
		const chart = "working-dir/helm/charts/sample-app-1.1.0.tgz"
		there, err := os.ReadFile(filepath.Join(g.dir, chart))
		must(t, err)
		_, err = g.fromDisk(charts, g.moved())
		must(t, err)
		g.serves("samples/docker", "v1", "samples/docker", "v1")
		g.serves("samples/docker-multi", "v1", "samples/docker-multi", "v1")
		here, err := os.ReadFile(filepath.Join(g.far, chart))
		must(t, err)
		if !bytes.Equal(here, there) {
			t.Errorf("%s has %d bytes, and %d where it comes from", chart, len(here), len(there))
		}
	}
}

// Without our lists and with its documents, an archive is one of oc-mirror's.
//
// Spec: oc-mirror 8.7.
func TestArchive_fromDiskOfOCMirror(t *testing.T) {
	g := newGap(t)
	_, err := g.toDisk(wholeSet)
	must(t, err)
	var files []file
	for _, f := range g.all() {
		if !strings.HasPrefix(f.name, "appliance-") && !strings.HasSuffix(f.name, "payload-digest") {
			files = append(files, f)
		}
	}
	dir := t.TempDir()
	writeTar(t, filepath.Join(dir, "mirror_000001.tar"), files...)
	_, err = g.fromDisk(wholeSet, dir)
	must(t, err)
	g.servesAll()
}

func TestArchive_fromDiskInSteps(t *testing.T) {
	g := newGap(t)
	first := strings.ReplaceAll(wholeSet, "maxVersion: 4.18.3", "maxVersion: 4.18.2")
	_, err := g.toDisk(first)
	must(t, err)
	one := g.moved()
	_, err = g.toDisk(wholeSet)
	must(t, err)
	two := g.moved()
	layer := func(repo, ref string) string {
		m, ok := g.Manifest(repo, ref)
		if !ok {
			t.Fatal(repo, ref)
		}
		i := strings.LastIndex(string(m.Body), `"sha256:`)
		return blobFile(digest.Digest(m.Body[i+1:i+1+71]), nil).name
	}
	if got := names(readTar(t, filepath.Join(two, "mirror_000001.tar")), layer("samples/docker", "v1")); len(got) > 0 {
		t.Error("a layer is carried twice")
	}
	t.Run("the second before the first", func(t *testing.T) {
		report, err := g.fromDisk(wholeSet, two)
		if err == nil || report == nil || len(report.Failures) == 0 {
			t.Fatalf("%+v, %v", report, err)
		}
		if text := fmt.Sprint(report.Failures[0].Error); !strings.Contains(text, "builds on the archive before it, number 1") {
			t.Errorf("it is said that %s", text)
		}
	})
	_, err = g.fromDisk(first, one)
	must(t, err)
	_, err = g.fromDisk(wholeSet, two)
	must(t, err)
	g.servesAll()
}

func TestArchive_toDiskOfARunWithFailures(t *testing.T) {
	g := newGap(t)
	config := wholeSet + "  - name: HOST/samples/none:v1\n"
	report, err := g.toDisk(config)
	var coder interface{ ExitCode() int }
	if !errors.As(err, &coder) || coder.ExitCode() != 8 || len(report.Failures) != 1 {
		t.Fatalf("%+v, %v", report, err)
	}
	d, err := archive.Describe(t.Context(), g.dir)
	must(t, err)
	if len(d.Archives[0].Failures) != 1 || len(d.Archives[0].Images) != len(report.Mirrored) {
		t.Errorf("the archive has %d images and says that %v failed", len(d.Archives[0].Images), d.Archives[0].Failures)
	}
	report, err = g.fromDisk(config, g.dir)
	if !errors.As(err, &coder) || coder.ExitCode() != 8 || len(report.Failures) != 1 {
		t.Fatalf("%+v, %v", report, err)
	}
	if text := report.Failures[0].Error; !strings.Contains(text, "is without image "+g.host+"/samples/none:v1, which failed when it was made: ") || !strings.Contains(text, "404") {
		t.Errorf("the failure is %s", text)
	}
	g.servesAll()
}

// Nothing new is an archive without blobs, as oc-mirror's, once the one before is carried away.
func TestArchive_toDiskAgain(t *testing.T) {
	g := newGap(t)
	_, err := g.toDisk(wholeSet)
	must(t, err)
	before := blobsOf(g)
	g.moved()
	_, err = g.toDisk(wholeSet)
	must(t, err)
	after := blobsOf(g)
	for d := range after {
		if _, isManifest := before[d]; !isManifest || after[d] > 100<<10 {
			t.Errorf("%s with %d bytes is new", d, after[d])
		}
	}
	if len(after) >= len(before) {
		t.Errorf("%d of %d blobs are carried again", len(after), len(before))
	}
	if _, err := os.Stat(filepath.Join(g.dir, "working-dir/cluster-resources")); err == nil {
		t.Error("there are resources for a cluster")
	}
}

func blobsOf(g *gap) map[string]int {
	all := map[string]int{}
	for _, f := range g.all() {
		if strings.Contains(f.name, "/blobs/") {
			all[f.name] = len(f.data)
		}
	}
	return maps.Clone(all)
}

// Chunks with blobs come one after the other, each with those that have the rest.
func TestOpenPartial_mediaOneAfterTheOther(t *testing.T) {
	g := newGap(t)
	_, err := g.toDisk(wholeSet, func(o *archive.Options) { o.ChunkSize = 500 << 10 })
	must(t, err)
	from := g.moved()
	chunks, err := filepath.Glob(filepath.Join(from, "*.tar"))
	must(t, err)
	if len(chunks) < 5 {
		t.Fatalf("only %v", chunks)
	}
	blobs, rest := chunks[:len(chunks)-2], chunks[len(chunks)-2:] // the end of the blobs, and all else
	for _, c := range blobs {
		if files := readTar(t, c); len(names(files, "/blobs/"))+1 != len(files) {
			t.Fatalf("%s has more than blobs", c)
		}
	}
	if _, err := archive.OpenPartial(t.Context(), link(t, chunks[:2]...)); err == nil || !strings.Contains(err.Error(), "missing: mirror_") {
		t.Errorf("without the list of contents: %v", err)
	}
	for n, chunk := range blobs {
		medium := link(t, append(rest, chunk)...)
		if _, err := archive.Open(t.Context(), medium); err == nil {
			t.Error("it is taken for whole")
		}
		a, err := archive.OpenPartial(t.Context(), medium)
		must(t, err)
		report, err := g.imported(wholeSet, a)
		if n == len(blobs)-1 {
			if err != nil {
				t.Fatalf("%v: %v", err, report.Failures)
			}
			continue
		}
		if err == nil || report == nil || len(report.Failures) == 0 {
			t.Fatalf("after %d of %d: %+v, %v", n+1, len(blobs), report, err)
		}
		if !strings.Contains(fmt.Sprint(report.Failures), ".tar, which is not here") {
			t.Errorf("it is said that %v", report.Failures)
		}
	}
	g.servesAll()
}

// link puts files into a directory of their own.
func link(t *testing.T, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, f := range files {
		must(t, os.Link(f, filepath.Join(dir, filepath.Base(f))))
	}
	return dir
}

// A list is carried whole, and of its members those that are wanted: operators of one platform go
// through an archive, filtered and whole.
//
// Spec: oc-mirror 6.7.
func TestArchive_platformsOfOperators(t *testing.T) {
	for name, filter := range map[string]string{"filtered": "packages: [{name: sample-database}]", "full": "full: true"} {
		t.Run(name, func(t *testing.T) {
			g := newGap(t)
			set := "  operators:\n  - {catalog: 'HOST/redhat/redhat-operator-index:v4.18', platforms: [{os: linux, architecture: amd64}], " + filter + "}\n"
			_, err := g.toDisk(set)
			must(t, err)
			report, err := g.fromDisk(set, g.moved())
			must(t, err)
			if report.Planned != len(report.Mirrored) || report.Planned < 4 {
				t.Errorf("the report is %+v", report)
			}
		})
	}
}

func TestArchive_platforms(t *testing.T) {
	g := newGap(t)
	sparse := `  platform:
    platforms: [{os: linux, architecture: arm64}]
    channels: [{name: stable-4.18}]
  additionalImages:
  - {name: HOST/samples/oci-multi:v1, platforms: [{os: linux, architecture: amd64}]}
`
	_, err := g.toDisk(sparse)
	must(t, err)
	dir := g.moved()
	report, err := g.fromDisk(sparse, dir)
	must(t, err)
	if report.Planned != len(report.Mirrored) {
		t.Errorf("the report is %+v", report)
	}
	g.serves("openshift/release-images", "4.18.3-multi", "openshift-release-dev/ocp-release", "4.18.3-multi")
	g.serves("samples/oci-multi", "v1", "samples/oci-multi", "v1")
	a, err := archive.Open(t.Context(), dir)
	must(t, err)
	whole := strings.ReplaceAll(sparse, ", platforms: [{os: linux, architecture: amd64}]", "")
	if report, err = g.imported(whole, a); err == nil || len(report.Failures) != 1 {
		t.Errorf("a list of which the archive lacks members: %+v, %v", report, err)
	}
}
