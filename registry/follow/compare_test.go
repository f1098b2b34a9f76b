package follow_test

import (
	"slices"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/registry/follow"
	"github.com/mirror-appliance/appliance/registry/store"
)

// Content that no tag names is content too: releases are mirrored by digest.
func TestCompare(t *testing.T) {
	first, second := newHost(t), newHost(t)
	both, own, moved := newImage("both", nil), newImage("own", nil), newImage("moved", nil)
	for _, h := range []*host{first, second} {
		h.push("a", both, "same")
		h.push("b", both)
	}
	first.push("a", both, "new")
	first.push("a", moved, "moves")
	second.push("a", own, "moves", "goes")
	second.push("by/digest", both) // which the first has elsewhere
	signed := second.push("c", newImage("signed", nil))
	second.push("c", newImage("signature", &ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: signed, Size: int64(len(newImage("signed", nil).body))}))
	part := newImage("part of an index", nil)
	second.push("d", part)
	index, err := second.Manifests.Put(t.Context(), "d", newIndex(part), store.PutOptions{MediaType: ocispec.MediaTypeImageIndex})
	second.must(err)
	second.pull("e", newImage("cached", nil), 1)

	var all []store.Image // one at a time
	for next, err := second.Manifests.Unreached(t.Context(), store.Image{}, 1); len(next) > 0; next, err = second.Manifests.Unreached(t.Context(), next[0], 1) {
		second.must(err)
		all = append(all, next...)
	}
	if len(all) != 4 || all[0].Repository != "b" || all[3] != (store.Image{Repository: "d", Digest: index.Digest}) {
		t.Errorf("without a tag are %v", all)
	}

	o := first.options(second)
	want := []string{"a:goes", "a:moves", "by/digest@" + both.digest().String(), "c@" + signed.String(), "d@" + index.Digest.String()}
	for most, names := range map[int][]string{10: want, 2: want[:2]} {
		d, err := follow.Compare(t.Context(), o, most)
		second.must(err)
		if d.Coming != 1 || d.Moving != 1 || d.Going != 4 || !slices.Equal(d.Example, names) {
			t.Errorf("with at most %d names: %+v, want %v", most, d, names)
		}
	}
}
