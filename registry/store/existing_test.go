package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

func hasBlob(ctx context.Context, r *Run, repo string, d digest.Digest) (bool, error) {
	existing, _, _, err := r.Existing(ctx, map[string][]digest.Digest{repo: {d}}, nil)
	return len(existing[repo]) == 1, err
}

func hasManifest(ctx context.Context, r *Run, repo string, d digest.Digest) (bool, error) {
	_, existing, _, err := r.Existing(ctx, nil, map[string][]digest.Digest{repo: {d}})
	return len(existing[repo]) == 1, err
}

// tagged is one tag, as Tag takes them.
func tagged(repo, tag string, d digest.Digest) map[string]map[string]digest.Digest {
	return map[string]map[string]digest.Digest{repo: {tag: d}}
}

func TestRun_Existing(t *testing.T) {
	f := newFixture(t)
	m := f.pushImage("app", "app")
	config, layer := digest.FromString(`{"config of":"app"}`), digest.FromString("layer of app")
	r, err := f.Runs.Begin(f.ctx, "run")
	f.must(err)
	other := digest.FromString("absent")
	blobs, manifests, unconfirmed, err := r.Existing(f.ctx,
		map[string][]digest.Digest{"app": {layer, other, config}, "third": {config}, "none": {other}},
		map[string][]digest.Digest{"app": {other, m.Digest}, "third": {m.Digest}})
	f.must(err)
	wantBlobs, wantManifests := map[string][]digest.Digest{"app": {layer, config}}, map[string][]digest.Digest{"app": {m.Digest}}
	if !maps.EqualFunc(blobs, wantBlobs, slices.Equal) || !maps.EqualFunc(manifests, wantManifests, slices.Equal) {
		t.Errorf("existing: %v and %v", blobs, manifests)
	}
	if want := map[string][]digest.Digest{"third": {config}}; !maps.EqualFunc(unconfirmed, want, slices.Equal) {
		t.Errorf("unconfirmed: %v", unconfirmed)
	}

	// What exists is part of the run: collection leaves it, and Commit shows it.
	f.must(f.Manifests.Delete(f.ctx, "app", m.Digest))
	f.clock.add(time.Hour)
	if garbage := f.garbage(f.clock.now()); len(garbage) != 0 {
		t.Errorf("garbage: %v", garbage)
	}
	f.must(r.Commit(f.ctx))
	_, err = f.Manifests.Get(f.ctx, "app", m.Digest)
	f.must(err)
	if f.read("app", layer) != "layer of app" {
		t.Error("the layer is another")
	}
	_, err = f.Blobs.Stat(f.ctx, "third", config)
	isNotFound(t, err)
}

func TestRun_Existing_moreThanABatch(t *testing.T) {
	f := newFixture(t)
	existing := []digest.Digest{f.blob("app", "first").Digest, f.blob("app", "last").Digest}
	ask := []digest.Digest{existing[0]}
	for i := range 2 * runBatch {
		ask = append(ask, digest.FromString(fmt.Sprint(i)))
	}
	ask = append(ask, existing[1])
	r, err := f.Runs.Begin(f.ctx, "run")
	f.must(err)
	got, _, unconfirmed, err := r.Existing(f.ctx, map[string][]digest.Digest{"app": ask, "copy": ask}, nil)
	if err != nil || !slices.Equal(got["app"], existing) || !slices.Equal(unconfirmed["copy"], existing) {
		t.Errorf("existing: %v, unconfirmed: %v, %v", got, unconfirmed, err)
	}
}

func TestRun_Existing_refusals(t *testing.T) {
	f := newFixture(t)
	r, err := f.Runs.Begin(f.ctx, "run")
	f.must(err)
	var invalid *InvalidError
	for name, ask := range map[string]struct {
		repo string
		d    digest.Digest
	}{"a bad repository": {"A", dA}, "a bad digest": {"app", "sha256:x"}} {
		if _, _, _, err := r.Existing(f.ctx, map[string][]digest.Digest{ask.repo: {ask.d}}, nil); !errors.As(err, &invalid) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	f.must(r.Commit(f.ctx))
	if _, _, _, err := r.Existing(f.ctx, map[string][]digest.Digest{"app": {dA}}, nil); !errors.As(err, &invalid) {
		t.Errorf("a committed run: got %v", err)
	}
	r, err = f.Runs.Begin(f.ctx, "run")
	f.must(err)
	f.must(r.Abort(f.ctx))
	_, _, _, err = r.Existing(f.ctx, map[string][]digest.Digest{"app": {dA}}, nil)
	isNotFound(t, err)
}

// Asked again, as a sync that is repeated does for all it has, it writes nothing; and so
// for what does not exist.
func TestRun_Existing_writesNothingThatIsThere(t *testing.T) {
	f := newFixture(t)
	m := f.pushImage("app", "app")
	layer := digest.FromString("layer of app")
	r, err := f.Runs.Begin(f.ctx, "run")
	f.must(err)
	ask := func() {
		t.Helper()
		for _, d := range []digest.Digest{layer, dA} {
			if has, err := hasBlob(f.ctx, r, "app", d); err != nil || has != (d == layer) {
				t.Errorf("blob %s: %v, %v", d, has, err)
			}
		}
		for _, d := range []digest.Digest{m.Digest, dA} {
			if has, err := hasManifest(f.ctx, r, "app", d); err != nil || has != (d == m.Digest) {
				t.Errorf("manifest %s: %v, %v", d, has, err)
			}
		}
	}
	ask()
	release := f.hold() // whoever wants to write waits, and with this context not for long
	defer release()
	ctx, cancel := context.WithTimeout(f.ctx, time.Minute)
	defer cancel()
	f.ctx = ctx
	f.clock.add(runSeen / 2)
	ask()
}

// What was heard of a run without being written counts, also after a restart.
func TestRun_Existing_keepsTheRunAlive(t *testing.T) {
	for name, restart := range map[string]bool{"at once": false, "after a restart": true} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			r, err := f.Runs.Begin(f.ctx, "run")
			f.must(err)
			before := f.clock.add(runSeen / 2)
			_, err = hasBlob(f.ctx, r, "app", dA)
			f.must(err)
			if restart {
				f.reopen()
			}
			f.must(f.Garbage.StaleRuns(f.ctx, before, func(id string) error { t.Errorf("run %s is stale", id); return nil }))
			f.must(f.Garbage.RemoveRun(f.ctx, before, r.ID()))
			_, err = f.Runs.Get(f.ctx, r.ID())
			f.must(err)
		})
	}
}
