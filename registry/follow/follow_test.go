package follow_test

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/registry/store"
)

// fill gives a host something of each kind.
func fill(h *host) {
	app := newImage("app", nil, []byte("one"))
	d := h.push("team/app", app, "v1", "latest")
	h.push("team/app", newImage("signature", &ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: d, Size: int64(len(app.body))}), "sha256-"+d.Encoded()+".sig")
	h.push("other", newImage("untagged", nil))
	index := newIndex(app)
	for _, declared := range []string{ocispec.MediaTypeImageIndex, "application/vnd.docker.distribution.manifest.list.v2+json"} {
		_, err := h.Manifests.Put(h.ctx, "lists/"+fmt.Sprint(len(declared)), index, store.PutOptions{MediaType: declared, Tags: []string{"t"}})
		h.must(err)
	}
	r := h.run("mirror", map[[2]string]image{{"ocp/release", "4.18"}: newImage("4.18", nil), {"ocp/content", "a"}: newImage("a", nil)})
	h.must(r.Want(h.ctx, "image set", json.RawMessage(`["a"]`)))
	h.must(r.Commit(h.ctx))
	whole, sparse := newImage("whole", nil, []byte("w")), newImage("sparse", nil, []byte("s"), []byte("s2"))
	h.pull("hub/whole", whole, len(whole.blobs), "t")
	h.pull("hub/sparse", sparse, 1, "t")
	_, err := h.Manifests.Pin(h.ctx, "hub/whole", whole.digest())
	h.must(err)
	h.must(h.Users.Put(h.ctx, store.User{Name: "eva", Role: "push", Repositories: []string{"team/*"}, PasswordHash: []byte("$2a$hash")}))
	h.must(h.Clusters.Put(h.ctx, store.Cluster{ID: "c1", Name: "prod", Facts: json.RawMessage(`{"a": 1}`)}))
	h.must(h.Clusters.Keep(h.ctx, "c1", []digest.Digest{d}))
}

func TestFollower_isEqual(t *testing.T) {
	first, second := newHost(t), newHost(t)
	fill(first)
	f := first.start(second)
	f.catchUp()
	equal(t, first, second)
	if got := len(second.content()); got < 20 {
		t.Errorf("only %d things were compared", got)
	}
	if s := f.State(); !s.CaughtUp || !s.Connected || s.Changes != 0 || s.Error != nil || s.Equal.IsZero() {
		t.Errorf("its state is %+v", s)
	}

	// Each kind changes, and goes.
	first.push("team/app", newImage("app 2", nil), "latest")
	first.pullBlobs("hub/sparse", newImage("sparse", nil, []byte("s"), []byte("s2")), 4) // all
	first.must(first.Users.Delete(first.ctx, "eva"))
	first.must(first.Clusters.Delete(first.ctx, "c1"))
	first.must(first.Runs.Want(first.ctx, "image set", json.RawMessage("null")))
	first.must(first.Tags.Delete(first.ctx, "team/app", "v1"))
	_, err := first.Manifests.DeleteImage(first.ctx, "ocp/content", newImage("a", nil).digest())
	first.must(err)
	f.catchUp()
	equal(t, first, second)
}

func TestFollower_withoutUsers(t *testing.T) {
	first, second := newHost(t), newHost(t)
	fill(first)
	second.must(second.Users.Put(second.ctx, store.User{Name: "own", Role: "admin"}))
	o := first.options(second)
	o.Users = false
	f := first.startWith(o)
	first.must(first.Users.Put(first.ctx, store.User{Name: "later", Role: "pull"}))
	f.catchUp()
	users, err := second.Users.List(second.ctx)
	second.must(err)
	if len(users) != 1 || users[0].Name != "own" {
		t.Errorf("its users are %v", users)
	}
	f.stop()

	o.Users = true // from now on
	f = first.startWith(o)
	f.catchUp()
	equal(t, first, second)
}

// What a first had before it was followed, and what a follower has that the first lacks, goes with the
// first list, and not before it is whole.
func TestFollower_replacesWhatItHad(t *testing.T) {
	first, second := newHost(t), newHost(t)
	fill(first)
	second.push("team/app", newImage("its own", nil), "v1", "mine")
	second.push("gone", newImage("gone", nil), "t")
	f := first.start(second)
	f.catchUp()
	equal(t, first, second)
}

// After a week, catching up costs what changed.
func TestFollower_costsWhatChanged(t *testing.T) {
	first, second := newHost(t), newHost(t)
	for i := range 50 {
		first.push(fmt.Sprintf("repo%d", i%5), newImage(fmt.Sprint("image ", i), nil), fmt.Sprint("t", i))
	}
	f := first.start(second)
	f.catchUp()
	f.stop()
	first.counted()

	first.push("repo1", newImage("new", nil, []byte("layer that is new")), "new")
	first.push("repo2", newImage("image 1", nil), "known") // of repo1: its manifest and blobs are at the follower
	first.must(first.Tags.Delete(first.ctx, "repo3", "t3"))
	first.push("repo4", newImage("image 4", nil), "t4") // as before
	second.reopen()
	f = first.start(second)
	f.catchUp()
	equal(t, first, second)
	f.stop()
	got := first.counted()
	if got["GET manifests"] != 1 || got["GET blobs"] != 2 || got["GET changes"] > 3 || got["HEAD blobs"]+got["HEAD manifests"] != 0 {
		t.Errorf("it has asked %v, want one manifest, and its config and layer", got)
	}
}

// A large blob that was cut off is gone on with, after a restart too.
func TestFollower_continuesBlob(t *testing.T) {
	first, second := newHost(t), newHost(t)
	layer := make([]byte, 8<<20)
	_, _ = rand.Read(layer)
	first.push("big", newImage("big", nil, layer), "t")
	cut := first.cutBlob(digest.FromBytes(layer), 5<<20)
	f := first.start(second)
	<-cut
	f.stop()
	second.reopen()
	ranges := first.ranges(digest.FromBytes(layer))
	f = first.start(second)
	f.catchUp()
	equal(t, first, second)
	if got := ranges(); len(got) != 1 || !bytes.HasPrefix([]byte(got[0]), []byte("bytes=")) || got[0] == "bytes=0-" {
		t.Errorf("the blob was asked for with the ranges %q", got)
	}
}
