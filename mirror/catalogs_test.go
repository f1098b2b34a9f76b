package mirror_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/cmd/sample-upstream/sample"
	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/catalog"
	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/operator"
	"github.com/mirror-appliance/appliance/registry/store"
)

// stored is a repository of a store, as a source.
type stored struct {
	store *store.Store
	repo  string
}

func (s stored) Manifest(ctx context.Context, ref string) (ocispec.Descriptor, []byte, error) {
	m, err := s.store.Manifests.ByTag(ctx, s.repo, ref)
	if d := digest.Digest(ref); d.Validate() == nil {
		m, err = s.store.Manifests.Get(ctx, s.repo, d)
	}
	return ocispec.Descriptor{MediaType: m.MediaType, Digest: m.Digest, Size: int64(len(m.Body))}, m.Body, err
}

func (s stored) Blob(ctx context.Context, d digest.Digest) (io.ReadCloser, int64, error) {
	return s.BlobFrom(ctx, d, 0)
}

func (s stored) BlobFrom(ctx context.Context, d digest.Digest, offset int64) (io.ReadCloser, int64, error) {
	f, err := s.store.Blobs.Open(ctx, s.repo, d)
	if err != nil {
		return nil, 0, err
	}
	_, err = f.Seek(offset, io.SeekStart)
	return f, f.Size, err
}

func (s stored) Stat(ctx context.Context, d digest.Digest) (int64, error) {
	return s.store.Blobs.Stat(ctx, s.repo, d)
}

// catalog reads a catalog of the store, as channel entries and bundles.
func (s *setup) catalog(t *testing.T, tag string) string {
	t.Helper()
	c, err := catalog.Find(t.Context(), stored{s.store, sample.CatalogRepository}, tag)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := c.Extract(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	index, err := operator.Scan(t.Context(), os.DirFS(dir))
	if err != nil {
		t.Fatal(err)
	}
	all, err := index.Select(imageset.Operator{Full: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, p := range all.Packages {
		for _, c := range p.Channels {
			line := p.Name + " " + c.Name + ":"
			for _, e := range c.Entries {
				line += " " + strings.TrimPrefix(e.Name, p.Name+".")
			}
			lines = append(lines, line)
		}
	}
	for _, b := range all.Bundles {
		lines = append(lines, "bundle "+b.Name)
	}
	return strings.Join(lines, "\n")
}

const database = `
  operators:
  - catalog: HOST/redhat/redhat-operator-index:v4.18
    packages:
    - name: sample-database
      channels:
      - name: stable
        minVersion: 1.1.0
`

// Spec: oc-mirror 5.2, 5.4, 5.5, 5.7.
func TestMirror_operators(t *testing.T) {
	s := newSetup(t, database)
	report, err := s.mirror(t)
	if err != nil {
		t.Fatal(err)
	}
	want := "sample-database stable: v1.1.0 v1.2.0\nbundle sample-database.v1.1.0\nbundle sample-database.v1.2.0"
	if got := s.catalog(t, "v4.18"); got != want {
		t.Errorf("the catalog has\n%s", got)
	}
	for repo, n := range map[string]int{"operators/sample-database-bundle": 2, "operators/sample-database-operator": 2, "operators/database": 1, "operators/collector": 0} {
		if tags := s.tags(t, repo); len(tags) != n || n > 0 && !strings.HasPrefix(tags[0], "sha256-") {
			t.Errorf("%s has %v", repo, tags)
		}
	}
	first := report.Mirrored[len(report.Mirrored)-1]
	if first.Digest == s.digest(t, sample.CatalogRepository, sample.CatalogTag) {
		t.Error("the catalog is the original")
	}
	for name, want := range map[string]string{
		"cs-redhat-operator-index-v4-18.yaml": "image: mirror.example.com:8443/redhat/redhat-operator-index:v4.18",
		"cc-redhat-operator-index-v4-18.yaml": "ref: mirror.example.com:8443/redhat/redhat-operator-index:v4.18",
		"idms-oc-mirror.yaml":                 "name: idms-operator-0",
	} {
		if text := s.read(t, "cluster-resources", name); !strings.Contains(text, want) {
			t.Errorf("%s has not %q:\n%s", name, want, text)
		}
	}
	s.asked("")
	again, err := s.mirror(t)
	if err != nil || again.Mirrored[len(again.Mirrored)-1].Digest != first.Digest {
		t.Errorf("the second time there is another catalog, or %v", err)
	}
	if asked := s.asked("GET /v2/redhat/redhat-operator-index/blobs"); len(asked) > 2 { // the configurations
		t.Errorf("the second run asks for %v", asked)
	}
}

// Spec: oc-mirror 3.4, 5.4.
func TestMirror_operatorsWithoutAnImage(t *testing.T) {
	for name, fails := range map[string]func(r *http.Request, of digest.Digest) bool{
		"that cannot be read": func(r *http.Request, of digest.Digest) bool {
			return strings.HasSuffix(r.URL.Path, "/sample-database-operator/manifests/"+of.String())
		},
		"whose blobs cannot": func(r *http.Request, of digest.Digest) bool {
			return r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/sample-database-operator/blobs/")
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSetup(t, strings.Replace(database, "        minVersion: 1.1.0\n", "        minVersion: 1.0.0\n", 1)+"    - name: sample-logging\n", oneAtATime)
			newest := s.digest(t, "operators/sample-database-operator", "v1.2.0")
			layer := s.layer(t, "operators/sample-database-operator", s.member(t, "operators/sample-database-operator", "v1.2.0").String())
			s.fails(func(w http.ResponseWriter, r *http.Request) bool {
				of := newest
				if strings.Contains(r.URL.Path, "/blobs/") && !strings.HasSuffix(r.URL.Path, layer.String()) || !fails(r, of) {
					return false
				}
				w.WriteHeader(http.StatusNotFound)
				fmt.Fprint(w, `{"errors":[{"code":"MANIFEST_UNKNOWN"}]}`)
				return true
			})
			report, err := s.mirror(t)
			var coded interface{ ExitCode() int }
			if !errors.As(err, &coded) || coded.ExitCode() != 4 {
				t.Fatalf("the error is %v", err)
			}
			got := s.catalog(t, "v4.18")
			if !strings.HasPrefix(got, "sample-database stable: v1.0.0 v1.1.0\nsample-logging") || strings.Contains(got, "sample-database.v1.2.0") {
				t.Errorf("the catalog has\n%s", got)
			}
			if len(report.Failures) != 1 || !strings.Contains(report.Failures[0].Incomplete, "sample-database.v1.2.0") {
				t.Errorf("failures %+v", report.Failures)
			}
			if !slices.ContainsFunc(report.Warnings, func(w string) bool { return strings.Contains(w, "sample-database.v1.2.0") }) {
				t.Errorf("no warning says what is lost: %q", report.Warnings)
			}
			if text := s.read(t, "logs", "mirroring_errors_20261120_225833.txt"); !strings.Contains(text, "(Operator bundles: [sample-database.v1.2.0] - Operators: [sample-database])") {
				t.Errorf("the error file has %s", text)
			}
			s.fails(nil)
			if _, err := s.mirror(t); err != nil || !strings.Contains(s.catalog(t, "v4.18"), "sample-database.v1.2.0") {
				t.Errorf("the bundle does not come back: %v", err)
			}
		})
	}
}

func TestMirror_operatorsOneWrongPackage(t *testing.T) {
	s := newSetup(t, database+"    - name: sample-logging\n      minVersion: 7.0.0\n      maxVersion: 7.0.0\n    - name: sample-logger\n")
	report, err := s.mirror(t)
	var coded interface{ ExitCode() int }
	if !errors.As(err, &coded) || coded.ExitCode() != 4 {
		t.Fatalf("the error is %v", err)
	}
	if got := s.catalog(t, "v4.18"); !strings.Contains(got, "sample-database stable: v1.1.0 v1.2.0") || strings.Contains(got, "logging") {
		t.Errorf("the catalog has\n%s", got)
	}
	if len(report.Failures) != 1 || !strings.Contains(report.Failures[0].Error, "7.0.0") {
		t.Errorf("failures %+v", report.Failures)
	}
	if !slices.ContainsFunc(report.Warnings, func(w string) bool { return strings.Contains(w, "sample-logger") }) {
		t.Errorf("warnings %q", report.Warnings)
	}
}

// Spec: oc-mirror 5.7.
func TestMirror_operatorsFull(t *testing.T) {
	s := newSetup(t, "  operators:\n  - catalog: HOST/redhat/redhat-operator-index:v4.18\n    full: true\n    targetCatalog: mine/index\n    targetTag: now\n")
	if _, err := s.mirror(t); err != nil {
		t.Fatal(err)
	}
	s.holds(t, "mine/index", "now", s.digest(t, sample.CatalogRepository, sample.CatalogTag))
	if tags := s.tags(t, "operators/sample-database-bundle"); len(tags) != 4 {
		t.Errorf("bundles %v", tags)
	}
}

// Spec: oc-mirror 3.10.
func TestDelete_operators(t *testing.T) {
	s := newSetup(t, additional)
	both := database + "    - name: sample-logging\n"
	s.mirrored(t, both, "a.yaml")
	o := s.deletion(t, strings.Replace(strings.Replace(both, "    - name: sample-database\n      channels:\n      - name: stable\n        minVersion: 1.1.0\n", "", 1), "HOST", s.host, 1))
	s.asked("")
	d, err := mirror.PlanDelete(t.Context(), o, pruner{Store: s.store}, mirror.DeleteList{})
	if err != nil {
		t.Fatal(err)
	}
	if asked := s.asked(""); len(asked) > 0 {
		t.Errorf("the source is asked for %v", asked)
	}
	if len(d.Warnings) != 2 || !strings.Contains(d.Warnings[0], "until it is mirrored without them") || !strings.Contains(d.Warnings[1], "is not known here (it is not an appliance)") {
		t.Errorf("warnings %q", d.Warnings)
	}
	if _, err := mirror.Delete(t.Context(), o, pruner{Store: s.store}, d.File, false); err != nil {
		t.Fatal(err)
	}
	if tags := s.tags(t, "operators/sample-logging-bundle"); len(tags) > 0 {
		t.Errorf("bundles %v", tags)
	}
	if tags := s.tags(t, "operators/sample-database-bundle"); len(tags) != 2 {
		t.Errorf("bundles of the other operator %v", tags)
	}
	o = s.deletion(t, "  operators:\n  - catalog: HOST/redhat/another:v1\n    full: true\n")
	if d, err = mirror.PlanDelete(t.Context(), o, pruner{Store: s.store}, mirror.DeleteList{}); err == nil {
		t.Errorf("a catalog that was never mirrored: %+v", d)
	}
}

// The head of a channel is lost, and the one below was not asked for: neither is in the catalog.
func TestMirror_operatorsWithoutAHead(t *testing.T) {
	s := newSetup(t, "  operators:\n  - catalog: HOST/redhat/redhat-operator-index:v4.18\n    packages:\n    - name: sample-database\n    - name: sample-logging\n")
	head := s.digest(t, "operators/sample-logging-operator", "v5.9.0")
	s.fails(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, head.String()) {
			return false
		}
		w.WriteHeader(http.StatusForbidden)
		return true
	})
	if _, err := s.mirror(t); err == nil {
		t.Fatal("an image is missing, and there is no error")
	}
	if got := s.catalog(t, "v4.18"); strings.Contains(got, "5.9") || !strings.Contains(got, "sample-logging stable-5.8: v5.8.1\n") {
		t.Errorf("the catalog has\n%s", got)
	}
}

func TestMirror_operatorsOfADirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "index")
	s := newSetup(t, "  operators:\n  - catalog: dir://"+dir+"\n    full: true\n")
	c, err := catalog.Find(t.Context(), s.upstream(t), sample.CatalogTag)
	if err != nil {
		t.Fatal(err)
	}
	from, err := c.Extract(t.Context(), t.TempDir())
	if err == nil {
		err = os.CopyFS(dir, os.DirFS(from))
	}
	if err != nil {
		t.Fatal(err)
	}
	report, err := s.mirror(t)
	if err != nil || len(s.tags(t, "operators/sample-database-bundle")) != 4 {
		t.Fatalf("%v, bundles %v", err, s.tags(t, "operators/sample-database-bundle"))
	}
	if of := strings.Join(report.Resources, " "); strings.Contains(of, "/cs-") || !strings.Contains(of, "/cc-index-latest.yaml") {
		t.Errorf("the resources are %s", of)
	}
	if !slices.ContainsFunc(report.Warnings, func(w string) bool { return strings.Contains(w, "OLM v0 cannot start it") }) {
		t.Errorf("warnings %q", report.Warnings)
	}
	first, err := s.store.Manifests.ByTag(t.Context(), "index", "latest")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "sample-logging")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.mirror(t); err != nil {
		t.Fatal(err)
	}
	if m, err := s.store.Manifests.ByTag(t.Context(), "index", "latest"); err != nil || m.Digest == first.Digest {
		t.Errorf("another directory makes the same catalog: %v", err)
	}
	o := s.deletion(t, "  operators:\n  - {catalog: 'dir://"+dir+"', packages: [{name: sample-database, channels: [{name: fast}], defaultChannel: fast}]}\n")
	d, err := mirror.PlanDelete(t.Context(), o, pruner{Store: s.store}, mirror.DeleteList{})
	if err != nil || len(d.Items) == 0 || d.Absent != 0 {
		t.Fatalf("to delete: %+v, %v", d, err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if d, err := mirror.PlanDelete(t.Context(), o, pruner{Store: s.store}, mirror.DeleteList{}); err == nil || !strings.Contains(err.Error(), "is not there") {
		t.Errorf("of a directory that is gone: %+v, %v", d, err)
	}
}

// upstream is the repository of the catalog at its source.
func (s *setup) upstream(t *testing.T) mirror.Source {
	t.Helper()
	source, err := s.options(t, database).Open(imageset.Reference{Transport: "docker", Domain: s.host, Path: sample.CatalogRepository})
	if err != nil {
		t.Fatal(err)
	}
	return source
}
