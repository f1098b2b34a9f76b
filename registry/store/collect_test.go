package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/registry/store/guard"
)

func (f *fixture) garbage(before time.Time) []digest.Digest {
	f.t.Helper()
	var found []digest.Digest
	f.must(f.Garbage.GarbageBlobs(f.ctx, before, func(d digest.Digest, size int64) error {
		found = append(found, d)
		if info, err := os.Stat(f.path(d)); err != nil || info.Size() != size {
			f.t.Errorf("%s: said to have %d bytes: %v", d, size, err)
		}
		return nil
	}))
	return found
}

// later moves the clock past a grace period and gives the time that collection goes by.
func (f *fixture) later() time.Time {
	f.clock.add(time.Hour)
	before := f.clock.now()
	f.clock.add(time.Hour)
	return before
}

// Invariant 5, row by row: each of these keeps a blob, and without it the blob goes.
func TestCollect_WhatKeepsABlob(t *testing.T) {
	const content = "the blob"
	d := digest.FromString(content)
	for _, test := range []struct {
		name string
		hold func(f *fixture) (release func())
	}{
		{"layer of a manifest", func(f *fixture) func() {
			m, err := f.Manifests.Put(f.ctx, "app", manifestOf(f.blob("app", "{}"), f.blob("app", content)), PutOptions{})
			f.must(err)
			return func() { f.must(f.Manifests.Delete(f.ctx, "app", m.Digest)) }
		}},
		{"config of a manifest", func(f *fixture) func() {
			m, err := f.Manifests.Put(f.ctx, "app", manifestOf(f.blob("app", content)), PutOptions{})
			f.must(err)
			return func() { f.must(f.Manifests.Delete(f.ctx, "app", m.Digest)) }
		}},
		{"child of an index, as builders push their cache", func(f *fixture) func() {
			m, err := f.Manifests.Put(f.ctx, "app", index(f.blob("app", content)), PutOptions{})
			f.must(err)
			return func() { f.must(f.Manifests.Delete(f.ctx, "app", m.Digest)) }
		}},
		{"manifest of another repository", func(f *fixture) func() {
			m, err := f.Manifests.Put(f.ctx, "other", manifestOf(f.blob("other", content)), PutOptions{})
			f.must(err)
			f.blob("app", content)
			f.must(f.Blobs.Delete(f.ctx, "app", d))
			return func() { f.must(f.Manifests.Delete(f.ctx, "other", m.Digest)) }
		}},
		{"blob of a run", func(f *fixture) func() {
			r, err := f.Runs.Begin(f.ctx, "run")
			f.must(err)
			f.must(r.PutBlob(f.ctx, "app", descriptor("x/y", []byte(content)), strings.NewReader(content)))
			return func() { f.must(r.Abort(f.ctx)) }
		}},
		{"blob that a run found", func(f *fixture) func() {
			f.blob("other", content)
			r, err := f.Runs.Begin(f.ctx, "run")
			f.must(err)
			if has, err := hasBlob(f.ctx, r, "other", d); err != nil || !has {
				f.t.Fatal(has, err)
			}
			return func() { f.must(r.Abort(f.ctx)) }
		}},
		{"layer of a manifest that a run has staged", func(f *fixture) func() {
			f.blob("app", content)
			r, err := f.Runs.Begin(f.ctx, "run")
			f.must(err)
			body := manifestOf(descriptor("x/y", []byte(content)))
			f.must(r.PutManifest(f.ctx, "app", descriptor(ocispec.MediaTypeImageManifest, body), body))
			return func() { f.must(r.Abort(f.ctx)) }
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t)
			release := test.hold(f)
			f.must(f.touch(d, f.clock.now()))
			before := f.later()
			if got := f.garbage(before); slices.Contains(got, d) {
				t.Error("it is garbage")
			}
			if _, _, err := f.Garbage.RemoveBlobs(f.ctx, before, []digest.Digest{d}); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(f.path(d)); err != nil {
				t.Fatalf("it was removed: %v", err)
			}
			release()
			if got := f.garbage(before); !slices.Contains(got, d) {
				t.Error("released, it is no garbage")
			}
			n, bytes, err := f.Garbage.RemoveBlobs(f.ctx, before, []digest.Digest{d, d})
			if n != 1 || bytes != int64(len(content)) || err != nil {
				t.Errorf("removed %d, %d bytes, %v", n, bytes, err)
			}
			if _, err := os.Stat(f.path(d)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("its file is left: %v", err)
			}
			_, err = f.Blobs.Stat(f.ctx, "app", d)
			isNotFound(t, err)
		})
	}
}

// touch gives a blob's file a time, as the tests' clock is not that of the files.

func TestCollect_RecentUse(t *testing.T) {
	const content = "the blob"
	d := digest.FromString(content)
	for name, use := range map[string]func(f *fixture) error{
		"pushed again": func(f *fixture) error { f.blob("app", content); return nil },
		"asked for":    func(f *fixture) error { _, err := f.Blobs.Stat(f.ctx, "app", d); return err },
		"asked for before a restart": func(f *fixture) error {
			_, err := f.Blobs.Stat(f.ctx, "app", d)
			f.reopen()
			return err
		},
		"mounted": func(f *fixture) error { _, err := f.Blobs.Mount(f.ctx, "other", "app", d); return err },
		"pulled": func(f *fixture) error {
			b, err := f.Blobs.Open(f.ctx, "app", d)
			if err == nil {
				err = b.Close()
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.blob("app", content)
			before := f.later()
			if got := f.garbage(before); len(got) != 1 {
				t.Fatalf("unused, it is no garbage: %v", got)
			}
			f.must(use(f))
			if got := f.garbage(before); len(got) != 0 {
				t.Error("it is garbage")
			}
			// Planned before it was used, executed after.
			if n, _, err := f.Garbage.RemoveBlobs(f.ctx, before, []digest.Digest{d}); n != 0 || err != nil {
				t.Fatalf("removed %d, %v", n, err)
			}
			if got := f.read("app", d); got != content {
				t.Errorf("got %q", got)
			}
			before = f.later()
			if n, _, err := f.Garbage.RemoveBlobs(f.ctx, before, []digest.Digest{d}); n != 1 || err != nil {
				t.Errorf("after the grace period: removed %d, %v", n, err)
			}
		})
	}
}

func TestCollect_FilesWithoutARow(t *testing.T) {
	f := newFixture(t)
	held := f.blob("app", "held")
	dir := filepath.Dir(f.path(held.Digest))
	orphan := digest.NewDigestFromEncoded(digest.SHA256, held.Digest.Encoded()[:2]+strings.Repeat("0", 62))
	f.must(os.WriteFile(f.path(orphan), []byte("orphan"), 0o600))
	f.must(os.WriteFile(filepath.Join(dir, "README"), []byte("not ours"), 0o600))
	f.must(os.WriteFile(filepath.Join(f.storage(), "sha256", "note"), []byte("not ours"), 0o600))

	if got := f.garbage(time.Now().Add(-time.Hour)); len(got) != 0 {
		t.Errorf("a new file is garbage: %v", got)
	}
	before := time.Now().Add(time.Minute)
	f.clock.add(2 * time.Minute)
	_, err := f.Blobs.Stat(f.ctx, "app", held.Digest) // keeps it
	f.must(err)
	if got := f.garbage(before); !slices.Equal(got, []digest.Digest{orphan}) {
		t.Fatalf("got %v, want %s", got, orphan)
	}
	if n, _, err := f.Garbage.RemoveBlobs(f.ctx, time.Now().Add(-time.Hour), []digest.Digest{orphan}); n != 0 || err != nil {
		t.Errorf("a new file: removed %d, %v", n, err)
	}
	n, bytes, err := f.Garbage.RemoveBlobs(f.ctx, before, []digest.Digest{orphan})
	if n != 1 || bytes != 6 || err != nil {
		t.Errorf("removed %d, %d bytes, %v", n, bytes, err)
	}
	if left := f.list("sha256"); len(left) != 3 {
		t.Errorf("left: %v", left)
	}
}

func TestCollect_ManyPages(t *testing.T) {
	f := newFixture(t)
	var want []digest.Digest
	db := f.direct()
	tx, err := db.Begin()
	f.must(err)
	for i := range 2*garbagePage.quiet + 10 {
		d := digest.FromString(fmt.Sprint("blob", i))
		want = append(want, d)
		_, err := tx.Exec(`INSERT INTO blobs (digest, size, created) VALUES (?, 1, 1)`, d)
		f.must(err)
	}
	f.must(errors.Join(tx.Commit(), db.Close()))
	slices.Sort(want)
	var got []digest.Digest
	f.must(f.Garbage.GarbageBlobs(f.ctx, f.clock.now(), func(d digest.Digest, _ int64) error { got = append(got, d); return nil }))
	if !slices.Equal(got, want) {
		t.Errorf("got %d, want %d", len(got), len(want))
	}
	if _, _, err := f.Garbage.RemoveBlobs(f.ctx, f.clock.now(), got); err != nil {
		t.Fatal(err)
	}
	if n := f.count(`SELECT count(*) FROM blobs`); n != 0 {
		t.Errorf("%d rows are left", n)
	}
	stop := errors.New("stop")
	f.blob("app", "x")
	if err := f.Garbage.GarbageBlobs(f.ctx, f.later(), func(digest.Digest, int64) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("got %v", err)
	}
}

// A commit of what collection is removing waits, and then stands.
func TestCollect_CommitWaitsForRemoval(t *testing.T) {
	f := newFixture(t)
	d := f.blob("app", "content").Digest
	before := f.later()
	if !f.blobGuard().Mark(d, before) {
		t.Fatal("not marked")
	}
	_, err := f.Blobs.Stat(f.ctx, "app", d) // its row is there still, but it is as good as gone
	isNotFound(t, err)

	ended, end := context.WithCancel(f.ctx)
	end()
	if err := f.blobGuard().Enter(ended, d); !errors.Is(err, context.Canceled) {
		t.Fatalf("it did not wait: %v", err)
	}

	done := make(chan error)
	u, err := f.Uploads.New(f.ctx, "app")
	f.must(err)
	write(t, u, "content")
	go func() { _, err := u.Commit(f.ctx, d); done <- err }()
	f.exec(`DELETE FROM blobs`)
	f.must(os.Remove(f.path(d)))
	f.blobGuard().Unmark(d)
	f.must(<-done)
	if got := f.read("app", d); got != "content" {
		t.Errorf("got %q", got)
	}
}

func TestCollect_InFlightIsSpared(t *testing.T) {
	f := newFixture(t)
	d := f.blob("app", "content").Digest
	before := f.later()
	f.must(f.blobGuard().Enter(f.ctx, d))
	if got := f.garbage(before); len(got) != 0 {
		t.Errorf("it is garbage: %v", got)
	}
	if n, _, err := f.Garbage.RemoveBlobs(f.ctx, before, []digest.Digest{d}); n != 0 || err != nil {
		t.Errorf("removed %d, %v", n, err)
	}
	f.blobGuard().Leave(d)
	if n, _, err := f.Garbage.RemoveBlobs(f.ctx, before, []digest.Digest{d}); n != 1 || err != nil {
		t.Errorf("removed %d, %v", n, err)
	}
}

// Everything at once, with no grace period at all: pushes, pulls, deletes, runs and collection over
// the same few blobs. Whatever a push was told stands, and at the end every row's file is whole.
func TestCollect_AgainstEverybody(t *testing.T) {
	f := newFixture(t)
	f.Store.now = time.Now
	f.guard = f.inMemory()
	const rounds = 20
	var pushers, collectors sync.WaitGroup
	var pushed atomic.Int64
	stop := make(chan struct{})
	for p := range 4 {
		pushers.Go(func() {
			for i := range rounds {
				if f.pushCheckDelete(fmt.Sprintf("repo%d", p), fmt.Sprint("shared", i%3)) {
					pushed.Add(1)
				}
			}
		})
	}
	collectors.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				f.collect(time.Now())
			}
		}
	})
	pushers.Wait()
	close(stop)
	collectors.Wait()
	f.verify()
	if pushed.Load() == 0 {
		t.Error("no push was acknowledged, so nothing was shown")
	}
}

// pushCheckDelete pushes an image as clients do, skipping blobs that are held, reads
// it, and deletes it. It reports whether the push was acknowledged: a collection may be
// faster time and again.
func (f *fixture) pushCheckDelete(repo, name string) bool {
	layer := "layer of " + name
	for range 20 {
		if _, err := f.Blobs.Stat(f.ctx, repo, digest.FromString(layer)); errors.Is(err, ErrNotFound) {
			f.blobOrError(repo, layer)
		}
		f.blobOrError(repo, "{}")
		m, err := f.Manifests.Put(f.ctx, repo, manifestOf(descriptor("x/y", []byte("{}")), descriptor("x/y", []byte(layer))), PutOptions{Tags: []string{name}})
		var missing *MissingError
		if errors.As(err, &missing) {
			continue // collected between the two, as there is no grace period: the client pushes again
		}
		if err != nil {
			f.t.Error(err)
			return false
		}
		b, err := f.Blobs.Open(f.ctx, repo, digest.FromString(layer))
		if err != nil {
			f.t.Errorf("an image that was acknowledged has no layer: %v", err)
			return false
		}
		if d, err := digest.FromReader(b); err != nil || d != digest.FromString(layer) {
			f.t.Errorf("a layer hashes to %s: %v", d, err)
		}
		if err := errors.Join(b.Close(), f.Manifests.Delete(f.ctx, repo, m.Digest)); err != nil {
			f.t.Error(err)
		}
		return true
	}
	return false
}

func (f *fixture) blobOrError(repo, content string) {
	u, err := f.Uploads.New(f.ctx, repo)
	if err != nil {
		f.t.Error(err)
		return
	}
	_, err = u.Write([]byte(content))
	if err == nil {
		_, err = u.Commit(f.ctx, digest.FromString(content))
	}
	if err != nil {
		f.t.Error(err)
	}
}

func (f *fixture) collect(before time.Time) {
	var plan []digest.Digest
	err := f.Garbage.GarbageBlobs(f.ctx, before, func(d digest.Digest, _ int64) error { plan = append(plan, d); return nil })
	if err == nil {
		_, _, err = f.Garbage.RemoveBlobs(f.ctx, before, plan)
	}
	if err != nil {
		f.t.Error(err)
	}
}

// verify checks invariants 1 and 3 over all rows, and returns how many blobs there are.
func (f *fixture) verify() (blobs int) {
	f.t.Helper()
	rows, err := f.db.Reader().Query(`SELECT digest, size FROM blobs`)
	f.must(err)
	defer rows.Close()
	for rows.Next() {
		var d digest.Digest
		var size int64
		f.must(rows.Scan(&d, &size))
		blobs++
		content, err := os.ReadFile(f.path(d))
		if err != nil || int64(len(content)) != size || d.Algorithm().FromBytes(content) != d {
			f.t.Errorf("row %s names a file that is not whole: %d bytes of %d, %v", d, len(content), size, err)
		}
	}
	f.must(rows.Err())
	manifests, err := f.db.Reader().Query(`SELECT digest, body FROM manifests`)
	f.must(err)
	defer manifests.Close()
	for manifests.Next() {
		var d digest.Digest
		var body []byte
		f.must(manifests.Scan(&d, &body))
		if d.Algorithm().FromBytes(body) != d {
			f.t.Errorf("manifest %s has other bytes", d)
		}
	}
	f.must(manifests.Err())
	if n := f.count(`SELECT count(*) FROM manifest_refs r WHERE kind <> 'child' AND elsewhere = 0
		AND NOT EXISTS (SELECT 1 FROM blobs b WHERE b.digest = r.digest)`); n != 0 {
		f.t.Errorf("%d manifests' blobs are not held", n)
	}
	return blobs
}

// Whatever the grace period: a collection that comes between a layer and its manifest
// would have the push fail.
func TestCollect_LeavesPushesTheirBlobs(t *testing.T) {
	const content = "the blob"
	d := digest.FromString(content)
	for name, use := range map[string]func(f *fixture){
		"pushed":  func(f *fixture) { f.blob("app", content) },
		"mounted": func(f *fixture) { f.mustMount("app", d) },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.blob("old", content)
			f.later()
			use(f)
			f.mustStay(d, true)
			f.clock.add(guard.PushTakes - 3*time.Second)
			f.mustStay(d, true)

			m, err := f.Manifests.Put(f.ctx, "app", manifestOf(descriptor("x/y", []byte(content))), PutOptions{})
			f.must(err)
			f.must(f.Manifests.Delete(f.ctx, "app", m.Digest))
			f.mustStay(d, false)
		})
	}
	for name, c := range map[string]struct {
		use   func(f *fixture)
		stays bool
	}{
		"nothing":                         {func(*fixture) {}, false},
		"asked for again":                 {func(f *fixture) { f.clock.add(time.Second); f.mustStat("app", d) }, true},
		"asked for in another repository": {func(f *fixture) { f.clock.add(-time.Second); f.mustMount("other", d) }, true},
		"pulled": {func(f *fixture) {
			b, err := f.Blobs.Open(f.ctx, "app", d)
			f.must(err)
			f.must(b.Close())
		}, false},
		"deleted by who pushed it": {func(f *fixture) { f.mustMount("other", d); f.must(f.Blobs.Delete(f.ctx, "other", d)) }, false},
		"left for long":            {func(f *fixture) { f.mustMount("other", d); f.clock.add(guard.PushTakes) }, false},
	} {
		t.Run("in a manifest, then "+name, func(t *testing.T) {
			f := newFixture(t)
			m, err := f.Manifests.Put(f.ctx, "app", manifestOf(f.blob("app", content)), PutOptions{})
			f.must(err)
			c.use(f)
			f.must(f.Manifests.Delete(f.ctx, "app", m.Digest))
			f.mustStay(d, c.stays)
		})
	}
}

func (f *fixture) mustMount(repo string, d digest.Digest) {
	f.t.Helper()
	_, err := f.Blobs.Mount(f.ctx, repo, "", d)
	f.must(err)
}

func (f *fixture) mustStat(repo string, d digest.Digest) {
	f.t.Helper()
	_, err := f.Blobs.Stat(f.ctx, repo, d)
	f.must(err)
}

// mustStay collects without a grace period, and expects a blob to be left alone, or not to.
func (f *fixture) mustStay(d digest.Digest, stays bool) {
	f.t.Helper()
	before := f.clock.add(time.Second)
	if listed := slices.Contains(f.garbage(before), d); listed == stays {
		f.t.Errorf("it is garbage: %v", listed)
	}
	n, _, err := f.Garbage.RemoveBlobs(f.ctx, before, []digest.Digest{d})
	if err != nil || stays != (n == 0) {
		f.t.Errorf("%d removed, %v", n, err)
	}
}
