package retain

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/cluster/state"
	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/store"
)

// settled is what a pass has found out about a cluster. Nearly all that a cluster needs is named by
// digest, and stays the same whatever becomes of the store: the next pass looks at the rest alone, so
// that a change of the store costs a fleet little.
type settled struct {
	told  api.AttachedCluster    // without what is here
	rest  state.Facts            // images by tag, releases that cannot be read yet, and what catalogs decide
	found map[digest.Digest]bool // of rest
	used  []digest.Digest        // releases
	set   digest.Digest          // of all that it needs
}

// settle notes what a pass has found out about a cluster.
func (p *pass) settle(ctx context.Context, told api.AttachedCluster, f state.Facts, all []digest.Digest) error {
	texts := make([]string, len(all))
	for i, d := range all {
		texts[i] = string(d)
	}
	now := &settled{told: told, rest: state.Facts{Tags: f.Tags, Extensions: f.Extensions, ClusterCatalogs: f.ClusterCatalogs}, set: digest.FromString(strings.Join(texts, " "))}
	for _, r := range f.Releases {
		ref, err := imageset.ParseReference(r.Image)
		if err != nil || ref.Digest == "" {
			continue
		}
		now.used = append(now.used, ref.Digest)
		if _, known := p.components[ref.Digest]; !known {
			now.rest.Releases = append(now.rest.Releases, r)
		}
	}
	for _, name := range f.Images {
		if byTag(name) {
			now.rest.Images = append(now.rest.Images, name)
		}
	}
	for _, c := range f.Catalogs {
		if byTag(c.Image) {
			now.rest.Catalogs = append(now.rest.Catalogs, c)
		}
	}
	n, err := p.needsOf(ctx, now.rest)
	if err != nil {
		return err
	}
	now.found = n.digests
	p.settled[told.ID] = now
	return nil
}

// byTag reports whether an image has a name without a digest.
func byTag(name string) bool {
	ref, err := imageset.ParseImage(name)
	return err == nil && ref.Digest == ""
}

// same reports whether a cluster needs what it needed in the last pass.
func (p *pass) same(ctx context.Context, was *settled) (bool, error) {
	for _, d := range was.used {
		p.used[d.String()] = true
	}
	n, err := p.needsOf(ctx, was.rest)
	return err == nil && maps.Equal(n.digests, was.found), err
}

// unsettle forgets the clusters that are not attached any more.
func (c *Clusters) unsettle(attached []store.Cluster) {
	are := map[string]bool{}
	for _, one := range attached {
		are[one.ID] = true
	}
	maps.DeleteFunc(c.settled, func(id string, _ *settled) bool { return !are[id] })
}

// needsOf returns what a cluster needs.
func (p *pass) needsOf(ctx context.Context, f state.Facts) (*needs, error) {
	n := &needs{pass: p, cluster: f, digests: map[digest.Digest]bool{}}
	for _, r := range f.Releases {
		if err := n.release(ctx, r); err != nil {
			return nil, err
		}
	}
	for _, name := range slices.Concat(f.Images, f.CatalogImages()) {
		if err := n.image(ctx, name); err != nil {
			return nil, err
		}
	}
	return n, n.extensions(ctx)
}
