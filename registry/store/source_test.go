package store

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

func (f *fixture) sources(d digest.Digest) []string {
	f.t.Helper()
	var got []string
	found, err := f.Integrity().BlobSources(f.ctx, d)
	f.must(err)
	for _, s := range found {
		got = append(got, s.Registry+"/"+s.Repository)
	}
	return got
}

func TestStore_BlobSources(t *testing.T) {
	f := newFixture(t)
	layer := f.blob("mirror/app", "layer")
	f.pushImage("other", "other")
	f.must(f.Blobs.RecordSource(f.ctx, "other", "elsewhere.example", "x"))
	if got := f.sources(layer.Digest); got != nil {
		t.Errorf("without a source: %v", got)
	}
	r, err := f.Runs.Begin(f.ctx, "sync")
	f.must(err)
	f.must(r.Source(f.ctx, map[string][]string{"mirror/app": {"quay.io/team/app"}}))
	f.must(r.Abort(f.ctx)) // where it looked is true all the same
	f.clock.add(time.Minute)
	f.must(f.Blobs.RecordSource(f.ctx, "mirror/app", "docker.io:5000", "app"))
	if got := f.sources(layer.Digest); !slices.Equal(got, []string{"docker.io:5000/app", "quay.io/team/app"}) {
		t.Errorf("the latest first: %v", got)
	}

	// A layer that only a manifest names, as after a pull-through.
	config := f.blob("mirror/app", "config")
	f.must(f.Blobs.Delete(f.ctx, "mirror/app", layer.Digest))
	_, err = f.Manifests.PutPulled(f.ctx, "mirror/app", manifestOf(config, layer), PutOptions{})
	f.must(err)
	if got := f.sources(layer.Digest); len(got) != 2 {
		t.Errorf("by its manifest: %v", got)
	}

	var invalid *InvalidError
	if err := f.Blobs.RecordSource(f.ctx, "mirror/app", "", "app"); !errors.As(err, &invalid) {
		t.Errorf("without a registry: %v", err)
	}
	if err := r.Source(f.ctx, map[string][]string{"mirror/app": {"app"}}); !errors.As(err, &invalid) {
		t.Errorf("without a path: %v", err)
	}
}

func TestStore_RecordSource_writesOnceADay(t *testing.T) {
	f := newFixture(t)
	seen := func() (n int64) {
		f.must(f.db.Reader().QueryRow(`SELECT seen FROM sources`).Scan(&n))
		return n
	}
	f.must(f.Blobs.RecordSource(f.ctx, "app", "quay.io", "app"))
	first := seen()
	f.clock.add(time.Hour)
	f.must(f.Blobs.RecordSource(f.ctx, "app", "quay.io", "app"))
	if seen() != first {
		t.Error("an hour later it is written again")
	}
	f.clock.add(sourceFresh)
	f.must(f.Blobs.RecordSource(f.ctx, "app", "quay.io", "app"))
	if seen() == first {
		t.Error("a day later it is not written again")
	}
}
