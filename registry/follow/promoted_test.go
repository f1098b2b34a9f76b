package follow_test

import (
	"encoding/json"
	"errors"
	"math"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/registry/store"
)

// What is kept at the first is kept at the follower once that takes changes: what is pinned there is not evicted,
// and what an attached cluster runs is not deleted.
func TestFollower_keepsWhatIsPinned(t *testing.T) {
	first, second := newHost(t), newHost(t)
	pinned, cached := newImage("pinned", nil, []byte("p")), newImage("cached", nil, []byte("c"))
	needed := newImage("needed", nil, []byte("n"))
	first.pull("hub/pinned", pinned, len(pinned.blobs), "t")
	first.pull("hub/cached", cached, len(cached.blobs), "t")
	_, err := first.Manifests.Pin(first.ctx, "hub/pinned", pinned.digest())
	first.must(err)
	first.push("app", needed, "t")
	first.must(first.Clusters.Put(first.ctx, store.Cluster{ID: "c1", Name: "prod", Facts: json.RawMessage(`{}`)}))
	first.must(first.Clusters.Keep(first.ctx, "c1", []digest.Digest{needed.digest()}))
	first.must(first.run("mirror", map[[2]string]image{{"ocp", "4.18"}: newImage("4.18", nil)}).Commit(first.ctx))

	f := first.start(second)
	f.catchUp()
	f.stop()
	second.must(second.Following.End(second.ctx)) // which a promotion does
	_, _, err = second.Garbage.EvictPulled(second.ctx, 1)
	second.must(err)
	if _, err := second.Manifests.Get(second.ctx, "hub/cached", cached.digest()); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("what only was pulled through stays: %v", err)
	}
	whole, err := second.Manifests.Whole(second.ctx, "hub/pinned", pinned.digest())
	if err != nil || !whole {
		t.Errorf("what is pinned is whole: %v, %v", whole, err)
	}
	var kept *store.KeptError
	if _, err := second.Manifests.DeleteImage(second.ctx, "app", needed.digest()); !errors.As(err, &kept) {
		t.Errorf("the deletion of what a cluster runs: %v", err)
	}
	t.Run("runs are of the first alone", func(t *testing.T) {
		runs, err := second.Runs.Past(second.ctx, math.MaxInt32, "", "")
		second.must(err)
		if len(runs) != 0 {
			t.Errorf("the follower has the runs %+v", runs)
		}
	})
}
