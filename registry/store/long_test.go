package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// An index may list thousands of manifests, each of which refers to the next: with the index all
// go, each looked at only when what held it went.
func TestStore_DeleteManifest_chain(t *testing.T) {
	f := newFixture(t)
	const length = 40
	config := f.blob("app", "{}")
	var children []ocispec.Descriptor
	var subject *ocispec.Descriptor
	for i := range length {
		body := mustJSON(ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
			Config: config, Layers: []ocispec.Descriptor{}, Subject: subject, Annotations: map[string]string{"n": fmt.Sprint(i)}})
		m, err := f.Manifests.Put(f.ctx, "app", body, PutOptions{})
		f.must(err)
		d := m.Descriptor()
		children, subject = append([]ocispec.Descriptor{d}, children...), &d
	}
	top, err := f.Manifests.Put(f.ctx, "app", index(children...), PutOptions{Tags: []string{"v1"}})
	f.must(err)
	f.must(f.Manifests.Delete(f.ctx, "app", top.Digest))
	if n := f.count(`SELECT count(*) FROM manifests`); n != 0 {
		t.Errorf("%d manifests are left", n)
	}
	if n, err := f.Garbage.Dropped(f.ctx, false); n != length+1 || err != nil {
		t.Errorf("%d manifests are counted, %v", n, err)
	}
}

// nested pushes an index of indexes of images, each with a signature that has a tag of its own.
func (f *fixture) nested(indexes, images int) (top Manifest) {
	f.t.Helper()
	var all []ocispec.Descriptor
	for i := range indexes {
		var children []ocispec.Descriptor
		for j := range images {
			img := f.pushImage("app", fmt.Sprint("image ", i, " ", j))
			f.signed("app", fmt.Sprint("signature ", i, " ", j), byPush, &img, fmt.Sprintf("signature-%d-%d", i, j))
			children = append(children, img.Descriptor())
		}
		list, err := f.Manifests.Put(f.ctx, "app", index(children...), PutOptions{})
		f.must(err)
		all = append(all, list.Descriptor())
	}
	top, err := f.Manifests.Put(f.ctx, "app", index(all...), PutOptions{Tags: []string{"top"}})
	f.must(err)
	return top
}

// The manifests that go with an index go in parts, between which other writes have their turn.
func TestStore_DeleteImage_nested(t *testing.T) {
	f := newFixture(t)
	top := f.nested(3, 10)
	f.part = 0
	var gone []digest.Digest
	most := f.mostAtOnce("manifests", func() {
		var err error
		gone, err = f.Manifests.DeleteImage(f.ctx, "app", top.Digest)
		f.must(err)
	})
	const all = 1 + 3 + 3*10*2
	if n := f.count(`SELECT (SELECT count(*) FROM manifests) + (SELECT count(*) FROM removals) + (SELECT count(*) FROM tags)`); n != 0 || len(gone) != all {
		t.Errorf("%d rows are left; told of %d manifests", n, len(gone))
	}
	if most > all/2 {
		t.Errorf("%d manifests went in one transaction", most)
	}
	if n, err := f.Garbage.Dropped(f.ctx, false); n != all || err != nil {
		t.Errorf("%d manifests are counted, %v", n, err)
	}
}

// A deletion that was cut short goes on, but not with what was pushed again meanwhile.
func TestStore_DeleteImage_cutShort(t *testing.T) {
	f := newFixture(t)
	top := f.nested(2, 3)
	again := f.pushImage("app", "image 0 0") // is a child of the first
	held, err := f.Manifests.Put(f.ctx, "app", again.Body, PutOptions{})
	f.must(err)
	signature := f.signed("app", "signature 0 0", byPush, &again)
	f.part = 0
	ctx, stop := context.WithCancel(f.ctx)
	parts := 0
	end := f.afterCommits(func() {
		if parts++; parts == 2 { // the first has removed the image
			stop()
		}
	})
	if _, err := f.Manifests.DeleteImage(ctx, "app", top.Digest); !errors.Is(err, context.Canceled) {
		t.Fatalf("it was not cut short: %v", err)
	}
	end()
	if f.holds("app", top) || f.count(`SELECT count(*) FROM removals`) == 0 {
		t.Error("nothing is left to do")
	}
	again, err = f.Manifests.Put(f.ctx, "app", held.Body, PutOptions{Tags: []string{"again"}})
	f.must(err)
	signature, err = f.Manifests.Put(f.ctx, "app", signature.Body, PutOptions{})
	f.must(err)
	f.reopen()
	f.must(f.Maintain(f.ctx))
	f.mustHold("afterwards", "app", true, map[string]Manifest{"image": again, "its signature": signature})
	if n := f.count(`SELECT count(*) FROM manifests`); n != 2 {
		t.Errorf("%d manifests are left", n)
	}
	if n := f.count(`SELECT count(*) FROM removals`); n != 0 {
		t.Errorf("%d are left to do", n)
	}
}

// What a deletion asks grows with the image, and not with what else there is.
func TestStore_DeleteManifest_plans_SQLite(t *testing.T) {
	f := newFixture(t)
	for name, text := range map[string]string{
		"children": allChildren, "belongings": allBelongings, "orphans": orphans, "tagged": allTagged, "held": allLinked, "unlink": unlinkAll,
	} {
		for line := range strings.Lines(f.explain(text, 1, "[]")) {
			if strings.HasPrefix(line, "SCAN") && !strings.Contains(line, "VIRTUAL TABLE") {
				t.Errorf("%s: %s", name, line)
			}
			if strings.Contains(line, "tags USING PRIMARY KEY (repository=?)") { // by the check of the foreign key, also without statistics
				t.Errorf("%s looks at all tags of the repository: %s", name, line)
			}
		}
	}
}

// The tags of a manifest that is deleted go in parts, between which other writes have their turn.
func TestStore_DeleteManifest_manyTags(t *testing.T) {
	f := newFixture(t)
	m := f.pushImage("app", "app", "v1")
	f.corrupt(fmt.Sprintf(`WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d)
		INSERT INTO tags (repository, name, digest, updated, checked) SELECT (SELECT id FROM repositories), 't' || i, ?, 1, 0 FROM n`,
		2*tagBatch), m.Digest)
	most := f.mostAtOnce("tags", func() { f.must(f.Manifests.Delete(f.ctx, "app", m.Digest)) })
	if n := f.count(`SELECT count(*) FROM tags`); n != 0 {
		t.Errorf("%d tags are left", n)
	}
	if most > tagBatch {
		t.Errorf("%d tags went in one transaction", most)
	}
	if moves, err := f.Tags.history(f.ctx, "app", "t1"); err != nil || len(moves) != 1 || moves[0].Was != m.Digest {
		t.Errorf("the history of a tag is %v, %v", moves, err)
	}
}

// mostAtOnce does something, and reports how many rows of a table went in one transaction at most.
func (f *fixture) mostAtOnce(table string, do func()) (most int) {
	f.t.Helper()
	left := f.count(`SELECT count(*) FROM ` + table)
	defer f.afterCommits(func() {
		n := f.count(`SELECT count(*) FROM ` + table)
		left, most = n, max(most, left-n)
	})()
	do()
	return most
}

func TestStore_EvictPulled_manyTags(t *testing.T) {
	f := newFixture(t)
	m := f.pull("hub", "app")
	f.corrupt(fmt.Sprintf(`WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d)
		INSERT INTO tags (repository, name, digest, updated, checked) SELECT (SELECT id FROM repositories), 't' || i, ?, 1, 0 FROM n`,
		2*tagBatch), m.Digest)
	most := f.mostAtOnce("tags", func() {
		_, bytes, err := f.Garbage.EvictPulled(f.ctx, 0)
		if err != nil || bytes != evictedLayer+2 {
			t.Errorf("%d bytes are freed, %v", bytes, err)
		}
	})
	if f.holds("hub", m) || most > tagBatch {
		t.Errorf("it is held: %t; %d tags went in one transaction", f.holds("hub", m), most)
	}
}

// What belongs to an image that is evicted goes with it, one after the other, also
// beyond what was to be freed.
func TestStore_EvictPulled_manyReferrers(t *testing.T) {
	f := newFixture(t)
	img, err := f.Manifests.PutPulled(f.ctx, "hub", manifestOf(f.blob("hub", "config")), PutOptions{Tags: []string{"v1"}})
	f.must(err)
	belonging := map[string]Manifest{"image": img}
	for i := range 30 {
		name := fmt.Sprint("referrer ", i)
		belonging[name] = f.signed("hub", name, byPull, &img)
		f.clock.add(time.Second) // asked for later
	}
	last := belonging["referrer 29"]
	belonging["of the last"] = f.signed("hub", "of the last", byPull, &last)
	kept := f.pull("other", "kept")
	f.part = 0
	held, err := f.evictableBytes(f.ctx)
	f.must(err)
	most := f.mostAtOnce("repository_manifests", func() {
		_, _, err := f.Garbage.EvictPulled(f.ctx, held-1)
		f.must(err)
	})
	f.mustHold("after eviction", "hub", false, belonging)
	f.mustHold("after eviction", "other", true, map[string]Manifest{"kept": kept})
	if most != 1 {
		t.Errorf("%d manifests went in one transaction", most)
	}
}

// What belongs to an image goes with it, unless the image is pushed again before its turn has come:
// then it may be new, too.
func TestStore_DeleteImage_pushedAgainMeanwhile(t *testing.T) {
	for _, again := range []bool{false, true} {
		f := newFixture(t)
		img := f.pushImage("app", "app")
		signature := f.signed("app", "signature", byPush, &img)
		f.part = 0
		r := &removal{store: f.core, whole: true}
		f.must(f.db.Write(f.ctx, func(tx *sql.Tx) error {
			id, err := repositoryID(f.ctx, tx, "app")
			f.must(err)
			return r.begin(f.ctx, tx, id, img.Digest)
		}))
		if f.holds("app", img) || !r.left {
			t.Fatal("it is not cut short after the image")
		}
		if again {
			for _, m := range []Manifest{img, signature} {
				_, err := f.Manifests.Put(f.ctx, "app", m.Body, PutOptions{})
				f.must(err)
			}
		}
		f.must(r.finish(f.ctx))
		f.mustHold("afterwards", "app", again, map[string]Manifest{"image": img, "signature": signature})
	}
}

func TestStore_DeleteImage_signatureWithManyTags(t *testing.T) {
	f := newFixture(t)
	img := f.pushImage("app", "app")
	signature := f.signed("app", "signature", byPush, &img)
	f.corrupt(fmt.Sprintf(`WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d)
		INSERT INTO tags (repository, name, digest, updated, checked) SELECT (SELECT id FROM repositories), 't' || i, ?, 1, 0 FROM n`,
		2*tagBatch), signature.Digest)
	f.part = 0
	most := f.mostAtOnce("tags", func() {
		_, err := f.Manifests.DeleteImage(f.ctx, "app", img.Digest)
		f.must(err)
	})
	if n := f.count(`SELECT count(*) FROM tags`); n != 0 || most > tagBatch || f.holds("app", signature) {
		t.Errorf("%d tags are left, %d went in one transaction", n, most)
	}
}
