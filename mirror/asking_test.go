package mirror_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/mirror"
)

// asking counts what a destination is asked, and cannot answer where one of the digests is sick.
type asking struct {
	mirror.Destination
	sick digest.Digest

	mu    sync.Mutex // guards the rest
	asked int
	twice int // digests that were listed twice in one question
	put   int // blobs
}

func (d *asking) Existing(ctx context.Context, blobs, manifests map[string][]digest.Digest) (b, m, u map[string][]digest.Digest, err error) {
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
	return d.Destination.Existing(ctx, blobs, manifests)
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
	if _, err := s.engine.CompareAndExecute(t.Context(), plan, again); err != nil {
		t.Fatal(err)
	}
	if again.asked != 1 || again.twice != 0 || again.put != 0 {
		t.Errorf("a rerun asked %d times, for %d digests twice, and put %d blobs", again.asked, again.twice, again.put)
	}
	if existing, _ := s.events.count(mirror.Existed); existing != len(plan.Images) {
		t.Errorf("%d of %d images existed", existing, len(plan.Images))
	}
}

func TestExecute_anImageThatCannotBeAskedForStopsNoOther(t *testing.T) {
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

func (d *closed) Existing(ctx context.Context, blobs, manifests map[string][]digest.Digest) (b, m, u map[string][]digest.Digest, err error) {
	if d.repo == "" || blobs[d.repo] != nil || manifests[d.repo] != nil {
		return nil, nil, nil, errors.New("403 Forbidden")
	}
	return d.Destination.Existing(ctx, blobs, manifests)
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

// Both images have the answer that their common layers are missing when the first of
// them begins to fetch.
func TestExecute_aBlobThatAnotherImagePutIsFound(t *testing.T) {
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

// One image fetches a layer that takes for ever; another, which waits for it, has failed
// meanwhile and does not wait on.
func TestExecute_aFailedImageDoesNotWaitForOthers(t *testing.T) {
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

func (d *later) Existing(ctx context.Context, blobs, manifests map[string][]digest.Digest) (b, m, u map[string][]digest.Digest, err error) {
	if manifests == nil && blobs[d.repo] != nil {
		select {
		case <-d.begun:
		case <-ctx.Done():
		}
	}
	return d.Destination.Existing(ctx, blobs, manifests)
}

// together answers the first questions for blobs when so many have been asked.
type together struct {
	mirror.Destination
	told chan struct{}

	mu   sync.Mutex // guards wait
	wait int
}

func (d *together) Existing(ctx context.Context, blobs, manifests map[string][]digest.Digest) (b, m, u map[string][]digest.Digest, err error) {
	b, m, u, err = d.Destination.Existing(ctx, blobs, manifests)
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
