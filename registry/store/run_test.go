package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/internal/throttle"
)

// sync begins a run that has staged an image and a tag of it.
func (f *fixture) sync(repo, name, tag string) (*Run, Manifest) {
	f.t.Helper()
	r, err := f.Runs.Begin(f.ctx, "test")
	f.must(err)
	return r, f.stageImage(r, repo, name, tag)
}

func (f *fixture) stageImage(r *Run, repo, name, tag string) Manifest {
	f.t.Helper()
	config := []byte(`{"config of":"` + name + `"}`)
	layer := []byte("layer of " + name)
	for _, b := range [][]byte{config, layer} {
		d := descriptor("x/y", b)
		has, err := hasBlob(f.ctx, r, repo, d.Digest)
		f.must(err)
		if !has {
			f.must(r.PutBlob(f.ctx, repo, d, bytes.NewReader(b)))
		}
	}
	body := manifestOf(descriptor("x/y", config), descriptor(ocispec.MediaTypeImageLayerGzip, layer))
	desc := descriptor(ocispec.MediaTypeImageManifest, body)
	f.must(r.PutManifest(f.ctx, repo, desc, body))
	f.must(r.Tag(f.ctx, tagged(repo, tag, desc.Digest)))
	return Manifest{Digest: desc.Digest, MediaType: desc.MediaType, Body: body}
}

func TestRun_IsSeenAtOnceAndOnlyThen(t *testing.T) {
	f := newFixture(t)
	old := f.pushImage("app", "old", "v1")
	r, m := f.sync("app", "new", "v1")
	f.stageImage(r, "other/app", "new", "v2")

	check := func(when string, seen bool) {
		t.Helper()
		want := old.Digest
		if seen {
			want = m.Digest
		}
		got, err := f.Manifests.ByTag(f.ctx, "app", "v1")
		f.must(err)
		if got.Digest != want {
			t.Errorf("%s: the tag names %s, want %s", when, got.Digest, want)
		}
		_, errManifest := f.Manifests.Get(f.ctx, "app", m.Digest)
		_, errBlob := f.Blobs.Stat(f.ctx, "app", digest.FromString("layer of new"))
		_, errOther := f.Manifests.ByTag(f.ctx, "other/app", "v2")
		_, _, errTags := f.Tags.List(f.ctx, "other/app", "", -1)
		for _, err := range []error{errManifest, errBlob, errOther, errTags} {
			if (err == nil) != seen || err != nil && !errors.Is(err, ErrNotFound) {
				t.Errorf("%s: %v", when, err)
			}
		}
	}
	check("staged", false)
	f.reopen()
	check("staged, after a restart", false)
	r, err := f.Runs.Get(f.ctx, r.ID())
	f.must(err)
	f.must(r.Commit(f.ctx))
	check("committed", true)
	f.must(r.Commit(f.ctx))
	if got := f.read("other/app", digest.FromString("layer of new")); got != "layer of new" {
		t.Errorf("got %q", got)
	}
	moves, err := f.Tags.history(f.ctx, "app", "v1")
	f.must(err)
	if moves[0].Run != r.ID() || moves[0].Was != old.Digest || moves[0].Became != m.Digest {
		t.Errorf("history %+v", moves)
	}
	if n := f.count(`SELECT (SELECT count(*) FROM run_blobs) + (SELECT count(*) FROM run_manifests) + (SELECT count(*) FROM run_tags)`); n != 0 {
		t.Errorf("%d rows are left staged", n)
	}
}

func TestRun_CommittedRunIsClosed(t *testing.T) {
	f := newFixture(t)
	r, m := f.sync("app", "new", "v1")
	f.must(r.Commit(f.ctx))
	var invalid *InvalidError
	for _, err := range []error{
		r.Abort(f.ctx),
		r.Tag(f.ctx, tagged("app", "v2", m.Digest)),
		r.PutBlob(f.ctx, "app", descriptor("x/y", []byte("x")), strings.NewReader("x")),
	} {
		if !errors.As(err, &invalid) {
			t.Errorf("got %v", err)
		}
	}
	if _, err := f.Manifests.ByTag(f.ctx, "app", "v1"); err != nil {
		t.Error(err)
	}
}

func TestRun_AbortLeavesNothingButBlobs(t *testing.T) {
	f := newFixture(t)
	kept := f.pushImage("app", "kept", "v1")
	r, m := f.sync("new/app", "new", "v1")
	f.stageImage(r, "new/app", "kept", "v2")
	f.must(r.Abort(f.ctx))
	isNotFound(t, r.Abort(f.ctx))
	isNotFound(t, r.Commit(f.ctx))
	_, err := f.Runs.Get(f.ctx, r.ID())
	isNotFound(t, err)
	if n := f.count(`SELECT count(*) FROM manifests WHERE digest = ?`, m.Digest); n != 0 {
		t.Error("the manifest that only the run had is left")
	}
	_, err = f.Manifests.Get(f.ctx, "app", kept.Digest)
	f.must(err)
	if n := f.count(`SELECT count(*) FROM repositories WHERE name = 'new/app'`); n != 0 {
		t.Error("it left a repository behind")
	}
	again, err := f.Runs.Begin(f.ctx, "again")
	f.must(err)
	layer := digest.FromString("layer of new")
	_, _, unconfirmed, err := again.Existing(f.ctx, map[string][]digest.Digest{"new/app": {layer}}, nil)
	if err != nil || !slices.Equal(unconfirmed["new/app"], []digest.Digest{layer}) {
		t.Errorf("the next run does not find the blobs: %v, %v", unconfirmed, err)
	}
}

func TestRun_AbortLeavesWhatAnotherRunHas(t *testing.T) {
	f := newFixture(t)
	one, m := f.sync("app", "new", "v1")
	two, err := f.Runs.Begin(f.ctx, "two")
	f.must(err)
	f.stageImage(two, "copy", "new", "v0")
	f.must(one.Abort(f.ctx))
	f.must(two.Tag(f.ctx, tagged("copy", "v1", m.Digest)))
	f.must(two.Commit(f.ctx))
	got, err := f.Manifests.ByTag(f.ctx, "copy", "v1")
	f.must(err)
	if !bytes.Equal(got.Body, m.Body) || f.read("copy", digest.FromString("layer of new")) != "layer of new" {
		t.Error("it is not whole")
	}
}

func TestRun_PutBlob_WhatItRefuses(t *testing.T) {
	f := newFixture(t)
	r, err := f.Runs.Begin(f.ctx, "test")
	f.must(err)
	ended, end := context.WithCancel(f.ctx)
	good := descriptor("x/y", []byte("content"))
	var invalid *InvalidError
	var wrong *DigestError
	for name, test := range map[string]struct {
		ctx     context.Context
		desc    ocispec.Descriptor
		content io.Reader
		as      func(error) bool
	}{
		"too short": {f.ctx, good, strings.NewReader("cont"), func(err error) bool { return errors.As(err, &invalid) }},
		"endless":   {f.ctx, good, endless{}, func(err error) bool { return errors.As(err, &invalid) }},
		"another":   {f.ctx, good, strings.NewReader("Content"), func(err error) bool { return errors.As(err, &wrong) }},
		"stopped": {ended, good, throttle.ReaderFunc(func(p []byte) (int, error) { end(); return 1, nil }), func(err error) bool {
			return errors.Is(err, context.Canceled)
		}},
		"digest": {f.ctx, ocispec.Descriptor{Digest: "sha256:x"}, strings.NewReader(""), func(err error) bool { return errors.As(err, &invalid) }},
	} {
		t.Run(name, func(t *testing.T) {
			if err := r.PutBlob(test.ctx, "app", test.desc, test.content); !test.as(err) {
				t.Errorf("got %v", err)
			}
			if left := f.list("."); len(left) != 0 {
				t.Errorf("left over: %v", left)
			}
		})
	}
	f.must(r.PutBlob(f.ctx, "app", good, strings.NewReader("content")))
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestRun_PutManifest_WhatItRefuses(t *testing.T) {
	f := newFixture(t)
	r, err := f.Runs.Begin(f.ctx, "test")
	f.must(err)
	config := descriptor("x/y", []byte("{}"))
	body := manifestOf(config)
	var missing *MissingError
	if err := r.PutManifest(f.ctx, "app", descriptor(ocispec.MediaTypeImageManifest, body), body); !errors.As(err, &missing) {
		t.Errorf("absent blobs: %v", err)
	}
	f.blob("app", "{}")
	desc := descriptor(ocispec.MediaTypeImageManifest, body)
	desc.Size++
	var invalid *InvalidError
	if err := r.PutManifest(f.ctx, "app", desc, body); !errors.As(err, &invalid) {
		t.Errorf("wrong size: %v", err)
	}
	desc = descriptor(ocispec.MediaTypeImageManifest, body)
	desc.Digest = dA
	var wrong *DigestError
	if err := r.PutManifest(f.ctx, "app", desc, body); !errors.As(err, &wrong) {
		t.Errorf("wrong digest: %v", err)
	}
	isNotFound(t, r.Tag(f.ctx, tagged("app", "v1", digest.FromBytes(body))))
	f.must(r.PutManifest(f.ctx, "app", descriptor(ocispec.MediaTypeImageManifest, body), body))
	f.must(r.Tag(f.ctx, tagged("app", "v1", digest.FromBytes(body))))
	f.must(r.Commit(f.ctx))
	if got := f.read("app", config.Digest); got != "{}" {
		t.Errorf("the blob that was there is %q", got)
	}
}

func TestRun_CommitIsAllOrNothing(t *testing.T) {
	f := newFixture(t)
	old := f.pushImage("app", "old", "v0")
	r, m := f.sync("app", "new", "v1")
	f.must(r.Tag(f.ctx, tagged("app", "v2", old.Digest)))
	f.must(f.Manifests.Delete(f.ctx, "app", old.Digest))
	isNotFound(t, r.Commit(f.ctx))
	_, err := f.Manifests.Get(f.ctx, "app", m.Digest)
	isNotFound(t, err)
	f.must(r.Tag(f.ctx, tagged("app", "v2", m.Digest)))
	f.must(r.Commit(f.ctx))
	_, err = f.Manifests.ByTag(f.ctx, "app", "v2")
	f.must(err)
}

func TestRun_Tag_MoreThanABatch(t *testing.T) {
	f := newFixture(t)
	r, m := f.sync("app", "new", "v0")
	tags := map[string]digest.Digest{}
	for i := range 2*runBatch + 1 {
		tags[fmt.Sprint("v", i)] = m.Digest
	}
	f.must(r.Tag(f.ctx, map[string]map[string]digest.Digest{"app": tags}))
	f.must(r.Commit(f.ctx))
	if got, _, err := f.Tags.List(f.ctx, "app", "", -1); err != nil || len(got) != len(tags) {
		t.Errorf("%d tags, want %d (%v)", len(got), len(tags), err)
	}
}

func TestRun_Tag_SaysWhichCannotBe(t *testing.T) {
	f := newFixture(t)
	r, m := f.sync("app", "new", "v0")
	err := r.Tag(f.ctx, map[string]map[string]digest.Digest{"app": {"good": m.Digest, "bad": dA}})
	isNotFound(t, err)
	if !strings.Contains(err.Error(), "app:bad") {
		t.Errorf("got %v", err)
	}
	var invalid *InvalidError
	if err := r.Tag(f.ctx, tagged("app", "no/tag", m.Digest)); !errors.As(err, &invalid) {
		t.Errorf("got %v", err)
	}
}

func TestStore_StaleRuns(t *testing.T) {
	f := newFixture(t)
	stale, _ := f.sync("app", "stale", "v1")
	committed, _ := f.sync("app", "committed", "v2")
	f.must(committed.Commit(f.ctx))
	lively, _ := f.sync("app", "lively", "v3")
	before := f.clock.add(time.Hour)
	f.clock.add(time.Second)
	_, err := hasBlob(f.ctx, lively, "app", dA)
	f.must(err)

	list := func() (ids []string) {
		t.Helper()
		f.must(f.Garbage.StaleRuns(f.ctx, before, func(id string) error { ids = append(ids, id); return nil }))
		return ids
	}
	if got := list(); len(got) != 1 || got[0] != stale.ID() {
		t.Fatalf("stale: %v, want %s", got, stale.ID())
	}
	f.guard.Runs.Enter(stale.ID()) // a blob of it is on its way, for longer than that
	f.must(f.Garbage.RemoveRun(f.ctx, before, stale.ID()))
	if got := list(); len(got) != 0 {
		t.Errorf("a run with a blob on its way is stale: %v", got)
	}
	f.guard.Runs.Leave(stale.ID())
	for _, r := range []*Run{stale, committed, lively} {
		f.must(f.Garbage.RemoveRun(f.ctx, before, r.ID()))
	}
	_, err = f.Runs.Get(f.ctx, stale.ID())
	isNotFound(t, err)
	f.must(lively.Commit(f.ctx))
	_, err = f.Manifests.ByTag(f.ctx, "app", "v2")
	f.must(err)
}
