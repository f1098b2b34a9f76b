package mirror

import "github.com/opencontainers/go-digest"

// shared is a blob of images that are under way. Images share layers: while one fetches a blob, the others that need it wait
// and then find it.
type shared struct {
	free   chan struct{} // holds a token while nobody fetches it
	put    bool          // it was put while an image under way needed it; touched by who has the token
	images int           // that are under way and need it; guarded by execution.mu
}

// share keeps track of blobs until what it returns is called. It is called before the destination is asked for them, so that
// what another image puts later is noticed.
func (x *execution) share(blobs []digest.Digest) (end func()) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, d := range blobs {
		if x.blobs[d] == nil {
			x.blobs[d] = &shared{free: make(chan struct{}, 1)}
			x.blobs[d].free <- struct{}{}
		}
		x.blobs[d].images++
	}
	return func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		for _, d := range blobs {
			if x.blobs[d].images--; x.blobs[d].images == 0 {
				delete(x.blobs, d)
			}
		}
	}
}

func (x *execution) shared(d digest.Digest) *shared {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.blobs[d]
}
