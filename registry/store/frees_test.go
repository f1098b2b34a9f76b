package store

import (
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/image"
)

// TestManifests_Frees compares what a deletion is said to free with what one frees.
func TestManifests_Frees(t *testing.T) {
	f := newFixture(t)
	one, two := f.pushImage("a/b", "one", "v1", "again"), f.pushImage("a/b", "two", "v2")
	f.pushImage("a/b", "signature", image.AttachmentTags(one.Digest)[1])
	elsewhere := f.pushImage("a/b", "elsewhere", "v3")
	f.pushImage("c/d", "elsewhere", "v3")
	child, tagged, needed, shared := f.pushImage("a/b", "child"), f.pushImage("a/b", "tagged", "own"), f.pushImage("a/b", "needed"), f.pushImage("a/b", "shared")
	whole := f.indexed("a/b", "whole", child)
	several := map[string]Manifest{"tagged": f.indexed("a/b", "l1", tagged), "needed": f.indexed("a/b", "l2", needed), "shared": f.indexed("a/b", "l3", shared)}
	f.indexed("a/b", "l4", f.pushImage("a/b", "unlike"))
	both, err := f.Manifests.Put(f.ctx, "a/b", index(shared.Descriptor(), two.Descriptor()), PutOptions{Tags: []string{"both"}})
	f.must(err)
	f.attach("c-1", needed.Digest)

	garbage := func() (n int, bytes int64) {
		f.clock.add(time.Hour)
		f.must(f.Garbage.GarbageBlobs(f.ctx, f.clock.now(), func(_ digest.Digest, size int64) error {
			n, bytes = n+1, bytes+size
			return nil
		}))
		return n, bytes
	}
	for _, tc := range []struct {
		name   string
		images []Manifest
	}{
		{"an image with two tags and a signature", []Manifest{one}},
		{"one that another repository has", []Manifest{elsewhere}},
		{"an index and its child", []Manifest{whole}},
		{"an index whose child has a tag", []Manifest{several["tagged"]}},
		{"an index whose child is needed by a cluster", []Manifest{several["needed"]}},
		{"an index whose child is listed by another", []Manifest{several["shared"]}},
		{"the last index that lists it, and its tagged", []Manifest{both, two}},
	} {
		var all []Image
		for _, m := range tc.images {
			all = append(all, Image{"a/b", m.Digest})
		}
		said, err := f.Manifests.Frees(f.ctx, all)
		f.must(err)
		blobs, bytes := garbage()
		goes, err := f.Manifests.Goes(f.ctx, "a/b", tc.images[0].Digest, false)
		f.must(err)
		var gone []digest.Digest
		had, err := f.Garbage.Dropped(f.ctx, false)
		f.must(err)
		for _, m := range tc.images {
			some, err := f.Manifests.DeleteImage(f.ctx, "a/b", m.Digest)
			f.must(err)
			if gone == nil {
				gone = some
			}
		}
		slices.Sort(gone)
		if slices.Sort(goes.Manifests); !slices.Equal(goes.Manifests, gone) || len(tc.images) == 1 && goes.Freed != said {
			t.Errorf("%s is said to take %+v, and takes %v", tc.name, goes, gone)
		}
		now, more := garbage()
		has, err := f.Garbage.Dropped(f.ctx, false)
		f.must(err)
		if want := (Freed{has - had, now - blobs, more - bytes}); said != want {
			t.Errorf("%s is said to free %+v, and frees %+v", tc.name, said, want)
		}
	}
	f.mustBeClean()
}
