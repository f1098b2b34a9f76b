package store

import (
	"context"
	"sync"

	"github.com/mirror-appliance/appliance/registry/store/sqlite"
)

const (
	// manifestWrites is how many manifests a user may have in parsing and in the queue for the writer. More than fill a
	// transaction gain nothing.
	manifestWrites = sqlite.GroupSize
	// largeManifest is the size from which a user has one of them at a time: parsing megabytes takes a core.
	largeManifest = 256 << 10
)

// WithUser returns a context whose writes count as those of a user: users take turns at the one writer.
func WithUser(ctx context.Context, name string) context.Context { return sqlite.WithUser(ctx, name) }

// places bounds how many of something each user does at a time.
type places struct {
	limit int

	mu    sync.Mutex // guards what follows
	users map[string]*userPlaces
}

type userPlaces struct {
	taken  chan struct{}
	asking int // requests that have a place or wait for one
}

// enter waits until the user of ctx has a place. The caller calls leave.
func (p *places) enter(ctx context.Context) (leave func(), err error) {
	name := sqlite.User(ctx)
	p.mu.Lock()
	if p.users == nil {
		p.users = map[string]*userPlaces{}
	}
	u := p.users[name]
	if u == nil {
		u = &userPlaces{taken: make(chan struct{}, p.limit)}
		p.users[name] = u
	}
	u.asking++
	p.mu.Unlock()
	forget := func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if u.asking--; u.asking == 0 {
			delete(p.users, name)
		}
	}
	select {
	case u.taken <- struct{}{}:
	case <-ctx.Done():
		forget()
		return nil, ctx.Err()
	}
	return func() { <-u.taken; forget() }, nil
}

// manifestPlaces are the places for manifests that are being written.
type manifestPlaces struct{ small, large places }

func newManifestPlaces() manifestPlaces {
	return manifestPlaces{small: places{limit: manifestWrites}, large: places{limit: 1}}
}

// enter waits until the user of ctx may write another manifest, of so many bytes.
func (p *manifestPlaces) enter(ctx context.Context, size int) (leave func(), err error) {
	if size >= largeManifest {
		return p.large.enter(ctx)
	}
	return p.small.enter(ctx)
}
