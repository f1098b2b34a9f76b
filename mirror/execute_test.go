package mirror_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/mirror"
)

var update = flag.Bool("update", false, "write the golden files")

// Spec: oc-mirror 3.3, 4.8.
func TestExecute_everythingArrives(t *testing.T) {
	s := newSetup(t, twoReleases+additional)
	report, err := s.mirror(t)
	if err != nil {
		t.Fatal(err)
	}
	for _, version := range []string{"4.18.1", "4.18.2"} {
		release, _ := s.Release(version, "amd64")
		s.holds(t, "openshift/release-images", version+"-x86_64", release.Digest)
		for name := range release.Components {
			_, d := s.component(t, version, name)
			s.holds(t, "openshift/release", version+"-x86_64-"+name, d)
		}
	}
	s.holds(t, "samples/docker", "v1", s.digest(t, "samples/docker", "v1"))
	s.holds(t, "samples/oci-multi", "v1", s.digest(t, "samples/oci-multi", "v1"))

	if want := []mirror.Result{{"release", 20, 20}, {"additional", 2, 2}}; !slices.Equal(report.Results(), want) {
		t.Errorf("the results are %v, want %v", report.Results(), want)
	}
	if len(report.Failures) != 0 || len(report.Mirrored) != report.Planned {
		t.Errorf("the report has %d failures and %d of %d images", len(report.Failures), len(report.Mirrored), report.Planned)
	}
	if len(report.Warnings) > 0 {
		t.Errorf("warnings %q", report.Warnings)
	}
	var written mirror.Report
	if err := json.Unmarshal([]byte(s.read(t, "logs", "report_20261120_225833.json")), &written); err != nil {
		t.Fatal(err)
	}
	if len(written.Mirrored) != len(report.Mirrored) {
		t.Errorf("the report file has %d images, want %d", len(written.Mirrored), len(report.Mirrored))
	}
}

// Spec: oc-mirror 7.1, 7.2.
func TestExecute_clusterResources(t *testing.T) {
	src := newSource(t)
	byDigest := "  - name: HOST/samples/oci@" + src.digest(t, "samples/oci", "v1").String() + "\n    targetRepo: other/name\n"
	s := newSetupFrom(t, src, twoReleases+additional+byDigest, func(o *mirror.Options) { o.Prefix = "team/a" })
	report, err := s.mirror(t)
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Resources) != 4 {
		t.Errorf("resources %v", report.Resources)
	}
	for _, name := range []string{"idms-oc-mirror.yaml", "itms-oc-mirror.yaml"} {
		got := strings.ReplaceAll(s.read(t, "cluster-resources", name), s.host, "UPSTREAM")
		golden(t, filepath.Join("testdata", name), got)
	}
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (go test -update writes it):\n%s", path, got)
	}
}

func TestExecute_rerunTransfersNothing(t *testing.T) {
	s := newSetup(t, twoReleases+additional)
	if _, err := s.mirror(t); err != nil {
		t.Fatal(err)
	}
	if first := s.asked("/blobs/"); len(first) == 0 {
		t.Fatal("the first run fetched no blob")
	}
	s.engine = s.newEngine(t, twoReleases+additional) // a new process knows nothing
	report, err := s.mirror(t)
	if err != nil {
		t.Fatal(err)
	}
	if again := s.asked("/blobs/"); len(again) != 0 {
		t.Errorf("the second run fetched %d blobs: %v", len(again), again)
	}
	if len(report.Mirrored) != report.Planned {
		t.Errorf("the second run reports %d of %d images", len(report.Mirrored), report.Planned)
	}
}

func TestExecute_sharedBlobsAreFetchedOnce(t *testing.T) {
	s := newSetup(t, twoReleases+additional)
	if _, err := s.mirror(t); err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for _, r := range s.asked("GET /v2/") {
		if _, d, ok := strings.Cut(r, "/blobs/"); ok {
			seen[d]++
		}
	}
	payloadLayers := 0 // read once for the plan and once to be copied
	for d, n := range seen {
		switch {
		case n == 2:
			payloadLayers++
		case n > 2:
			t.Errorf("blob %s was fetched %d times", d, n)
		}
	}
	if payloadLayers > 2 {
		t.Errorf("%d blobs were fetched twice, want one of each payload at most", payloadLayers)
	}
}

func TestExecute_brokenConnectionIsResumed(t *testing.T) {
	s := newSetup(t, additional)
	d := s.layer(t, "samples/docker", "v1")
	data, _ := s.Blob("samples/docker", d)
	broken := 0
	s.fails(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, d.String()) || r.Header.Get("Range") != "" {
			return false
		}
		broken++
		w.Header().Set("Content-Length", itoa(len(data)))
		w.Write(data[:len(data)/2])
		panic(http.ErrAbortHandler)
	})
	if _, err := s.mirror(t); err != nil {
		t.Fatal(err)
	}
	if broken != 1 {
		t.Errorf("the blob was begun %d times, want once", broken)
	}
	s.holds(t, "samples/docker", "v1", s.digest(t, "samples/docker", "v1"))
}

func TestExecute_damagedBlob(t *testing.T) {
	for name, times := range map[string]int{"on its way, once": 1, "at its source": 1000} {
		t.Run(name, func(t *testing.T) {
			s := newSetup(t, additional)
			d := s.layer(t, "samples/docker", "v1")
			data, _ := s.Blob("samples/docker", d)
			data = bytes.Clone(data)
			data[0] ^= 1
			var sent atomic.Int64
			s.fails(func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.HasSuffix(r.URL.Path, d.String()) || sent.Add(1) > int64(times) {
					return false
				}
				w.Write(data)
				return true
			})
			report, err := s.mirror(t)
			if times == 1 {
				if err != nil {
					t.Fatal(err)
				}
				s.holds(t, "samples/docker", "v1", s.digest(t, "samples/docker", "v1"))
				return
			}
			s.lacks(t, "samples/docker", "v1")
			if len(report.Failures) != 1 || !strings.Contains(report.Failures[0].Error, "repository samples/docker: get blob "+d.String()) {
				t.Errorf("failures %+v", report.Failures)
			}
			if n := sent.Load(); n != 2 { // to copy it, and to find out where it was damaged
				t.Errorf("it was asked for %d times", n)
			}
		})
	}
}

func itoa(n int) string { b, _ := json.Marshal(n); return string(b) }

// Spec: oc-mirror 3.2, 3.4.
func TestExecute_failures(t *testing.T) {
	t.Run("an additional image, and the others arrive", func(t *testing.T) {
		s := newSetup(t, twoReleases+additional)
		s.dies(s.layer(t, "samples/docker", "v1"))
		report, err := s.mirror(t)
		if code := exitCode(err); code != 8 {
			t.Errorf("exit code %d, want 8 (%v)", code, err)
		}
		s.lacks(t, "samples/docker", "v1")
		s.holds(t, "samples/oci-multi", "v1", s.digest(t, "samples/oci-multi", "v1"))
		release, _ := s.Release("4.18.2", "amd64")
		s.holds(t, "openshift/release-images", "4.18.2-x86_64", release.Digest)
		if len(report.Failures) != 1 || report.Failures[0].Image.Origin != s.host+"/samples/docker:v1" {
			t.Fatalf("failures %+v", report.Failures)
		}
		list := s.read(t, "logs", "mirroring_errors_20261120_225833.txt")
		if !strings.HasPrefix(list, "error mirroring image "+s.host+"/samples/docker:v1 error: ") {
			t.Errorf("the list of errors says %q", list)
		}
	})
	t.Run("a tag stays where it was", func(t *testing.T) {
		s := newSetup(t, "  additionalImages:\n  - name: HOST/samples/oci:v1\n    targetRepo: app\n    targetTag: live\n")
		if _, err := s.mirror(t); err != nil {
			t.Fatal(err)
		}
		s.dies(s.layer(t, "samples/docker", "v1"))
		s.engine = s.newEngine(t, "  additionalImages:\n  - name: HOST/samples/docker:v1\n    targetRepo: app\n    targetTag: live\n")
		if _, err := s.mirror(t); exitCode(err) != 8 {
			t.Fatalf("error %v", err)
		}
		s.holds(t, "app", "live", s.digest(t, "samples/oci", "v1"))
	})
	t.Run("a component, and its release moves no tag", func(t *testing.T) {
		s := newSetup(t, twoReleases+additional)
		repo, d := s.component(t, "4.18.2", "hyperkube")
		s.dies(s.layer(t, repo, d.String()))
		report, err := s.mirror(t)
		if code := exitCode(err); code != 2 {
			t.Errorf("exit code %d, want 2 (%v)", code, err)
		}
		for _, tag := range append(s.tags(t, "openshift/release"), s.tags(t, "openshift/release-images")...) {
			if strings.HasPrefix(tag, "4.18.2-") {
				t.Errorf("tag %s of the incomplete release is there", tag)
			}
		}
		release, _ := s.Release("4.18.1", "amd64")
		s.holds(t, "openshift/release-images", "4.18.1-x86_64", release.Digest)
		s.holds(t, "samples/docker", "v1", s.digest(t, "samples/docker", "v1"))
		causes := 0
		for _, f := range report.Failures {
			if f.Incomplete != "release 4.18.2-x86_64" {
				t.Errorf("%s makes incomplete %q", f.Image.Origin, f.Incomplete)
			}
			if !f.Consequence {
				causes++
			}
		}
		if causes != 1 {
			t.Errorf("%d causes, want the one component: %v", causes, report.Failures)
		}

		if list := s.read(t, "logs", "mirroring_errors_20261120_225833.txt"); strings.Count(list, "\n") != 1 {
			t.Errorf("the list of errors has more than the cause:\n%s", list)
		}

		s.fails(nil)
		s.asked("")
		s.engine = s.newEngine(t, twoReleases+additional)
		if _, err := s.mirror(t); err != nil {
			t.Fatal(err)
		}
		if fetched := s.asked("GET /v2/" + repo + "/blobs/"); len(fetched) > 2 { // the layer and, perhaps, the config
			t.Errorf("the rerun fetched more than was missing: %v", fetched)
		}
		s.holds(t, "openshift/release", "4.18.2-x86_64-hyperkube", d)
	})
	t.Run("a lying upstream", func(t *testing.T) {
		s := newSetup(t, additional)
		d := s.layer(t, "samples/docker", "v1")
		data, _ := s.Blob("samples/docker", d)
		lie := slices.Clone(data)
		lie[0] ^= 1
		s.fails(func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.HasSuffix(r.URL.Path, d.String()) {
				return false
			}
			w.Header().Set("Content-Length", itoa(len(lie)))
			w.Write(lie)
			return true
		})
		report, err := s.mirror(t)
		if exitCode(err) != 8 || len(report.Failures) != 1 {
			t.Fatalf("error %v, failures %v", err, report.Failures)
		}
		if !strings.Contains(report.Failures[0].Error, "registry "+s.host) {
			t.Errorf("it does not say that the upstream is at fault: %s", report.Failures[0].Error)
		}
		s.lacks(t, "samples/docker", "v1")
		if n, _ := s.events.count(mirror.Failed); n != 1 {
			t.Errorf("%d events tell of a failure, want 1", n)
		}
	})
}

// dies makes the upstream break off whenever a blob is read.
func (s *source) dies(d digest.Digest) {
	s.fails(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/blobs/"+d.String()) {
			panic(http.ErrAbortHandler)
		}
		return false
	})
}

func TestExecute_cancelled(t *testing.T) {
	s := newSetup(t, twoReleases+additional)
	plan := s.plan(t)
	ctx, cancel := context.WithCancel(t.Context())
	s.fails(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/blobs/") {
			return false
		}
		w.Header().Set("Content-Length", "1000000")
		w.Write(make([]byte, 100))
		w.(http.Flusher).Flush()
		cancel()
		<-r.Context().Done() // never another byte
		return true
	})
	_, err := s.engine.Execute(ctx, plan, s.run(t))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that it was cancelled", err)
	}
	if names := s.repositories(t); len(names) != 0 {
		t.Errorf("a cancelled run shows %v", names)
	}
}

// forgetful loses a manifest after it was put.
type forgetful struct {
	mirror.Destination
	lost digest.Digest
}

func (d *forgetful) Existing(ctx context.Context, blobs, manifests map[string][]digest.Digest) (b, m, u map[string][]digest.Digest, err error) {
	b, m, u, err = d.Destination.Existing(ctx, blobs, manifests)
	for repo := range m {
		m[repo] = slices.DeleteFunc(m[repo], func(existing digest.Digest) bool { return existing == d.lost })
	}
	return b, m, u, err
}

func TestExecute_verifiesBeforeItTags(t *testing.T) {
	s := newSetup(t, additional)
	lost := s.digest(t, "samples/docker", "v1")
	_, err := s.engine.Execute(t.Context(), s.plan(t), &forgetful{s.run(t), lost})
	if exitCode(err) != 8 {
		t.Errorf("error %v, want exit code 8", err)
	}
	s.lacks(t, "samples/docker", "v1")
	s.holds(t, "samples/oci-multi", "v1", s.digest(t, "samples/oci-multi", "v1"))
}

func TestExecute_cancelledWhileItVerifies(t *testing.T) {
	s := newSetup(t, additional)
	ctx, cancel := context.WithCancel(t.Context())
	report, err := s.engine.Execute(ctx, s.plan(t), &closing{Destination: s.run(t), cancel: cancel})
	if !errors.Is(err, context.Canceled) || exitCode(err) != 1 {
		t.Errorf("error %v, failures %v", err, report.Failures)
	}
	if names := s.repositories(t); len(names) != 0 {
		t.Errorf("a cancelled run shows %v", names)
	}
}

// closing is cancelled when everything has been put and is verified. It tags and commits
// whatever its context says.
type closing struct {
	mirror.Destination
	cancel context.CancelFunc
	asked  atomic.Int32
}

func (d *closing) Existing(ctx context.Context, blobs, manifests map[string][]digest.Digest) (b, m, u map[string][]digest.Digest, err error) {
	if manifests != nil && d.asked.Add(1) == 2 {
		d.cancel()
	}
	return d.Destination.Existing(ctx, blobs, manifests)
}

func (d *closing) Tag(ctx context.Context, tags map[string]map[string]digest.Digest) error {
	return d.Destination.Tag(context.WithoutCancel(ctx), tags)
}

func (d *closing) Commit(ctx context.Context) error {
	return d.Destination.Commit(context.WithoutCancel(ctx))
}

func TestExecute_progress(t *testing.T) {
	s := newSetup(t, additional)
	plan := s.plan(t)
	if err := s.engine.Compare(t.Context(), plan, s.run(t)); err != nil {
		t.Fatal(err)
	}
	if plan.Missing != plan.Bytes || plan.Bytes == 0 {
		t.Errorf("%d of %d bytes are missing from an empty store", plan.Missing, plan.Bytes)
	}
	run := s.run(t)
	if _, err := s.engine.Execute(t.Context(), plan, run); err != nil {
		t.Fatal(err)
	}
	started, _ := s.events.count(mirror.Started)
	done, _ := s.events.count(mirror.Done)
	_, bytes := s.events.count(mirror.Bytes)
	if started != 2 || done != 2 || bytes != plan.Bytes {
		t.Errorf("%d started, %d done, %d bytes; want 2, 2, %d", started, done, bytes, plan.Bytes)
	}
	for _, image := range plan.Images {
		if n := s.events.bytes(image); n == 0 || n == bytes {
			t.Errorf("of %d bytes, %d were read for %s", bytes, n, image.Origin)
		}
	}
	if err := s.engine.Compare(t.Context(), plan, s.run(t)); err != nil || plan.Missing != 0 {
		t.Errorf("%d bytes are missing afterwards, %v", plan.Missing, err)
	}
}
