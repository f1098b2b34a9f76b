package mirror_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/client"
)

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
	dst.failures <- &client.Refused{Status: http.StatusBadRequest, Refusal: api.Refusal{Problem: "the body broke off"}}
	if _, err := s.engine.Execute(t.Context(), s.plan(t), dst); err != nil {
		t.Fatal(err)
	}
	s.holds(t, "samples/oci", "v1", s.digest(t, "samples/oci", "v1"))
}

// pausing has too many requests.
type pausing struct{ error }

func (pausing) Busy() bool { return true }

func TestExecute_pausesAreNoFailures(t *testing.T) {
	s := newSetup(t, "  additionalImages:\n  - name: HOST/samples/oci:v1\n")
	dst := &shaky{Destination: s.run(t), failures: make(chan error, 20)}
	for range 20 {
		dst.failures <- pausing{errors.New("too many requests")}
	}
	if _, err := s.engine.Execute(t.Context(), s.plan(t), dst); err != nil {
		t.Fatal(err)
	}
	s.holds(t, "samples/oci", "v1", s.digest(t, "samples/oci", "v1"))
}

func TestExecute_aRefusedBlobIsNotFetched(t *testing.T) {
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

// dropping loses the connection the first time that it is asked for something: before it is done,
// or after, and then the answer is lost.
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

func (d *dropping) Existing(ctx context.Context, blobs, manifests map[string][]digest.Digest) (b, m, u map[string][]digest.Digest, err error) {
	at := "Existing manifests"
	if manifests == nil {
		at = "Existing blobs"
	}
	err = d.drops(at, func() (err error) {
		b, m, u, err = d.Destination.Existing(ctx, blobs, manifests)
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
		for _, at := range []string{"Existing blobs", "Existing manifests", "PutManifest", "Tag", "Commit"} {
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
		dst := &dropping{Destination: s.run(t), at: "Existing manifests"}
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
	return &client.Refused{Status: http.StatusInsufficientStorage, Refusal: api.Refusal{Problem: "the disk is full"}}
}

func TestExecute_theErrorOfTheSourceIsReported(t *testing.T) {
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
