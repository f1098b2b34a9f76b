package mirror_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/registry/admin"
)

var update = flag.Bool("update", false, "write the golden files")

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

	if want := []mirror.Result{{"release", 18, 18}, {"additional", 2, 2}}; !slices.Equal(report.Results(), want) {
		t.Errorf("the results are %v, want %v", report.Results(), want)
	}
	if len(report.Failures) != 0 || len(report.Mirrored) != report.Planned {
		t.Errorf("the report has %d failures and %d of %d images", len(report.Failures), len(report.Mirrored), report.Planned)
	}
	if !slices.ContainsFunc(report.Warnings, func(w string) bool { return strings.Contains(w, "release signatures") }) {
		t.Errorf("no word about release signatures among %q", report.Warnings)
	}
	var written mirror.Report
	if err := json.Unmarshal([]byte(s.read(t, "logs", "report_20261120_225833.json")), &written); err != nil {
		t.Fatal(err)
	}
	if len(written.Mirrored) != len(report.Mirrored) {
		t.Errorf("the report file has %d images, want %d", len(written.Mirrored), len(report.Mirrored))
	}
}

func TestExecute_clusterResources(t *testing.T) {
	src := newSource(t)
	byDigest := "  - name: HOST/samples/oci@" + src.digest(t, "samples/oci", "v1").String() + "\n    targetRepo: other/name\n"
	s := newSetupFrom(t, src, twoReleases+additional+byDigest, func(o *mirror.Options) { o.Prefix = "team/a" })
	report, err := s.mirror(t)
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Resources) != 2 {
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

func itoa(n int) string { b, _ := json.Marshal(n); return string(b) }

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

// shaky fails the first attempts to put a blob.
type shaky struct {
	mirror.Destination
	failures chan error
}

func (d *shaky) PutBlob(ctx context.Context, repo string, desc ocispec.Descriptor, r io.Reader) error {
	select {
	case err := <-d.failures:
		io.CopyN(io.Discard, r, 10)
		return err
	default:
	}
	return d.Destination.PutBlob(ctx, repo, desc, r)
}

func TestExecute_putIsRepeated(t *testing.T) {
	s := newSetup(t, "  additionalImages:\n  - name: HOST/samples/oci:v1\n")
	dst := &shaky{Destination: s.run(t), failures: make(chan error, 2)}
	dst.failures <- errors.New("the destination's connection broke")
	dst.failures <- &admin.Error{Status: http.StatusBadRequest, Message: "the body broke off"}
	if _, err := s.engine.Execute(t.Context(), s.plan(t), dst); err != nil {
		t.Fatal(err)
	}
	s.holds(t, "samples/oci", "v1", s.digest(t, "samples/oci", "v1"))
}

func TestExecute_aDestinationThatRefusesCostsTheUpstreamNothing(t *testing.T) {
	s := newSetup(t, "  additionalImages:\n  - name: HOST/samples/oci:v1\n")
	plan := s.plan(t)
	s.asked("")
	dst := &refusing{Destination: s.run(t)}
	report, err := s.engine.Execute(t.Context(), plan, dst)
	if exitCode(err) != 8 || !strings.Contains(report.Failures[0].Error, "the disk is full") {
		t.Errorf("error %v, failures %v", err, report.Failures)
	}
	if asked := s.asked("/blobs/"); len(asked) != 0 {
		t.Errorf("the upstream was asked for %v", asked)
	}
	if n := dst.puts.Load(); int(n) > plan.Blobs {
		t.Errorf("%d blobs were put %d times, though it had said no", plan.Blobs, n)
	}
}

// dropping loses the connection the first time that it is asked for something: before it is done, or after, and then the
// answer is lost.
type dropping struct {
	mirror.Destination
	at    string
	after bool

	mu      sync.Mutex // guards dropped
	dropped bool
}

func (d *dropping) drops(at string, do func() error) error {
	d.mu.Lock()
	now := at == d.at && !d.dropped
	d.dropped = d.dropped || now
	d.mu.Unlock()
	if now && !d.after {
		return errors.New("connection reset by peer")
	}
	if err := do(); err != nil || !now {
		return err
	}
	return errors.New("connection reset by peer")
}

func (d *dropping) Held(ctx context.Context, blobs, manifests map[string][]digest.Digest) (b, m, u map[string][]digest.Digest, err error) {
	at := "Held manifests"
	if manifests == nil {
		at = "Held blobs"
	}
	err = d.drops(at, func() (err error) {
		b, m, u, err = d.Destination.Held(ctx, blobs, manifests)
		return err
	})
	return b, m, u, err
}

func (d *dropping) PutManifest(ctx context.Context, repo string, desc ocispec.Descriptor, body []byte) error {
	return d.drops("PutManifest", func() error { return d.Destination.PutManifest(ctx, repo, desc, body) })
}

func (d *dropping) Tag(ctx context.Context, tags map[string]map[string]digest.Digest) error {
	return d.drops("Tag", func() error { return d.Destination.Tag(ctx, tags) })
}

func (d *dropping) Commit(ctx context.Context) error {
	return d.drops("Commit", func() error { return d.Destination.Commit(ctx) })
}

func TestExecute_oneDroppedConnectionFailsNothing(t *testing.T) {
	for when, after := range map[string]bool{"before": false, "after": true} {
		for _, at := range []string{"Held blobs", "Held manifests", "PutManifest", "Tag", "Commit"} {
			t.Run(when+" "+at, func(t *testing.T) {
				s := newSetup(t, "  additionalImages:\n  - name: HOST/samples/oci:v1\n")
				dst := &dropping{Destination: s.run(t), at: at, after: after}
				if _, err := s.engine.Execute(t.Context(), s.plan(t), dst); err != nil || !dst.dropped {
					t.Fatalf("error %v, the connection dropped: %v", err, dst.dropped)
				}
				s.holds(t, "samples/oci", "v1", s.digest(t, "samples/oci", "v1"))
			})
		}
	}
	t.Run("in Compare", func(t *testing.T) {
		s := newSetup(t, additional)
		dst := &dropping{Destination: s.run(t), at: "Held blobs"}
		if err := s.engine.Compare(t.Context(), s.plan(t), dst); err != nil || !dst.dropped {
			t.Errorf("error %v, the connection dropped: %v", err, dst.dropped)
		}
	})
}

type refusing struct {
	mirror.Destination
	puts atomic.Int32
}

func (d *refusing) PutBlob(context.Context, string, ocispec.Descriptor, io.Reader) error {
	d.puts.Add(1)
	return &admin.Error{Status: http.StatusInsufficientStorage, Message: "the disk is full"}
}

func TestExecute_theSourceIsBlamedForWhatItDid(t *testing.T) {
	s := newSetup(t, "  additionalImages:\n  - name: HOST/samples/oci:v1\n")
	s.dies(s.layer(t, "samples/oci", "v1"))
	report, err := s.engine.Execute(t.Context(), s.plan(t), &vague{s.run(t)})
	if exitCode(err) != 8 || !strings.Contains(report.Failures[0].Error, "registry "+s.host) {
		t.Errorf("error %v, failures %v", err, report.Failures)
	}
}

// vague does not say why it could not put a blob.
type vague struct{ mirror.Destination }

func (d *vague) PutBlob(ctx context.Context, repo string, desc ocispec.Descriptor, r io.Reader) error {
	if d.Destination.PutBlob(ctx, repo, desc, r) != nil {
		return errors.New("400 Bad Request")
	}
	return nil
}

// forgetful loses a manifest after it was put.
type forgetful struct {
	mirror.Destination
	lost digest.Digest
}

func (d *forgetful) Held(ctx context.Context, blobs, manifests map[string][]digest.Digest) (b, m, u map[string][]digest.Digest, err error) {
	b, m, u, err = d.Destination.Held(ctx, blobs, manifests)
	for repo := range m {
		m[repo] = slices.DeleteFunc(m[repo], func(held digest.Digest) bool { return held == d.lost })
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

// asking counts what a destination is asked, and cannot answer where one of the digests is sick.
type asking struct {
	mirror.Destination
	sick digest.Digest

	mu    sync.Mutex // guards the rest
	asked int
	twice int // digests that were listed twice in one question
	put   int // blobs
}

func (d *asking) Held(ctx context.Context, blobs, manifests map[string][]digest.Digest) (b, m, u map[string][]digest.Digest, err error) {
	d.mu.Lock()
	d.asked++
	for _, lists := range []map[string][]digest.Digest{blobs, manifests} {
		for _, ds := range lists {
			d.twice += len(ds) - len(slices.Compact(slices.Sorted(slices.Values(ds))))
		}
	}
	d.mu.Unlock()
	for _, ds := range manifests {
		if slices.Contains(ds, d.sick) {
			return nil, nil, nil, errors.New("it is sick")
		}
	}
	return d.Destination.Held(ctx, blobs, manifests)
}

func (d *asking) PutBlob(ctx context.Context, repo string, desc ocispec.Descriptor, r io.Reader) error {
	d.mu.Lock()
	d.put++
	d.mu.Unlock()
	return d.Destination.PutBlob(ctx, repo, desc, r)
}

func TestExecute_asksForManyAtOnce(t *testing.T) {
	s := newSetup(t, twoReleases+additional)
	plan := s.plan(t)
	if len(plan.Images) < 20 {
		t.Fatalf("only %d images", len(plan.Images))
	}
	if _, err := s.engine.Execute(t.Context(), plan, s.run(t)); err != nil {
		t.Fatal(err)
	}
	again := &asking{Destination: s.run(t)}
	if err := s.engine.Compare(t.Context(), plan, again); err != nil || again.asked != 1 {
		t.Errorf("to compare it asked %d times, %v", again.asked, err)
	}
	if _, err := s.engine.Execute(t.Context(), plan, again); err != nil {
		t.Fatal(err)
	}
	if again.asked != 3 || again.twice != 0 || again.put != 0 { // to compare, to copy, to verify
		t.Errorf("a rerun asked %d times, for %d digests twice, and put %d blobs", again.asked, again.twice, again.put)
	}
	if held, _ := s.events.count(mirror.Held); held != len(plan.Images) {
		t.Errorf("%d of %d images were held", held, len(plan.Images))
	}
}

func TestExecute_whatCannotBeAskedOfOneIsAskedOfTheOthers(t *testing.T) {
	s := newSetup(t, twoReleases+additional)
	lost := s.digest(t, "samples/docker", "v1")
	report, err := s.engine.Execute(t.Context(), s.plan(t), &asking{Destination: s.run(t), sick: lost})
	if exitCode(err) != 8 || len(report.Failures) != 1 || !strings.Contains(report.Failures[0].Error, "it is sick") {
		t.Fatalf("error %v, failures %v", err, report.Failures)
	}
	s.lacks(t, "samples/docker", "v1")
	s.holds(t, "samples/oci-multi", "v1", s.digest(t, "samples/oci-multi", "v1"))
	if failed, _ := s.events.count(mirror.Failed); failed != 1 {
		t.Errorf("%d events tell of a failure", failed)
	}
}

// closed is a destination with a repository that its user may not enter.
type closed struct {
	mirror.Destination
	repo string // "": any
}

func (d *closed) Held(ctx context.Context, blobs, manifests map[string][]digest.Digest) (b, m, u map[string][]digest.Digest, err error) {
	if d.repo == "" || blobs[d.repo] != nil || manifests[d.repo] != nil {
		return nil, nil, nil, errors.New("403 Forbidden")
	}
	return d.Destination.Held(ctx, blobs, manifests)
}

func TestCompare_oneRepositoryThatIsClosed(t *testing.T) {
	s := newSetup(t, additional)
	if _, err := s.mirror(t); err != nil {
		t.Fatal(err)
	}
	plan := s.plan(t)
	if err := s.engine.Compare(t.Context(), plan, &closed{s.run(t), "samples/docker"}); err != nil || plan.Missing == 0 || plan.Missing == plan.Bytes {
		t.Errorf("%d of %d bytes are missing, %v", plan.Missing, plan.Bytes, err)
	}
	report, err := s.engine.Execute(t.Context(), plan, &closed{s.run(t), "samples/docker"})
	if exitCode(err) != 8 || len(report.Failures) != 1 || len(report.Mirrored) != 1 {
		t.Errorf("error %v, failures %v", err, report.Failures)
	}
	if err := s.engine.Compare(t.Context(), plan, &closed{s.run(t), ""}); err == nil || !strings.Contains(err.Error(), "403") {
		t.Errorf("a destination that is closed altogether: %v", err)
	}
}

// Both images have been told that their common layers are not there when the first of them begins to fetch.
func TestExecute_whatAnotherImagePutMeanwhileIsFound(t *testing.T) {
	s := newSetup(t, "  additionalImages:\n"+
		"  - {name: 'HOST/samples/oci:v1', targetRepo: one}\n"+
		"  - {name: 'HOST/samples/oci:v1', targetRepo: two}\n")
	plan := s.plan(t)
	s.asked("")
	if _, err := s.engine.Execute(t.Context(), plan, &together{Destination: s.run(t), told: make(chan struct{}), wait: 2}); err != nil {
		t.Fatal(err)
	}
	asked := s.asked("/blobs/")
	if fetched := only("GET", asked); len(fetched) != plan.Blobs {
		t.Errorf("%d blobs were fetched, want %d: %v", len(fetched), plan.Blobs, fetched)
	}
	for _, repo := range []string{"one", "two"} {
		s.holds(t, repo, "v1", s.digest(t, "samples/oci", "v1"))
	}
}

// One image fetches a layer that takes for ever; another, which waits for it, has failed meanwhile and does not wait on.
func TestExecute_whoHasFailedDoesNotWaitForOthers(t *testing.T) {
	s := newSetup(t, "  additionalImages:\n  - name: HOST/samples/oci:v1\n  - name: HOST/samples/docker:v1\n")
	plan := s.plan(t)
	common := slices.DeleteFunc(slices.Clone(plan.Images[0].Manifests[0].Blobs), func(b ocispec.Descriptor) bool {
		return !slices.ContainsFunc(plan.Images[1].Manifests[0].Blobs, func(o ocispec.Descriptor) bool { return o.Digest == b.Digest })
	})
	if len(common) != 1 {
		t.Fatalf("the samples have %d blobs in common", len(common))
	}
	own := s.layer(t, "samples/docker", "v1")
	begun, failed := make(chan struct{}), make(chan struct{})
	s.fails(func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case strings.HasSuffix(r.URL.Path, "/samples/oci/blobs/"+common[0].Digest.String()):
			close(begun)
			<-failed
		case strings.HasSuffix(r.URL.Path, own.String()):
			w.WriteHeader(http.StatusNotFound)
			return true
		}
		return false
	})
	engine := s.newEngine(t, "  additionalImages: []\n", func(o *mirror.Options) {
		o.Events = func(e mirror.Event) {
			if e.Kind == mirror.Failed {
				close(failed)
			}
		}
	})
	report, err := engine.Execute(t.Context(), plan, &later{Destination: s.run(t), repo: "samples/docker", begun: begun})
	if exitCode(err) != 8 || len(report.Failures) != 1 {
		t.Errorf("error %v, failures %v", err, report.Failures)
	}
	s.holds(t, "samples/oci", "v1", s.digest(t, "samples/oci", "v1"))
}

// later answers for the blobs of a repository when another image's have begun to be fetched.
type later struct {
	mirror.Destination
	repo  string
	begun chan struct{}
}

func (d *later) Held(ctx context.Context, blobs, manifests map[string][]digest.Digest) (b, m, u map[string][]digest.Digest, err error) {
	if manifests == nil && blobs[d.repo] != nil {
		select {
		case <-d.begun:
		case <-ctx.Done():
		}
	}
	return d.Destination.Held(ctx, blobs, manifests)
}

// together answers the first questions for blobs when so many have been asked.
type together struct {
	mirror.Destination
	told chan struct{}

	mu   sync.Mutex // guards wait
	wait int
}

func (d *together) Held(ctx context.Context, blobs, manifests map[string][]digest.Digest) (b, m, u map[string][]digest.Digest, err error) {
	b, m, u, err = d.Destination.Held(ctx, blobs, manifests)
	if manifests != nil {
		return b, m, u, err
	}
	d.mu.Lock()
	d.wait--
	if d.wait == 0 {
		close(d.told)
	}
	d.mu.Unlock()
	select {
	case <-d.told:
	case <-ctx.Done():
	}
	return b, m, u, err
}

func TestExecute_cancelledWhileItVerifies(t *testing.T) {
	s := newSetup(t, additional)
	ctx, cancel := context.WithCancel(t.Context())
	report, err := s.engine.Execute(ctx, s.plan(t), &closing{Destination: s.run(t), cancel: cancel})
	var incomplete *mirror.IncompleteError
	if !errors.Is(err, context.Canceled) || errors.As(err, &incomplete) {
		t.Errorf("error %v, failures %v", err, report.Failures)
	}
	if names := s.repositories(t); len(names) != 0 {
		t.Errorf("a cancelled run shows %v", names)
	}
}

// closing is called off when all has been put and is verified. It tags and commits whatever its context says.
type closing struct {
	mirror.Destination
	cancel context.CancelFunc
	asked  atomic.Int32
}

func (d *closing) Held(ctx context.Context, blobs, manifests map[string][]digest.Digest) (b, m, u map[string][]digest.Digest, err error) {
	if manifests != nil && d.asked.Add(1) == 2 {
		d.cancel()
	}
	return d.Destination.Held(ctx, blobs, manifests)
}

func (d *closing) Tag(ctx context.Context, tags map[string]map[string]digest.Digest) error {
	return d.Destination.Tag(context.WithoutCancel(ctx), tags)
}

func (d *closing) Commit(ctx context.Context) error {
	return d.Destination.Commit(context.WithoutCancel(ctx))
}

func TestExecute_aManifestThatIsWrongAboutASize(t *testing.T) {
	for name, length := range map[string]bool{"and a length that is told": true, "and none": false} {
		for change, by := range map[string]int{"too many bytes": -1, "too few": 1} {
			t.Run(change+" "+name, func(t *testing.T) {
				s := newSetup(t, "  additionalImages:\n  - name: HOST/samples/oci:v1\n")
				m, _ := s.Manifest("samples/oci", "v1")
				d := s.layer(t, "samples/oci", "v1")
				data, _ := s.Blob("samples/oci", d)
				wrong := strings.Replace(string(m.Body), `"`+d.String()+`","size":`+itoa(len(data)), `"`+d.String()+`","size":`+itoa(len(data)+by), 1)
				if wrong == string(m.Body) {
					t.Fatal("the manifest is written otherwise")
				}
				s.fails(func(w http.ResponseWriter, r *http.Request) bool {
					switch {
					case strings.HasSuffix(r.URL.Path, "/manifests/v1"):
						w.Header().Set("Content-Type", m.MediaType)
						io.WriteString(w, wrong)
						return true
					case strings.HasSuffix(r.URL.Path, d.String()) && !length:
						w.(http.Flusher).Flush()
						w.Write(data)
						return true
					}
					return false
				})
				s.asked("")
				report, err := s.mirror(t)
				if exitCode(err) != 8 || len(report.Failures) != 1 {
					t.Fatalf("error %v, failures %v", err, report.Failures)
				}
				if got := report.Failures[0].Error; !strings.Contains(got, "registry "+s.host) || !strings.Contains(got, "its manifest gives it "+itoa(len(data)+by)+" bytes") {
					t.Errorf("it is said that %s", got)
				}
				if asked := s.asked("GET /v2/samples/oci/blobs/" + d.String()); len(asked) != 1 {
					t.Errorf("it was fetched %d times", len(asked))
				}
			})
		}
	}
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

// limited takes one writer at a time, as an archive does.
type limited struct {
	mirror.Destination
	busy atomic.Bool
	over atomic.Bool
}

func (d *limited) Writers() int { return 1 }

func (d *limited) PutBlob(ctx context.Context, repo string, desc ocispec.Descriptor, r io.Reader) error {
	if !d.busy.CompareAndSwap(false, true) {
		d.over.Store(true)
	}
	defer d.busy.Store(false)
	return d.Destination.PutBlob(ctx, repo, desc, r)
}

func TestExecute_noMoreWritersThanTheDestinationTakes(t *testing.T) {
	s := newSetup(t, twoReleases+additional)
	dst := &limited{Destination: s.run(t)}
	if _, err := s.engine.Execute(t.Context(), s.plan(t), dst); err != nil {
		t.Fatal(err)
	}
	if dst.over.Load() {
		t.Error("two blobs were put at once")
	}
}
