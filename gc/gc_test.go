package gc_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/gc"
	"github.com/mirror-appliance/appliance/registry/store"
)

// clock is a time that tests set.
type clock struct{ nanos atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.nanos.Store(time.Now().UnixNano())
	return c
}

func (c *clock) now() time.Time          { return time.Unix(0, c.nanos.Load()) }
func (c *clock) advance(d time.Duration) { c.nanos.Add(int64(d)) }

// aged is far enough ahead to make earlier content old by both clocks, the store's
// and that of its files.
const aged = 48 * time.Hour

func open(t *testing.T) (*store.Store, *clock) {
	t.Helper()
	dir, c := t.TempDir(), newClock()
	s, err := store.Open(t.Context(), store.Options{Database: filepath.Join(dir, "db"), Storage: filepath.Join(dir, "blobs"), Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, c
}

func push(t *testing.T, s *store.Store, repo, content string) digest.Digest {
	t.Helper()
	d := digest.FromString(content)
	u, err := s.Uploads.New(t.Context(), repo)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(u, content); err != nil {
		t.Fatal(err)
	}
	if _, err := u.Commit(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	return d
}

func pushManifest(t *testing.T, s *store.Store, repo string, config, layer digest.Digest) digest.Digest {
	t.Helper()
	body := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":6},`+
		`"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":%q,"size":5}]}`, ocispec.MediaTypeImageManifest, config, layer)
	m, err := s.Manifests.Put(t.Context(), repo, []byte(body), store.PutOptions{MediaType: ocispec.MediaTypeImageManifest})
	if err != nil {
		t.Fatal(err)
	}
	return m.Digest
}

func at(c *clock) gc.Options {
	now := c.now().Add(-time.Minute)
	return gc.Options{Before: now, UploadsBefore: now, RunsBefore: now}
}

func plan(t *testing.T, s *store.Store, o gc.Options) *gc.Plan {
	t.Helper()
	p, err := gc.MakePlan(t.Context(), s.Garbage, o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func execute(t *testing.T, p *gc.Plan, s *store.Store) gc.Result {
	t.Helper()
	r, err := p.Execute(t.Context(), s.Garbage, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func held(t *testing.T, s *store.Store, repo string, d digest.Digest) bool {
	t.Helper()
	b, err := s.Blobs.Open(t.Context(), repo, d)
	if errors.Is(err, store.ErrNotFound) {
		return false
	}
	if err != nil {
		t.Fatal(err)
	}
	b.Close()
	return true
}

func TestPlan_Execute(t *testing.T) {
	t.Run("a blob with a reference stays, one without goes", func(t *testing.T) {
		s, c := open(t)
		config, layer := push(t, s, "a", "config"), push(t, s, "a", "layer")
		pushManifest(t, s, "a", config, layer)
		orphan := push(t, s, "a", "orphan")
		c.advance(aged)

		p := plan(t, s, at(c))
		if len(p.Blobs) != 1 || p.Blobs[0] != (gc.Blob{Digest: orphan, Size: 6}) || p.Sum.Bytes != 6 {
			t.Errorf("plan is %+v", p)
		}
		if again := plan(t, s, at(c)); len(again.Blobs) != 1 {
			t.Errorf("a plan that was not executed changed the next one to %+v", again)
		}
		if r := execute(t, p, s); r != (gc.Result{Blobs: 1, Bytes: 6}) {
			t.Errorf("removed %+v", r)
		}
		if held(t, s, "a", orphan) || !held(t, s, "a", config) || !held(t, s, "a", layer) {
			t.Error("the wrong blobs went")
		}
	})

	t.Run("a blob that came into use after the plan stays", func(t *testing.T) {
		s, c := open(t)
		config, layer := push(t, s, "a", "config"), push(t, s, "a", "layer")
		c.advance(aged)
		p := plan(t, s, at(c))
		if len(p.Blobs) != 2 {
			t.Fatalf("plan is %+v", p)
		}
		pushManifest(t, s, "a", config, layer)
		if r := execute(t, p, s); r != (gc.Result{}) {
			t.Errorf("removed %+v", r)
		}
		if !held(t, s, "a", config) || !held(t, s, "a", layer) {
			t.Error("blobs of a manifest went")
		}
	})

	t.Run("within the grace period every blob stays", func(t *testing.T) {
		s, c := open(t)
		push(t, s, "a", "fresh")
		c.advance(30 * time.Second)
		if p := plan(t, s, at(c)); len(p.Blobs) != 0 {
			t.Errorf("plan is %+v", p)
		}
	})

	t.Run("an abandoned upload goes", func(t *testing.T) {
		s, c := open(t)
		u, err := s.Uploads.New(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(u, "half"); err != nil {
			t.Fatal(err)
		}
		if err := u.Close(); err != nil {
			t.Fatal(err)
		}
		c.advance(aged)
		p := plan(t, s, at(c))
		if len(p.Uploads) != 1 || p.Uploads[0].ID != u.ID() || p.Sum.Bytes < 4 {
			t.Errorf("plan is %+v", p)
		}
		if r := execute(t, p, s); r != (gc.Result{Uploads: 1, Bytes: p.Sum.Bytes}) {
			t.Errorf("removed %+v", r)
		}
		if _, err := s.Uploads.Resume(t.Context(), "a", u.ID()); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("resuming gives %v", err)
		}
	})

	t.Run("a run keeps its blobs until it is stale", func(t *testing.T) {
		s, c := open(t)
		run, err := s.Runs.Begin(t.Context(), "test")
		if err != nil {
			t.Fatal(err)
		}
		desc := ocispec.Descriptor{Digest: digest.FromString("staged"), Size: 6}
		if err := run.PutBlob(t.Context(), "a", desc, strings.NewReader("staged")); err != nil {
			t.Fatal(err)
		}
		c.advance(aged)
		young := at(c)
		young.RunsBefore = c.now().Add(-2 * aged)
		if p := plan(t, s, young); len(p.Blobs)+len(p.Runs) != 0 {
			t.Errorf("with a live run the plan is %+v", p)
		}
		if r := execute(t, plan(t, s, at(c)), s); r != (gc.Result{Runs: 1}) {
			t.Errorf("first removed %+v", r)
		}
		if r := execute(t, plan(t, s, at(c)), s); r != (gc.Result{Blobs: 1, Bytes: 6}) {
			t.Errorf("then removed %+v", r)
		}
	})
}

func TestPlan_Execute_batches(t *testing.T) {
	s, c := open(t)
	const n = 600 // more than one batch
	run, err := s.Runs.Begin(t.Context(), "test")
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		content := fmt.Sprintf("blob %03d", i)
		if err := run.PutBlob(t.Context(), "a", ocispec.Descriptor{Digest: digest.FromString(content), Size: 8}, strings.NewReader(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := run.Abort(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.advance(aged)
	p := plan(t, s, at(c))
	if p.Sum.Bytes != n*8 {
		t.Fatalf("the plan has %d bytes", p.Sum.Bytes)
	}

	ctx, cancel := context.WithCancel(t.Context())
	var seen []gc.Result
	first, err := p.Execute(ctx, s.Garbage, func(r gc.Result) {
		seen = append(seen, r)
		cancel()
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
	if len(seen) != 1 || seen[0] != first || first.Blobs == 0 || first.Blobs == n {
		t.Errorf("cancelled after the first batch, it reports %+v and returns %+v", seen, first)
	}
	rest := execute(t, plan(t, s, at(c)), s)
	if first.Blobs+rest.Blobs != n || first.Bytes+rest.Bytes != n*8 {
		t.Errorf("removed %+v and then %+v", first, rest)
	}
}
