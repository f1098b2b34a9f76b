package ready

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/mirror/graphdata"
	"github.com/mirror-appliance/appliance/mirror/release"
	"github.com/mirror-appliance/appliance/mirror/signature"
	"github.com/mirror-appliance/appliance/registry/auth"
)

// demands remembers what releases demand of signatures: to read a payload takes a moment, and it never
// changes. The map is replaced and not written, so that no request waits for one that reads.
type demands struct {
	known atomic.Pointer[map[digest.Digest]demand]
}

// demand is what a release demands of signatures.
type demand struct {
	release  graphdata.Release
	policies []*signature.Policy
	unread   error
}

// reading bounds the time in which payloads are read for the signatures of an image.
const reading = 5 * time.Second

// demanded returns what the releases here demand, those that the user sees, the last version first. late reports
// that there was no time to read all.
func (o *Judge) demanded(ctx context.Context) (all []demand, late bool) {
	var read map[digest.Digest]demand
	if m := o.demands.known.Load(); m != nil {
		read = *m
	}
	known := o.Updates.Known()
	id, limited := auth.IdentityFrom(ctx)
	ctx, end := context.WithTimeout(ctx, reading)
	defer end()
	next := map[digest.Digest]demand{}
	for _, r := range known.Releases {
		d, ok := read[r.Digest]
		repository, _, _ := strings.Cut(known.Places[r.Digest], ":")
		if !ok {
			d = o.demand(ctx, r, repository)
			if ctx.Err() != nil {
				late = true
				continue
			}
		}
		if d.unread == nil {
			next[r.Digest] = d
		}
		if !limited || id.Sees(repository) {
			all = append(all, d)
		}
	}
	o.demands.known.Store(&next)
	slices.SortStableFunc(all, func(a, b demand) int { return b.release.Version.Compare(a.release.Version) })
	return all, late
}

// demand reads a payload.
func (o *Judge) demand(ctx context.Context, r graphdata.Release, repository string) demand {
	j := &judgement{Options: o.Options}
	d := demand{release: r}
	layers, err := j.layers(ctx, place{repository, r.Digest}, "")
	var read release.Payload
	if err == nil {
		read, err = release.ReadLayers(layers, j.opener(ctx, repository))
	}
	if err == nil && len(read.Unread) > 0 {
		err = read.Unread[0]
	}
	d.policies, d.unread = read.Policies, err
	return d
}
