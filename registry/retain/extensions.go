package retain

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/cluster/state"
	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/operator"
)

// bundled begins the names of notes with the images of bundles that OLM v1 has installed: what a cluster tells of them has
// no images, and a later catalog need not have them any more.
const bundled = "bundle "

// bundle is what is noted of one.
type bundle struct {
	Catalogs []digest.Digest `json:"catalogs"` // that were looked into
	Images   []string        `json:"images"`
}

// maxLooked is how many catalogs are remembered of a bundle: those since.
const maxLooked = 50

// extensions adds the images of the operators of OLM v1.
func (n *needs) extensions(ctx context.Context) error {
	if n.cluster.NoExtensions {
		n.unknown++
		n.problem("the operators of OLM v1 are not protected, since the export has nothing of them; add to it: %s", state.Extensions)
	}
	catalogs := map[digest.Digest]mirror.Place{}
	for _, c := range n.cluster.ClusterCatalogs {
		for _, name := range []string{c.Image, c.Resolved} {
			if err := n.catalog(ctx, name, catalogs); err != nil {
				return err
			}
		}
	}
	for _, e := range n.cluster.Extensions {
		if e.Bundle == "" {
			continue
		}
		b, err := n.bundle(ctx, e, catalogs)
		if err != nil {
			return err
		}
		if len(b.Images) == 0 {
			n.unknown++
			n.problem("operator %s of OLM v1 is not protected, since no catalog of the cluster that is here has its bundle %s", e.Name, e.Bundle)
		}
		for _, name := range b.Images {
			if err := n.image(ctx, name); err != nil {
				return err
			}
		}
	}
	return nil
}

// catalog adds where a catalog is here.
func (n *needs) catalog(ctx context.Context, name string, to map[digest.Digest]mirror.Place) error {
	if name == "" {
		return nil
	}
	one := &needs{pass: n.pass, cluster: n.cluster, digests: map[digest.Digest]bool{}}
	if err := one.image(ctx, name); err != nil {
		return err
	}
	for d := range one.digests {
		at, err := n.Store.Manifests.AnyRepositories(ctx, d)
		if err != nil {
			return err
		}
		if len(at) > 0 {
			to[d] = mirror.Place{Repository: at[0], Reference: d.String()}
		}
	}
	return nil
}

// bundle returns what is known of the bundle that an extension has installed, after a look into the
// catalogs that were not looked into before.
func (n *needs) bundle(ctx context.Context, e state.Extension, catalogs map[digest.Digest]mirror.Place) (b bundle, err error) {
	name := fmt.Sprintf("%q %q %q", e.Package, e.Bundle, e.Version)
	b, n.used[name] = n.bundles[name], true
	before := len(b.Catalogs)
	for d, at := range catalogs {
		if slices.Contains(b.Catalogs, d) {
			continue
		}
		uses, err := n.uses(ctx, d, at)
		if ctx.Err() != nil {
			return b, ctx.Err()
		}
		if err != nil {
			n.problem("operators of OLM v1 may not be protected, since catalog %s@%s cannot be read: %v", at.Repository, d, err)
			continue
		}
		for image, by := range uses {
			if !slices.Contains(b.Images, image) && slices.Contains(by, operator.Bundle{Package: e.Package, Name: e.Bundle}) {
				b.Images = append(b.Images, image)
			}
		}
		b.Catalogs = append(b.Catalogs, d)
	}
	if len(b.Catalogs) == before {
		return b, nil
	}
	b.Catalogs = b.Catalogs[max(0, len(b.Catalogs)-maxLooked):]
	slices.Sort(b.Images)
	n.bundles[name] = b
	text, err := json.Marshal(b)
	if err == nil {
		err = n.Store.SetNote(ctx, bundled+name, string(text))
	}
	return b, err
}

// uses are the images that the bundles of a catalog need, or why that is not known.
type uses struct {
	of  map[string][]operator.Bundle
	err error
}

// uses returns the images that the bundles of a catalog need. Each catalog is read once in a pass, also
// one that cannot be read.
func (p *pass) uses(ctx context.Context, d digest.Digest, at mirror.Place) (map[string][]operator.Bundle, error) {
	found, ok := p.catalogs[d]
	if !ok {
		found.of, found.err = p.Catalogs.Uses(ctx, at)
		p.catalogs[d] = found
	}
	return found.of, found.err
}
