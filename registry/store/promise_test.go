package store

import "testing"

// The image of one push does not take the promise that another push of the same blob was given,
// when that image is deleted before the other's manifest has come.
func TestStore_aPromiseIsForEachPush(t *testing.T) {
	f := newFixture(t)
	layer := f.blob("app", "shared layer") // the one push has sent it
	f.mustStat("app", layer.Digest)        // the other has asked for it, and is done first
	m, err := f.Manifests.Put(f.ctx, "app", manifestOf(f.blob("app", "{}"), layer, layer), PutOptions{})
	f.must(err)
	f.must(f.Manifests.Delete(f.ctx, "app", m.Digest))
	f.mustStay(layer.Digest, true)
	m, err = f.Manifests.Put(f.ctx, "app", manifestOf(f.blob("app", "{}"), layer), PutOptions{})
	f.must(err)
	f.must(f.Manifests.Delete(f.ctx, "app", m.Digest))
	f.mustStay(layer.Digest, false) // both have come
}
