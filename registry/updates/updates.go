// Package updates answers clusters that ask which upgrades there are, from the release images that the
// store holds and the graph data in one of its images: an update service (OSUS, Cincinnati), without
// one in each cluster.
//
// Use New, then Follow in the background; a Service is the handler of Path and SignaturesPath. Follow
// reads what has changed in the store and computes the graph anew; a request reads the last one, and
// what it is answered is kept until the next: for a fleet of clusters that ask every few minutes, an
// answer costs what it takes to send it. What is read of an image is kept by its digest, over
// restarts too.
//
// Without graph data, or before the first pass, the answer is an error, never an empty graph: a
// cluster forgets the updates that it knows when its own version is in none.
//
// Refused: reading the store at a request, which would make the clusters' number and not the store's
// changes its cost; and asking upstreams for a graph, since what is offered must be here.
package updates

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/mirror/graphdata"
	"github.com/mirror-appliance/appliance/registry/store"
	"github.com/mirror-appliance/appliance/registry/stored"
)

// again is the longest time between two passes. After a pass that failed, or that found an image which is
// not whole, the next follows sooner: pull-through brings a manifest first, and its layers as a client
// asks for them.
const (
	again = time.Hour
	soon  = time.Minute
)

// Options are the options of New.
type Options struct {
	Store *store.Store
	// Registry is how clusters reach the registry: host[:port].
	Registry string
	// MirrorNames has payloads named as they are here, and not as their sources name them.
	MirrorNames bool
	Log         *slog.Logger
}

// Service is the update service.
type Service struct {
	o       Options
	reading sync.Mutex // held while the scanner is in use
	scanner scanner
	current atomic.Pointer[state]
}

// state is what a pass found. Nothing in it changes but for the answers that are kept.
type state struct {
	graph      *graphdata.Graph // nil: there is none
	why        string           // there is none
	made       time.Time
	data       graphImage
	releases   []graphdata.Release
	places     map[digest.Digest]string // of releases: repository:tag, or a repository alone
	signatures map[string][][]byte      // by the hexadecimal digest of a release
	problems   []graphdata.Problem
	unread     []Unread
	answers    answers
}

// New returns the service, which is not ready before the first pass of Follow.
func New(o Options) *Service {
	s := &Service{o: o, scanner: scanner{Options: o}}
	s.current.Store(&state{why: "the releases that are here are still being read; try again in a moment"})
	return s
}

// Follow reads the store now and after each change, until ctx ends.
func (s *Service) Follow(ctx context.Context) error {
	stored.Follow(ctx, s.o.Store, s.pass)
	return nil
}

// pass is one pass of Follow. It returns after how long another is wanted without a change.
func (s *Service) pass(ctx context.Context) time.Duration {
	if err := s.Refresh(ctx); err != nil && ctx.Err() == nil {
		s.o.Log.ErrorContext(ctx, "the update graph could not be computed; what was known is served", "error", err)
		return soon
	}
	if slices.ContainsFunc(s.current.Load().unread, func(u Unread) bool { return errors.Is(u.Err, fs.ErrNotExist) }) {
		return soon
	}
	return again
}

// Refresh reads the store and computes the graph. After an error what was known is served.
func (s *Service) Refresh(ctx context.Context) error {
	s.reading.Lock()
	defer s.reading.Unlock()
	next, err := s.scanner.scan(ctx)
	if err == nil {
		s.current.Store(next)
	}
	return err
}
