package retain

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/store"
)

// describe makes the answer of what was decided.
func (p *pruning) describe(ctx context.Context) error {
	wants, err := p.wants(ctx)
	if err != nil {
		return err
	}
	p.result = api.PruneResult{Clusters: p.clusters, Delete: []api.Pruned{}, Kept: []api.PruneKept{}, Images: []api.PrunedImage{}, Left: []api.PruneKept{}}
	all := p.sorted()
	var images []store.Image
	for _, v := range all {
		images = append(images, v.Image)
		p.result.Images = append(p.result.Images, api.PrunedImage{Repository: v.Repository, Digest: v.Digest, Tags: v.tags, Of: v.root.name})
	}
	freed, err := p.Store.Manifests.Frees(ctx, images)
	if err != nil {
		return err
	}
	p.result.Manifests, p.result.Blobs, p.result.Bytes = freed.Manifests, freed.Blobs, freed.Bytes
	for n, r := range p.roots {
		p.progress(api.PruneProgress{Done: n, Of: len(p.roots)})
		if r.reason != "" {
			p.result.Kept = append(p.result.Kept, api.PruneKept{Name: r.name, Image: r.image(), Reason: r.reason})
			continue
		}
		var own []store.Image
		for _, v := range all {
			if v.root == r {
				own = append(own, v.Image)
			}
		}
		freed, err := p.Store.Manifests.Frees(ctx, own)
		if err != nil {
			return err
		}
		one := api.Pruned{Name: r.name, Image: r.image(), Digest: r.at[0].Digest, Images: len(own), Bytes: freed.Bytes}
		for _, i := range r.at {
			one.AskedBy = append(one.AskedBy, wants[i.Repository+":"+i.Tag]...)
		}
		slices.Sort(one.AskedBy)
		one.AskedBy = slices.Compact(one.AskedBy)
		p.result.Delete = append(p.result.Delete, one)
	}
	return nil
}

// sorted returns the victims in the order in which they are deleted: what is known from others before these, so that a prune
// that is stopped can be done again.
func (p *pruning) sorted() []*victim {
	var all []*victim
	for _, v := range p.victims {
		slices.Sort(v.tags)
		all = append(all, v)
	}
	rank := func(v *victim) int {
		if v.own {
			return 1
		}
		return 0
	}
	slices.SortFunc(all, func(a, b *victim) int {
		return cmp.Or(rank(a)-rank(b), strings.Compare(a.Repository, b.Repository), slices.Compare(a.tags, b.tags), strings.Compare(string(a.Digest), string(b.Digest)))
	})
	return all
}

// left notes what was to be deleted, is still there, and stays.
func (p *pruning) left(asked []api.Pruned) {
	for _, one := range asked {
		for _, r := range p.roots {
			if r.reason != "" && r.image() == one.Image && r.at[0].Digest == one.Digest {
				p.result.Left = append(p.result.Left, api.PruneKept{Name: r.name, Image: r.image(), Reason: r.reason})
			}
		}
	}
}

// delete deletes the victims. What has come into use since stays.
func (p *pruning) delete(ctx context.Context) error {
	all := p.sorted()
	for n, v := range all {
		p.progress(api.PruneProgress{Deleting: true, Done: n, Of: len(all)})
		tags, err := p.Store.Tags.Of(ctx, v.Repository, v.Digest)
		if err == nil {
			i := slices.IndexFunc(tags, func(t string) bool { return !slices.Contains(v.tags, t) })
			if i >= 0 {
				p.leave(v, fmt.Sprintf("it has got the tag %s", tags[i]))
				continue
			}
			_, err = p.Store.Manifests.DeleteImage(ctx, v.Repository, v.Digest)
		}
		switch kept := (*store.KeptError)(nil); {
		case errors.As(err, &kept):
			p.leave(v, kept.Error())
		case errors.Is(err, store.ErrNotFound): // with an image above it
		case err != nil:
			return fmt.Errorf("%w; %d of %d images are deleted, and the same command goes on", err, p.result.Deleted, len(all))
		default:
			p.result.Deleted++
		}
	}
	return nil
}

func (p *pruning) leave(v *victim, reason string) {
	p.result.Left = append(p.result.Left, api.PruneKept{Name: v.root.name, Image: v.Repository + "@" + v.Digest.String(), Reason: reason})
}
