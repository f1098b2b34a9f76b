package store

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/image"
)

// attach attaches a cluster that needs some manifests.
func (f *fixture) attach(id string, needs ...digest.Digest) {
	f.t.Helper()
	f.must(f.Clusters.Put(f.ctx, Cluster{ID: id, Name: "prod", Facts: []byte(`{}`)}))
	f.must(f.Clusters.Keep(f.ctx, id, needs))
}

// isKept fails unless an error says that the cluster needs an image.
func isKept(t *testing.T, what string, err error) {
	t.Helper()
	if kept := (*KeptError)(nil); !errors.As(err, &kept) || !strings.Contains(err.Error(), "prod (c-1)") {
		t.Errorf("%s: %v", what, err)
	}
}

// indexed pushes an index of a manifest of its repository.
func (f *fixture) indexed(repo, tag string, child Manifest) Manifest {
	f.t.Helper()
	m, err := f.Manifests.Put(f.ctx, repo, index(child.Descriptor()), PutOptions{Tags: []string{tag}})
	f.must(err)
	return m
}

// A cluster may be detached between the look for its id and that for its name.
func TestClusters_KeepingWhileDetached(t *testing.T) {
	f := newFixture(t)
	one := f.pushImage("a/b", "one", "v1")
	ended := make(chan error, 1)
	go func() {
		var err error
		for range 50 {
			err = errors.Join(err, f.Clusters.Put(f.ctx, Cluster{ID: "c-1", Name: "prod", Facts: []byte(`{}`)}),
				f.Clusters.Keep(f.ctx, "c-1", []digest.Digest{one.Digest}), f.Clusters.Delete(f.ctx, "c-1"))
		}
		ended <- err
	}()
	for n := 0; ; n++ {
		all, err := f.Clusters.Keeping(f.ctx, "a/b", one.Digest)
		if err != nil || len(all) > 0 && all[0].Name != "prod" {
			t.Fatalf("look %d: %v, %v", n, all, err)
		}
		select {
		case err := <-ended:
			f.must(err)
			return
		default:
		}
	}
}

func TestClusters_keepWhatTheyNeed(t *testing.T) {
	f := newFixture(t)
	one, two := f.pushImage("a/b", "one", "v1"), f.pushImage("a/b", "two", "v2")
	child, other := f.pushImage("a/b", "child"), f.pushImage("a/b", "other")
	whole, lists := f.indexed("a/b", "list", child), f.indexed("a/b", "lists", other)
	signature := f.pushImage("a/b", "signature", image.AttachmentTags(one.Digest)[1])
	f.attach("c-1", one.Digest, whole.Digest, other.Digest)

	for what, deleted := range map[string]error{
		"by digest":          f.Manifests.Delete(f.ctx, "a/b", one.Digest),
		"with belongings":    second(f.Manifests.DeleteImage(f.ctx, "a/b", one.Digest)),
		"by tag":             f.Tags.Delete(f.ctx, "a/b", "v1"),
		"foreseen":           f.Tags.MayDelete(f.ctx, "a/b", "v1"),
		"of an index":        f.Manifests.Delete(f.ctx, "a/b", child.Digest),
		"a signature":        f.Manifests.Delete(f.ctx, "a/b", signature.Digest),
		"tag of a signature": f.Tags.Delete(f.ctx, "a/b", image.AttachmentTags(one.Digest)[1]),
	} {
		isKept(t, what, deleted)
	}
	f.must(f.Tags.MayDelete(f.ctx, "a/b", "v2"))
	isNotFound(t, f.Tags.MayDelete(f.ctx, "a/b", "v3"))
	f.must(f.Manifests.Delete(f.ctx, "a/b", two.Digest))
	f.must(f.Manifests.Delete(f.ctx, "a/b", lists.Digest)) // its child is needed by itself
	f.clock.add(time.Hour)
	if n, err := f.Garbage.RemoveUntagged(f.ctx, "a/b", f.clock.now()); n != 0 || err != nil {
		t.Errorf("%d untagged removed, %v", n, err)
	}
	for what, m := range map[string]Manifest{"image": one, "index": whole, "its child": child, "child of another": other, "signature": signature} {
		if _, err := f.Manifests.Get(f.ctx, "a/b", m.Digest); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	f.must(f.Clusters.Delete(f.ctx, "c-1"))
	f.must(f.Manifests.Delete(f.ctx, "a/b", one.Digest))
	isNotFound(t, f.Clusters.Delete(f.ctx, "c-1"))
	f.mustBeClean()
}

func second[A any](_ A, err error) error { return err }

func TestClusters_eviction(t *testing.T) {
	f := newFixture(t)
	a, _ := f.pull("hub/app", "a"), f.pull("hub/app", "b")
	child := f.pull("hub/list", "c")
	m, err := f.Manifests.PutPulled(f.ctx, "hub/list", index(child.Descriptor()), PutOptions{Tags: []string{"list"}})
	f.must(err)
	f.clock.add(time.Minute)
	f.attach("c-1", a.Digest, m.Digest)
	_, _, err = f.Garbage.EvictPulled(f.ctx, 0)
	f.must(err)
	if got := f.remaining("hub/app", "a", "b") + " " + f.remaining("hub/list", "c", "list"); got != "a c list" {
		t.Errorf("left: %q", got)
	}
	if n, err := f.Garbage.evictableBytes(f.ctx); n != 0 || err != nil {
		t.Errorf("%d bytes count as evictable, %v", n, err)
	}
	f.must(f.Clusters.Keep(f.ctx, "c-1", nil))
	_, _, err = f.Garbage.EvictPulled(f.ctx, 0)
	f.must(err)
	if got := f.remaining("hub/app", "a", "b") + f.remaining("hub/list", "c", "list"); got != "" {
		t.Errorf("left when nothing is needed: %q", got)
	}
	f.verify()
}

func TestClusters_rollback(t *testing.T) {
	f := newFixture(t)
	one, two := f.pushImage("a/b", "one", "v1"), f.pushImage("a/b", "two", "v2")
	run := f.retag("a/b", map[string]digest.Digest{"v1": two.Digest, "new": two.Digest})
	f.attach("c-1", two.Digest)
	_, err := f.Runs.Rollback(f.ctx, run)
	isKept(t, "rollback", err)
	_, err = f.Runs.PlanRollback(f.ctx, run)
	isKept(t, "its plan", err)
	if f.named("a/b", "v1") != two.Digest {
		t.Error("a refused rollback has moved a tag")
	}
	f.must(f.Clusters.Keep(f.ctx, "c-1", []digest.Digest{one.Digest}))
	_, err = f.Runs.Rollback(f.ctx, run)
	f.must(err)
}
