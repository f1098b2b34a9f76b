package store

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// An index may list thousands of manifests, each of which refers to the next: with the index all go, each looked at only
// when what held it went.
func TestStore_DeleteManifest_chain(t *testing.T) {
	f := newFixture(t)
	const length = 40
	config := f.blob("app", "{}")
	var children []ocispec.Descriptor
	var subject *ocispec.Descriptor
	for i := range length {
		body := mustJSON(ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
			Config: config, Layers: []ocispec.Descriptor{}, Subject: subject, Annotations: map[string]string{"n": fmt.Sprint(i)}})
		m, err := f.PutManifest(f.ctx, "app", body, PutOptions{})
		f.must(err)
		d := m.Descriptor()
		children, subject = append([]ocispec.Descriptor{d}, children...), &d
	}
	top, err := f.PutManifest(f.ctx, "app", index(children...), PutOptions{Tags: []string{"v1"}})
	f.must(err)
	f.must(f.DeleteManifest(f.ctx, "app", top.Digest))
	if n := f.count(`SELECT count(*) FROM manifests`); n != 0 {
		t.Errorf("%d manifests are left", n)
	}
	if n, err := f.Dropped(f.ctx, false); n != length+1 || err != nil {
		t.Errorf("%d manifests are counted, %v", n, err)
	}
}

// What a deletion asks grows with the image, and not with what else there is.
func TestStore_DeleteManifest_plans(t *testing.T) {
	f := newFixture(t)
	for name, text := range map[string]string{
		"children": allChildren, "belongings": allBelongings, "orphans": orphans, "tagged": allTagged, "unlink": unlinkAll,
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
	left, most := 2*tagBatch+1, 0
	f.group.now = func() time.Time { // is asked before and after each write
		n := f.count(`SELECT count(*) FROM tags`)
		left, most = n, max(most, left-n)
		return time.Now()
	}
	f.must(f.DeleteManifest(f.ctx, "app", m.Digest))
	if n := f.count(`SELECT count(*) FROM tags`); n != 0 {
		t.Errorf("%d tags are left", n)
	}
	if most > tagBatch {
		t.Errorf("%d tags went in one transaction", most)
	}
	if moves, err := f.TagHistory(f.ctx, "app", "t1"); err != nil || len(moves) != 1 || moves[0].Was != m.Digest {
		t.Errorf("the history of a tag is %v, %v", moves, err)
	}
}
