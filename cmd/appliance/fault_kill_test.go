package main_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	mathrand "math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/gc"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/client"
	"github.com/mirror-appliance/appliance/registry/store"
)

// TestKilled kills a daemon again and again, at random moments of pushes, deletes, collections and
// syncs. Each time the next one must come up by itself and have everything that was acknowledged,
// and no more than that.
func TestKilled(t *testing.T) {
	f := newFaulty(t, inMemory(t)) // a kill loses nothing that was written, synced or not, so a disk says nothing more
	f.begin(t)
	killAgain(t, newHammer(f, kills))
}

// killAgain kills the daemon of a hammer as often as it says, and oftener until there was enough to lose.
func killAgain(t *testing.T, h *hammer) {
	t.Helper()
	f, kills := h.faulty, h.kills
	var worst time.Duration
	round := 0
	for ; round < kills || round < 20*kills && !h.enough(); round++ { // a slow machine does little between two kills
		h.untilKilled(t, time.Duration(mathrand.Int64N(int64(400*time.Millisecond)*int64(1+round/kills))))
		if round%2 == 0 { // and else it is the daemon that finds the store as it was left
			f.verify(t)
		}
		if round%10 == 9 { // also while it starts
			f.serve(t)
			time.Sleep(time.Duration(mathrand.Int64N(int64(60 * time.Millisecond)))) // any moment will do
			f.kill()
		}
		worst = max(worst, f.start(t))
		h.check(t, false)
		if t.Failed() {
			t.Fatalf("after %d kills; the daemon said:\n%s", round+1, f.said)
		}
	}
	h.check(t, true)
	h.mu.Lock()
	t.Logf("%d kills; %d images pushed and acknowledged, %d syncs, %d deletes, %d collections, %d uploads resumed; ready after %s at worst",
		round, h.pushed, h.synced, h.deleted, h.collected, h.resumed, worst.Round(time.Millisecond))
	h.mu.Unlock()
	if !h.enough() {
		t.Error("that is too little to prove anything")
	}
	h.deleteAll(t)
	f.stop(t)
	f.verify(t)
	leavesNothing(t, f)
}

// enough says whether there was something to lose.
func (h *hammer) enough() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.pushed >= h.kills && h.synced > 0 && h.deleted > 0 && h.collected > 0 && h.resumed > 0
}

// inMemory is a directory in memory, or else a temporary one.
func inMemory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "fault")
	if err != nil {
		return ""
	}
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	return dir
}

// What is known of an image.
type state int

const (
	maybe   state = iota // the request has no answer yet
	acked                // it is there
	deleted              // it is not
)

// hammer acts on a daemon from all sides, and remembers what it was told.
type hammer struct {
	*faulty
	kills  int
	shared [][]byte // layers that many images have
	sizes  []int64  // how large the other layers are at most
	number atomic.Int64
	killed atomic.Bool

	mu                                          sync.Mutex // guards what follows
	images                                      map[*testImage]state
	moving                                      map[string]*movingTag // by repository
	moved                                       []*testImage          // all that a moving tag may ever have named
	halves                                      map[string]*half      // uploads under way, by repository
	wrongs                                      []string              // answers that must not be
	pushed, synced, deleted, collected, resumed int
}

// movingTag is what was acknowledged last, and what is under way; nil for nothing.
type movingTag struct{ is, maybe *testImage }

// half is an upload of which a half is acknowledged.
type half struct {
	location string
	content  []byte
}

func newHammer(f *faulty, kills int) *hammer {
	h := &hammer{faulty: f, kills: kills, sizes: []int64{100 << 10}, images: map[*testImage]state{}, moving: map[string]*movingTag{}, halves: map[string]*half{}}
	for range 8 {
		h.shared = append(h.shared, randomBytes(8<<10))
	}
	return h
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) //nolint:errcheck // it never fails
	return b
}

// untilKilled lets everybody work until the daemon is killed.
func (h *hammer) untilKilled(t *testing.T, after time.Duration) {
	t.Helper()
	h.killed.Store(false)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var workers sync.WaitGroup
	for i, work := range []func(ctx context.Context, i int) error{h.pushOne, h.pushOne, h.pushOne, h.moveTag, h.deleteOne, h.collect, h.sync, h.uploadHalf} {
		workers.Go(func() {
			for ctx.Err() == nil {
				h.note(work(ctx, i))
			}
		})
	}
	time.AfterFunc(after, func() { // any moment is as good as another
		h.killed.Store(true)
		_ = h.process.Process.Kill()
		cancel()
	})
	workers.Wait()
	h.wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, w := range h.wrongs {
		t.Error(w)
	}
}

// note keeps an error that is not the kill's.
func (h *hammer) note(err error) {
	if err == nil || h.killed.Load() && !errors.As(err, new(*refusal)) && !errors.As(err, new(*client.Refused)) {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.wrongs = append(h.wrongs, err.Error())
}

func (h *hammer) set(m *testImage, s state) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.images[m] = s
}

func (h *hammer) count(n *int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	*n++
}

// newImage has a layer that others have and one that none has.
func (h *hammer) newImage(repo, tag string) *testImage {
	size := 1 + mathrand.Int64N(h.sizes[mathrand.IntN(len(h.sizes))]) // some are journaled in the database, some are files alone
	return newTestImage(repo, tag, h.shared[mathrand.IntN(len(h.shared))], randomBytes(int(size)))
}

// pushOne pushes an image of its own.
func (h *hammer) pushOne(ctx context.Context, i int) error {
	m := h.newImage(fmt.Sprint("app/", i), fmt.Sprint("v", h.number.Add(1)))
	h.set(m, maybe)
	err := h.push(ctx, m)
	switch {
	case err == nil:
		h.set(m, acked)
		h.count(&h.pushed)
	case collectedMeanwhile(err):
		h.set(m, deleted)
		return nil
	}
	return err
}

// collectedMeanwhile is the answer to a push whose blob was taken by a collection without a grace
// period. It is no push.
func collectedMeanwhile(err error) bool {
	var r *refusal
	return errors.As(err, &r) && r.status == http.StatusBadRequest && strings.Contains(string(r.body), "MANIFEST_BLOB_UNKNOWN")
}

// moveTag pushes another image under the same tag. After a push without an answer, which may have been
// made all the same, it waits for the end of the round: it is that push which is to be accounted for.
func (h *hammer) moveTag(ctx context.Context, i int) error {
	repo := fmt.Sprint("moving/", i)
	m := h.newImage(repo, "latest")
	h.mu.Lock()
	if h.moving[repo] == nil {
		h.moving[repo] = &movingTag{}
	}
	tag := h.moving[repo]
	if tag.maybe != nil {
		h.mu.Unlock()
		<-ctx.Done()
		return nil
	}
	tag.maybe = m
	h.moved = append(h.moved, m)
	h.mu.Unlock()
	err := h.push(ctx, m)
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case err == nil:
		tag.is, tag.maybe = m, nil
	case collectedMeanwhile(err):
		tag.maybe = nil
		return nil
	}
	return err
}

// deleteOne deletes any image.
func (h *hammer) deleteOne(ctx context.Context, _ int) error {
	h.mu.Lock()
	var m *testImage
	acknowledged := 0
	for image, s := range h.images {
		if s == acked {
			m = image // of a map, so it is any
			acknowledged++
		}
	}
	if acknowledged < 5 {
		h.mu.Unlock()
		return h.pushOne(ctx, 99)
	}
	h.images[m] = maybe
	h.mu.Unlock()
	if err := h.delete(ctx, m); err != nil {
		return err
	}
	h.set(m, deleted)
	h.count(&h.deleted)
	return nil
}

func (h *hammer) delete(ctx context.Context, m *testImage) error {
	_, err := h.demand(ctx, http.StatusAccepted, http.MethodDelete, m.path()+m.digest.String(), nil)
	return err
}

// collect collects, now and then with no grace period at all: what was deleted goes at once.
func (h *hammer) collect(ctx context.Context, _ int) error {
	grace := api.Duration(300 * time.Millisecond)
	if mathrand.IntN(15) == 0 {
		grace = 0
	}
	_, err := h.admin.GC(ctx, api.GCRequest{GracePeriod: &grace}, nil)
	if err == nil {
		h.count(&h.collected)
	}
	return err
}

// sync stages an image and commits it, or does not.
func (h *hammer) sync(ctx context.Context, _ int) error {
	m := h.newImage("mirror/deep/er", fmt.Sprint("v", h.number.Add(1)))
	h.set(m, maybe)
	run, err := h.admin.BeginSync(ctx, "hammer")
	if err != nil {
		return err
	}
	for _, content := range m.contents {
		desc := ocispec.Descriptor{MediaType: "x/y", Digest: digest.FromBytes(content), Size: int64(len(content))}
		held, _, _, err := run.Existing(ctx, map[string][]digest.Digest{m.repo: {desc.Digest}}, nil)
		if err != nil {
			return err
		}
		if len(held) > 0 {
			continue
		}
		if err := run.PutBlob(ctx, m.repo, desc, bytes.NewReader(content)); err != nil {
			return err
		}
	}
	desc := ocispec.Descriptor{MediaType: imageType, Digest: m.digest, Size: int64(len(m.body))}
	if err := run.PutManifest(ctx, m.repo, desc, m.body); err != nil {
		return err
	}
	if err := run.Tag(ctx, map[string]map[string]digest.Digest{m.repo: {m.tag: m.digest}}); err != nil {
		return err
	}
	if mathrand.IntN(4) == 0 {
		err := run.Abort(ctx)
		if err == nil {
			h.set(m, deleted)
		}
		return err
	}
	if err := run.Commit(ctx); err != nil {
		return err
	}
	h.set(m, acked)
	h.count(&h.synced)
	return nil
}

// uploadHalf begins uploads and leaves them.
func (h *hammer) uploadHalf(ctx context.Context, _ int) error {
	repo := fmt.Sprint("half/", h.number.Add(1))
	content := randomBytes(20 << 10)
	a, err := h.demand(ctx, http.StatusAccepted, http.MethodPost, "/v2/"+repo+"/blobs/uploads/", nil)
	if err != nil {
		return err
	}
	a, err = h.demand(ctx, http.StatusAccepted, http.MethodPatch, a.header.Get("Location"), bytes.NewReader(content[:10<<10]))
	if err != nil {
		return err
	}
	h.mu.Lock()
	h.halves[repo] = &half{a.header.Get("Location"), content}
	full := len(h.halves) >= 3
	h.mu.Unlock()
	if full {
		<-ctx.Done()
	}
	return nil
}

// check compares what the daemon has with what it has told: of old images some, or,
// in the end, all.
func (h *hammer) check(t *testing.T, all bool) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	looked := 0
	for m, s := range h.images {
		if s == deleted || s == acked {
			if looked++; looked > 60 && !all {
				continue
			}
		}
		h.images[m] = h.checkImage(t, m, s)
	}
	for repo, tag := range h.moving {
		h.checkMoving(t, repo, tag)
	}
	for repo, u := range h.halves {
		h.finish(t, repo, u)
	}
	h.halves = map[string]*half{}
}

func (h *hammer) checkMoving(t *testing.T, repo string, tag *movingTag) {
	t.Helper()
	a, err := h.ask(t.Context(), http.MethodGet, "/v2/"+repo+"/manifests/latest", nil)
	must(t, err)
	switch {
	case tag.maybe != nil && bytes.Equal(a.body, tag.maybe.body):
		tag.is = tag.maybe
	case tag.is != nil && bytes.Equal(a.body, tag.is.body):
	case tag.is == nil && a.status == http.StatusNotFound:
	default:
		t.Errorf("%s:latest is answered %d %s, which nobody pushed last", repo, a.status, digest.FromBytes(a.body))
	}
	if tag.maybe = nil; tag.is != nil {
		h.checkImage(t, tag.is, acked)
	}
}

func (h *hammer) checkImage(t *testing.T, m *testImage, s state) state {
	t.Helper()
	whole, err := h.pull(t.Context(), m)
	switch {
	case err != nil:
		t.Errorf("%s:%s: %v", m.repo, m.tag, err)
	case s == acked && !whole:
		t.Errorf("%s:%s was acknowledged, and is not there", m.repo, m.tag)
	case s == deleted && whole:
		t.Errorf("%s:%s was deleted, and is there", m.repo, m.tag)
	case whole && m.tag != "latest":
		if a, err := h.ask(t.Context(), http.MethodGet, m.path()+m.tag, nil); err != nil || !bytes.Equal(a.body, m.body) {
			t.Errorf("%s:%s is there, and its tag names %d %s, %v", m.repo, m.tag, a.status, digest.FromBytes(a.body), err)
		}
	}
	if whole {
		return acked
	}
	return deleted
}

// finish sends the other half of an upload, from where the daemon says it is.
func (h *hammer) finish(t *testing.T, repo string, u *half) {
	t.Helper()
	a, err := h.demand(t.Context(), http.StatusNoContent, http.MethodGet, u.location, nil)
	if err != nil {
		t.Errorf("an upload that was acknowledged: %v", err)
		return
	}
	if got := a.header.Get("Range"); got != fmt.Sprintf("0-%d", len(u.content)/2-1) {
		t.Errorf("an upload of which %d bytes were acknowledged has %s", len(u.content)/2, got)
	}
	d := digest.FromBytes(u.content)
	_, err = h.demand(t.Context(), http.StatusCreated, http.MethodPut, withDigest(a.header.Get("Location"), d), bytes.NewReader(u.content[len(u.content)/2:]))
	if err != nil {
		t.Errorf("the rest of an upload: %v", err)
	}
	h.resumed++
}

// deleteAll deletes every image.
func (h *hammer) deleteAll(t *testing.T) {
	t.Helper()
	for m, s := range h.images {
		if s == acked {
			must(t, h.delete(t.Context(), m))
		}
	}
	for _, m := range h.moved {
		a, err := h.ask(t.Context(), http.MethodDelete, m.path()+m.digest.String(), nil)
		must(t, err)
		if a.status != http.StatusAccepted && a.status != http.StatusNotFound {
			t.Errorf("delete %s: %d %s", m.repo, a.status, a.body)
		}
	}
}

// leavesNothing collects what is left, whatever its age, and expects that nothing is left then.
func leavesNothing(t *testing.T, f *faulty) {
	t.Helper()
	s := f.open(t)
	defer func() { must(t, s.Close()) }()
	for range 2 { // what only a stale run has is garbage the second time
		later := time.Now().Add(time.Hour)
		plan, err := gc.MakePlan(t.Context(), s.Garbage, gc.Options{Before: later, UploadsBefore: later, RunsBefore: later})
		must(t, err)
		_, err = plan.Execute(t.Context(), s.Garbage, nil)
		must(t, err)
	}
	storage := f.cfg.Storage
	if f.objects != "" { // which has parts of those that are not complete as well
		storage = f.objects
	}
	owner := filepath.Join(f.objects, "owner")
	must(t, filepath.WalkDir(storage, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() && path != owner {
			t.Errorf("a collection leaves %s", path)
		}
		return err
	}))
	if held, err := s.Stats(t.Context()); err != nil || held != (store.Stats{Users: held.Users}) {
		t.Errorf("a collection leaves %+v, %v", held, err)
	}
}
