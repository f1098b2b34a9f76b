package follow_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/registry/store"
	"github.com/mirror-appliance/appliance/registry/store/blobstore"
)

var (
	seed  = flag.Uint64("seed", 0, "of the property test; 0: another one each time")
	steps = flag.Int("steps", 120, "of the property test")
)

// world does random things at a first.
type world struct {
	*host
	*rand.Rand
	images int
	large  bool     // some layers are too large for the journal of small blobs
	runs   []string // committed
	pulled []store.Tag
}

func (w *world) repo() string { return fmt.Sprint("repo", w.IntN(4)) }
func (w *world) tag() string  { return fmt.Sprint("t", w.IntN(5)) }

// image returns a new image, or one that was there before.
func (w *world) image() image {
	n := w.IntN(w.images + 2)
	w.images = max(w.images, n)
	layer := fmt.Appendf(nil, "layer %d", n/2)
	if w.large && n%2 == 1 {
		layer = bytes.Repeat(layer, (blobstore.InMemory+1)/len(layer)+1)
	}
	return newImage(fmt.Sprint("image ", n), nil, layer)
}

// allowed fails the test for an error other than that something does not exist or is kept.
func (w *world) allowed(err error) {
	w.t.Helper()
	var kept *store.KeptError
	if err != nil && !errors.Is(err, store.ErrNotFound) && !errors.As(err, &kept) {
		w.t.Fatal(err)
	}
}

// step does one thing, and returns its name.
func (w *world) step() string {
	things := []struct {
		name string
		do   func()
	}{
		{"push", func() { w.push(w.repo(), w.image(), w.tag()) }},
		{"push untagged", func() { w.push(w.repo(), w.image()) }},
		{"push index", w.pushIndex},
		{"push signature", w.pushSignature},
		{"delete tag", func() { w.allowed(w.Tags.Delete(w.ctx, w.repo(), w.tag())) }},
		{"delete image", func() { _, err := w.Manifests.DeleteImage(w.ctx, w.repo(), w.image().digest()); w.allowed(err) }},
		{"run", w.commitRun},
		{"run", w.commitRun},
		{"abort", func() {
			w.must(w.run("aborted", map[[2]string]image{{w.repo(), w.tag()}: w.image()}).Abort(w.ctx))
		}},
		{"rollback", w.rollback},
		{"pull", w.pullThrough},
		{"pull more", func() { i := w.image(); w.pull("hub", i, w.IntN(len(i.blobs)+1)) }},
		{"pin", w.pin},
		{"evict", func() { _, _, err := w.Garbage.EvictPulled(w.ctx, int64(w.IntN(400)+1)); w.must(err) }},
		{"user", func() {
			w.must(w.Users.Put(w.ctx, store.User{Name: w.tag(), Role: "pull", PasswordHash: fmt.Append(nil, w.Int())}))
		}},
		{"delete user", func() { w.allowed(w.Users.Delete(w.ctx, w.tag())) }},
		{"cluster", w.cluster},
		{"delete cluster", func() { w.allowed(w.Clusters.Delete(w.ctx, w.tag())) }},
		{"want", func() { w.must(w.Runs.Want(w.ctx, w.tag(), json.RawMessage(fmt.Sprint(w.IntN(3))))) }},
		{"want nothing", func() { w.must(w.Runs.Want(w.ctx, w.tag(), json.RawMessage("null"))) }},
		{"maintain", func() { w.must(w.Maintain(w.ctx)) }},
	}
	thing := things[w.IntN(len(things))]
	thing.do()
	return thing.name
}

func (w *world) pushIndex() {
	a, b := w.image(), w.image()
	repo := w.repo()
	w.push(repo, a)
	w.push(repo, b)
	declared := []string{ocispec.MediaTypeImageIndex, "application/vnd.docker.distribution.manifest.list.v2+json"}[w.IntN(2)]
	_, err := w.Manifests.Put(w.ctx, repo, newIndex(a, b), store.PutOptions{MediaType: declared, Tags: []string{w.tag()}})
	w.must(err)
}

func (w *world) pushSignature() {
	of := w.image()
	d := of.digest()
	s := newImage("signature of "+d.String(), &ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: d, Size: int64(len(of.body))})
	w.push(w.repo(), s, strings.Replace(d.String(), ":", "-", 1)+".sig")
}

func (w *world) commitRun() {
	images := map[[2]string]image{}
	for range 1 + w.IntN(4) {
		images[[2]string{w.repo(), w.tag()}] = w.image()
	}
	r := w.run(fmt.Sprint("run ", len(w.runs)), images)
	w.must(r.Commit(w.ctx))
	w.runs = append(w.runs, r.ID())
}

func (w *world) rollback() {
	if len(w.runs) == 0 {
		return
	}
	done, err := w.Runs.Rollback(w.ctx, w.runs[w.IntN(len(w.runs))])
	w.allowed(err)
	if err == nil && done.ID != "" {
		w.runs = append(w.runs, done.ID)
	}
}

func (w *world) pullThrough() {
	i := w.image()
	w.pull("hub", i, w.IntN(len(i.blobs)+1), w.tag())
	w.pulled = append(w.pulled, store.Tag{Repository: "hub", Digest: i.digest()})
}

func (w *world) pin() {
	if len(w.pulled) == 0 {
		return
	}
	p := w.pulled[w.IntN(len(w.pulled))]
	pin := w.Manifests.Pin
	if w.IntN(2) == 0 {
		pin = w.Manifests.Unpin
	}
	_, err := pin(w.ctx, p.Repository, p.Digest)
	w.allowed(err)
}

func (w *world) cluster() {
	id := w.tag()
	w.must(w.Clusters.Put(w.ctx, store.Cluster{ID: id, Name: "cluster", Facts: json.RawMessage(fmt.Sprintf(`{"n": %d}`, w.IntN(9)))}))
	w.must(w.Clusters.Keep(w.ctx, id, []digest.Digest{w.image().digest()}))
}

// Whatever happens at the first, and whenever the follower stops and its store is opened again: when it has
// caught up it is equal, and so is one that follows the follower.
func TestFollower_property(t *testing.T) {
	with := *seed
	if with == 0 {
		with = rand.Uint64()
	}
	t.Logf("-seed %d", with)
	first, second, third := newHost(t), newHost(t), newHost(t)
	w := &world{host: first, Rand: rand.New(rand.NewPCG(with, 1))}
	first.page, second.page = 1+w.IntN(20), 1+w.IntN(20)
	f, g := first.start(second), second.start(third)
	var done []string
	for range *steps {
		done = append(done, w.step())
		switch w.IntN(12) {
		case 0, 1:
			mustCatchUp(t, f)
			equal(t, first, second)
		case 2:
			mustCatchUp(t, f)
			mustCatchUp(t, g)
			equal(t, first, third)
		case 3: // wherever it is
			f.stop()
			g.stop()
			second.reopen()
			f, g = first.start(second), second.start(third)
		case 4: // it falls behind the horizon
			w.allowed(first.Feed.Remove(first.ctx, "of "+second.dir))
		}
		if t.Failed() {
			t.Fatalf("after %v", done[max(0, len(done)-20):])
		}
	}
	mustCatchUp(t, f)
	mustCatchUp(t, g)
	equal(t, first, second)
	equal(t, first, third)
}

// The tags that one run of the first sets appear together at the follower, whenever it is looked at.
func TestFollower_runsAppearWhole(t *testing.T) {
	first, second := newHost(t), newHost(t)
	first.page = 2 // so that a run comes in several pages
	f := first.start(second)
	places := [][2]string{{"a", "x"}, {"a", "y"}, {"b", "x"}, {"c/d", "x"}, {"e", "x"}}
	stop, stopped := make(chan struct{}), make(chan int)
	go func() {
		seen := map[digest.Digest]bool{}
		for {
			tags, err := second.Tags.All(second.ctx, store.Tag{}, 100) // one statement
			if err != nil {
				t.Error(err)
			}
			for _, tag := range tags {
				if tag.Digest != tags[0].Digest || len(tags) != len(places) {
					t.Errorf("it shows a part of a run: %v", tags)
				}
				seen[tag.Digest] = true
			}
			select {
			case <-stop:
				stopped <- len(seen)
				return
			default:
			}
		}
	}()
	for n := range 24 {
		images := map[[2]string]image{}
		for _, at := range places {
			images[at] = newImage(fmt.Sprint("of run ", n), nil)
		}
		first.must(first.run(fmt.Sprint(n), images).Commit(first.ctx))
		if n%4 == 0 {
			mustCatchUp(t, f)
		}
		if n == 12 {
			f.stop()
			f = first.start(second)
		}
	}
	mustCatchUp(t, f)
	close(stop)
	if n := <-stopped; n < 2 {
		t.Errorf("%d runs were seen", n)
	}
	equal(t, first, second)
}
