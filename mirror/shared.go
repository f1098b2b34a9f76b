package mirror

import (
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// shared is a blob of images that are under way. Images share layers: while one fetches a blob, the others that need it wait
// and then find it.
type shared struct {
	free   chan struct{} // holds a token while nobody fetches it
	put    bool          // it was put while an image under way needed it; touched by who has the token
	images int           // that are under way and need it; guarded by execution.mu
}

// share keeps track of blobs until what it returns is called. It is called before the destination is asked for them, so that
// what another image puts later is noticed.
func (x *execution) share(blobs []ocispec.Descriptor) (end func()) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, b := range blobs {
		if x.blobs[b.Digest] == nil {
			x.blobs[b.Digest] = &shared{free: make(chan struct{}, 1)}
			x.blobs[b.Digest].free <- struct{}{}
		}
		x.blobs[b.Digest].images++
	}
	return func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		for _, b := range blobs {
			if x.blobs[b.Digest].images--; x.blobs[b.Digest].images == 0 {
				delete(x.blobs, b.Digest)
			}
		}
	}
}

func (x *execution) shared(d digest.Digest) *shared {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.blobs[d]
}
