package store

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/registry/store/database"
)

const evictedLayer = 1000 // bytes of each layer that pull makes

// pull makes an image as pull-through does, the manifest first: a config of 2 bytes, which
// all share, and a layer.
func (f *fixture) pull(repo, name string) Manifest {
	f.t.Helper()
	f.clock.add(time.Minute)
	layer := strings.Repeat(name, evictedLayer)[:evictedLayer]
	body := manifestOf(descriptor("x/y", []byte("{}")), descriptor("x/y", []byte(layer)))
	m, err := f.Manifests.PutPulled(f.ctx, repo, body, PutOptions{Tags: []string{name}})
	f.must(err)
	f.pulledBlob(repo, "{}")
	f.pulledBlob(repo, layer)
	return m
}

// pulledBlob brings a blob as pull-through does.
func (f *fixture) pulledBlob(repo, content string) {
	f.t.Helper()
	u, err := f.Uploads.NewPulled(f.ctx, repo, int64(len(content)), nil)
	f.must(err)
	_, err = u.Write([]byte(content))
	f.must(err)
	_, err = u.Commit(f.ctx, digest.FromString(content))
	f.must(err)
}

// pulledBody is how many bytes the manifest of each image has that pull makes.
var pulledBody = int64(len(manifestOf(descriptor("x/y", []byte("{}")), descriptor("x/y", make([]byte, evictedLayer)))))

// remaining says which of the tags are there still.
func (f *fixture) remaining(repo string, tags ...string) string {
	f.t.Helper()
	var have []string
	for _, tag := range tags {
		var n int
		// Not by the API, which counts as a use.
		f.must(f.db.Reader().QueryRow(`SELECT count(*) FROM tags t JOIN repositories r ON r.id = t.repository
			WHERE r.name = ? AND t.name = ?`, repo, tag).Scan(&n))
		if n == 1 {
			have = append(have, tag)
		}
	}
	return strings.Join(have, " ")
}

func TestStore_EvictPulled_LeastRecentlyUsedFirst(t *testing.T) {
	for name, between := range map[string]func(f *fixture){
		"from memory":       func(*fixture) {},
		"after Maintain":    func(f *fixture) { f.must(f.Maintain(f.ctx)) },
		"after a restart":   func(f *fixture) { f.reopen() },
		"collected already": func(f *fixture) { f.must(collectOlder(f.ctx, f.Store, f.clock.now())) },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			a, b, c := f.pull("hub/app", "a"), f.pull("hub/app", "b"), f.pull("hub/app", "c")
			f.clock.add(time.Minute)
			_, err := f.Manifests.ByTag(f.ctx, "hub/app", "a")
			f.must(err)
			f.clock.add(time.Minute)
			_, err = f.Manifests.Get(f.ctx, "hub/app", b.Digest)
			f.must(err)
			between(f)

			if blobs, bytes, err := f.Garbage.EvictPulled(f.ctx, 3*(evictedLayer+pulledBody)+2); blobs != 0 || bytes != 0 || err != nil {
				t.Errorf("within the quota: %d blobs, %d bytes, %v", blobs, bytes, err)
			}
			if blobs, bytes, err := f.Garbage.EvictPulled(f.ctx, 2*(evictedLayer+pulledBody)+2); blobs != 1 || bytes != evictedLayer || err != nil {
				t.Errorf("first: %d blobs, %d bytes, %v", blobs, bytes, err)
			}
			if got := f.remaining("hub/app", "a", "b", "c"); got != "a b" {
				t.Errorf("left after the first: %s", got)
			}
			if blobs, bytes, err := f.Garbage.EvictPulled(f.ctx, evictedLayer+pulledBody+100); blobs != 1 || bytes != evictedLayer || err != nil {
				t.Errorf("second: %d blobs, %d bytes, %v", blobs, bytes, err)
			}
			if got := f.remaining("hub/app", "a", "b", "c"); got != "b" {
				t.Errorf("left after the second: %s", got)
			}
			for _, m := range []Manifest{a, c} {
				_, err := f.Manifests.Get(f.ctx, "hub/app", m.Digest)
				isNotFound(t, err)
			}
			// A collection finds nothing more.
			f.must(collectOlder(f.ctx, f.Store, f.clock.add(time.Hour)))
			if n, err := f.Stats(f.ctx); err != nil || n.BlobBytes != evictedLayer+2 || n.Manifests != 1 {
				t.Errorf("after collection: %+v, %v", n, err)
			}
			f.verify()
		})
	}
}

// What a push or a run brought as well stays, whatever the quota.
func TestStore_EvictPulled_SparesWhatOthersBrought(t *testing.T) {
	for name, bring := range map[string]func(f *fixture, m Manifest){
		"a push of it": func(f *fixture, m Manifest) {
			_, err := f.Manifests.Put(f.ctx, "hub/app", m.Body, PutOptions{})
			f.must(err)
		},
		"an index that was pushed": func(f *fixture, m Manifest) {
			_, err := f.Manifests.Put(f.ctx, "hub/app", index(m.Descriptor()), PutOptions{})
			f.must(err)
		},
		"an index of an index that was pushed": func(f *fixture, m Manifest) {
			inner := index(m.Descriptor())
			_, err := f.Manifests.PutPulled(f.ctx, "hub/app", inner, PutOptions{})
			f.must(err)
			_, err = f.Manifests.Put(f.ctx, "hub/app", index(descriptor(ocispec.MediaTypeImageIndex, inner)), PutOptions{})
			f.must(err)
		},
		"a pin": func(f *fixture, m Manifest) { f.pinned("hub/app", m.Digest) },
		"a pin of an index": func(f *fixture, m Manifest) {
			outer, err := f.Manifests.PutPulled(f.ctx, "hub/app", index(m.Descriptor()), PutOptions{})
			f.must(err)
			f.pinned("hub/app", outer.Digest)
		},
		"a pin, and a pull after it": func(f *fixture, m Manifest) {
			f.pinned("hub/app", m.Digest)
			_, err := f.Manifests.PutPulled(f.ctx, "hub/app", m.Body, PutOptions{Tags: []string{"a"}})
			f.must(err)
		},
		"a pin, then a push, then no pin": func(f *fixture, m Manifest) {
			f.pinned("hub/app", m.Digest)
			_, err := f.Manifests.Put(f.ctx, "hub/app", m.Body, PutOptions{})
			f.must(err)
			if changed, err := f.Manifests.Unpin(f.ctx, "hub/app", m.Digest); changed || err != nil {
				t.Errorf("unpinned: %v, %v", changed, err)
			}
		},
		"a signature that was pushed": func(f *fixture, m Manifest) {
			_, err := f.Manifests.Put(f.ctx, "hub/app", mustJSON(map[string]any{"schemaVersion": 2, "mediaType": "x/sig", "subject": m.Descriptor()}), PutOptions{})
			f.must(err)
		},
		"a run that is committed": func(f *fixture, m Manifest) {
			r, err := f.Runs.Begin(f.ctx, "run")
			f.must(err)
			if has, err := hasManifest(f.ctx, r, "hub/app", m.Digest); err != nil || !has {
				t.Errorf("%v, %v", has, err)
			}
			f.must(r.Commit(f.ctx))
		},
		"a run under way": func(f *fixture, m Manifest) {
			r, err := f.Runs.Begin(f.ctx, "run")
			f.must(err)
			if has, err := hasManifest(f.ctx, r, "hub/app", m.Digest); err != nil || !has {
				t.Errorf("%v, %v", has, err)
			}
		},
		"a tag of a run under way": func(f *fixture, m Manifest) {
			r, err := f.Runs.Begin(f.ctx, "run")
			f.must(err)
			f.must(r.Tag(f.ctx, tagged("hub/app", "mine", m.Digest)))
		},
		"a tag of a run that is committed": func(f *fixture, m Manifest) {
			r, err := f.Runs.Begin(f.ctx, "run")
			f.must(err)
			f.must(r.Tag(f.ctx, tagged("hub/app", "mine", m.Digest)))
			f.must(r.Commit(f.ctx))
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			m := f.pull("hub/app", "a")
			bring(f, m)
			f.pull("hub/app", "b")
			if blobs, bytes, err := f.Garbage.EvictPulled(f.ctx, evictedLayer+pulledBody); blobs != 0 || bytes != 0 || err != nil {
				t.Errorf("what cannot go is counted: %d blobs, %d bytes, %v", blobs, bytes, err)
			}
			// The shared config stays with the other, so one layer is all that there is to free.
			if blobs, bytes, err := f.Garbage.EvictPulled(f.ctx, 0); blobs != 1 || bytes != evictedLayer || err != nil {
				t.Errorf("%d blobs, %d bytes, %v", blobs, bytes, err)
			}
			if got := f.remaining("hub/app", "a", "b"); got != "a" {
				t.Errorf("left: %q", got)
			}
		})
	}
}

// What does not count, because it cannot go, must not make anything else go.
func TestStore_EvictPulled_CountsWhatCanGo(t *testing.T) {
	f := newFixture(t)
	pushed := f.pull("hub/app", "pushed")
	_, err := f.Manifests.Put(f.ctx, "mine/app", pushed.Body, PutOptions{}) // and so its blobs are held anyway
	var missing *MissingError
	if !errors.As(err, &missing) {
		t.Fatalf("got %v", err)
	}
	for _, d := range missing.Digests {
		_, err := f.Blobs.Mount(f.ctx, "mine/app", "hub/app", d)
		f.must(err)
	}
	_, err = f.Manifests.Put(f.ctx, "mine/app", pushed.Body, PutOptions{})
	f.must(err)
	f.pull("hub/app", "a")
	f.pull("hub/copy", "a") // the same, in another repository: it counts once, and is free when both are gone
	if blobs, _, err := f.Garbage.EvictPulled(f.ctx, evictedLayer+pulledBody); blobs != 0 || err != nil {
		t.Errorf("within the quota: %d blobs, %v", blobs, err)
	}
	if blobs, bytes, err := f.Garbage.EvictPulled(f.ctx, evictedLayer+pulledBody-1); blobs != 1 || bytes != evictedLayer || err != nil {
		t.Errorf("%d blobs, %d bytes, %v", blobs, bytes, err)
	}
	f.must(collectOlder(f.ctx, f.Store, f.clock.add(time.Hour)))
	if got := f.read("mine/app", digest.FromString(strings.Repeat("pushed", evictedLayer)[:evictedLayer])); len(got) != evictedLayer {
		t.Errorf("%d bytes of a pushed layer", len(got))
	}
	f.verify()
}

// More than a batch that cannot go, all of it older than what can.
func TestStore_EvictPulled_PastWhatIsNeeded(t *testing.T) {
	f := newFixture(t)
	var needed []ocispec.Descriptor
	for i := range evictBatch + 5 {
		needed = append(needed, f.pull("hub/app", fmt.Sprint("v", i)).Descriptor())
	}
	_, err := f.Manifests.Put(f.ctx, "hub/app", index(needed...), PutOptions{})
	f.must(err)
	f.pull("hub/app", "last")
	if blobs, bytes, err := f.Garbage.EvictPulled(f.ctx, 0); blobs != 1 || bytes != evictedLayer || err != nil {
		t.Errorf("%d blobs, %d bytes, %v", blobs, bytes, err)
	}
	if got := f.remaining("hub/app", "v0", "last"); got != "v0" {
		t.Errorf("left: %s", got)
	}
}

func TestStore_EvictPulled_MoreThanABatch(t *testing.T) {
	f := newFixture(t)
	for i := range evictBatch + 5 {
		f.pull("hub/app", fmt.Sprint("v", i))
	}
	f.must(f.Tags.Delete(f.ctx, "hub/app", "v0"))
	if blobs, bytes, err := f.Garbage.EvictPulled(f.ctx, 0); blobs != evictBatch+6 || bytes != (evictBatch+5)*evictedLayer+2 || err != nil {
		t.Errorf("%d blobs, %d bytes, %v", blobs, bytes, err)
	}
	if n, err := f.Stats(f.ctx); err != nil || n.Manifests != 0 || n.Tags != 0 {
		t.Errorf("left: %+v, %v", n, err)
	}
}

// A read costs no write.
func TestStore_UsesAreWrittenTogether(t *testing.T) {
	f := newFixture(t)
	m := f.pull("hub/app", "a")
	release := f.hold()
	_, err := f.Manifests.ByTag(f.ctx, "hub/app", "a")
	f.must(err)
	release()
	used := func() (n int64) {
		f.must(f.db.Reader().QueryRow(`SELECT used FROM repository_manifests WHERE digest = ?`, m.Digest).Scan(&n))
		return n
	}
	before := used()
	f.clock.add(time.Minute)
	_, err = f.Manifests.Get(f.ctx, "hub/app", m.Digest)
	f.must(err)
	now := f.clock.add(time.Minute) // and again, when the answer comes from memory
	_, err = f.Manifests.Get(f.ctx, "hub/app", m.Digest)
	f.must(err)
	if used() != before {
		t.Error("it was written at once")
	}
	f.must(f.Maintain(f.ctx))
	if used() != database.Nanos(now) {
		t.Error("it was not written by Maintain")
	}
	f.pushImage("app", "pushed", "v1")
	_, err = f.Manifests.ByTag(f.ctx, "app", "v1")
	f.must(err)
	if f.accesses.at != nil {
		t.Errorf("what was pushed is recorded too: %v", f.accesses.at)
	}
}
