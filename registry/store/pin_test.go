package store

import (
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

func (f *fixture) pinned(repo string, d digest.Digest) {
	f.t.Helper()
	if changed, err := f.Manifests.Pin(f.ctx, repo, d); !changed || err != nil {
		f.t.Errorf("pinned: %v, %v", changed, err)
	}
}

// What is not pinned any more goes, and last, whatever it was used before.
func TestStore_Unpin(t *testing.T) {
	f := newFixture(t)
	a, b := f.pull("hub/app", "a"), f.pull("hub/app", "b")
	f.pinned("hub/app", a.Digest)
	if changed, err := f.Manifests.Pin(f.ctx, "hub/app", a.Digest); changed || err != nil {
		t.Errorf("pinned again: %v, %v", changed, err)
	}
	f.clock.add(time.Minute)
	_, err := f.Manifests.ByTag(f.ctx, "hub/app", "b")
	f.must(err)
	f.clock.add(time.Minute)
	f.must(collectOlder(f.ctx, f.Store, f.clock.now()))
	if changed, err := f.Manifests.Unpin(f.ctx, "hub/app", a.Digest); !changed || err != nil {
		t.Errorf("unpinned: %v, %v", changed, err)
	}
	if changed, err := f.Manifests.Unpin(f.ctx, "hub/app", b.Digest); changed || err != nil {
		t.Errorf("unpinned what is not: %v, %v", changed, err)
	}
	f.clock.add(time.Minute)
	_, _, err = f.Garbage.EvictPulled(f.ctx, evictedLayer+pulledBody+100)
	f.must(err)
	if got := f.remaining("hub/app", "a", "b"); got != "a" {
		t.Errorf("left after the first: %q", got)
	}
	_, _, err = f.Garbage.EvictPulled(f.ctx, 0)
	f.must(err)
	if got := f.remaining("hub/app", "a", "b"); got != "" {
		t.Errorf("left after the second: %q", got)
	}
	for _, pin := range []func() (bool, error){
		func() (bool, error) { return f.Manifests.Pin(f.ctx, "hub/app", a.Digest) },
		func() (bool, error) { return f.Manifests.Unpin(f.ctx, "hub/none", a.Digest) },
	} {
		_, err := pin()
		isNotFound(t, err)
	}
	f.verify()
}

func TestStore_Pinned(t *testing.T) {
	f := newFixture(t)
	a := f.pull("hub/app", "a")
	absent := descriptor("application/vnd.oci.image.manifest.v1+json", []byte("elsewhere"))
	outer, err := f.Manifests.PutPulled(f.ctx, "hub/app", index(a.Descriptor(), absent), PutOptions{Tags: []string{"v1", "latest"}})
	f.must(err)
	f.pinned("hub/app", outer.Digest)
	f.reopen()
	all, err := f.Manifests.Pinned(f.ctx)
	f.must(err)
	if len(all) != 1 {
		t.Fatalf("%d are pinned", len(all))
	}
	p := all[0]
	if p.Repository != "hub/app" || p.Digest != outer.Digest || len(p.Tags) != 2 || p.Tags[1] != "v1" {
		t.Errorf("pinned: %+v", p)
	}
	// The parts are two children, and the config and the layer of the one that is held.
	if p.Parts != 4 || p.Held != 3 || p.Bytes != evictedLayer+2 {
		t.Errorf("%d of %d parts with %d bytes are held", p.Held, p.Parts, p.Bytes)
	}
}
