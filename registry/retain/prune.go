package retain

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/catalog"
	"github.com/mirror-appliance/appliance/mirror/graphdata"
	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/operator"
	"github.com/mirror-appliance/appliance/mirror/plan"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/store"
	"github.com/mirror-appliance/appliance/registry/updates"
)

// Updates knows the releases of a store, and the graph of updates between them.
type Updates interface {
	Refresh(ctx context.Context) error
	Known() updates.Known
}

// Catalogs knows what the catalogs of a store need.
type Catalogs interface {
	Needs(ctx context.Context, q api.NeedsRequest) ([]api.Need, error)
	Content(ctx context.Context, q api.Place) (api.CatalogContent, error)
	Uses(ctx context.Context, at mirror.Place) (map[string][]operator.Bundle, error)
}

// Prune lists what no attached cluster runs, can reach, or may roll back to, and deletes of it what the request names: of
// what runs have mirrored, releases with their images, and operator catalogs for other minor versions with the images that
// only they need. What cannot be proved to be unneeded stays, with the reason. An image that something else needs stays,
// and so does what clients have pushed.
func (c *Clusters) Prune(ctx context.Context, q api.PruneRequest, progress func(api.PruneProgress)) (api.PruneResult, error) {
	p, err := c.pruning(ctx)
	if err != nil {
		return api.PruneResult{}, err
	}
	p.progress = progress
	if len(q.Delete) > 0 {
		p.only(q.Delete)
	}
	if err := p.plan(ctx); err != nil {
		return api.PruneResult{}, err
	}
	p.left(q.Delete)
	if q.Plans() {
		return p.result, nil
	}
	return p.result, p.delete(ctx)
}

// pruning is a prune.
type pruning struct {
	*pass
	*reach
	progress func(api.PruneProgress)
	attached []store.Cluster
	recorded []mirror.HeldImage
	tags     map[store.Image][]mirror.HeldImage // of recorded
	roots    []*root
	keep     map[digest.Digest]bool // images of releases that stay
	victims  map[store.Image]*victim
	result   api.PruneResult
}

// root is a release or a catalog.
type root struct {
	name    string
	at      []mirror.HeldImage
	catalog bool
	images  []digest.Digest // of a release
	named   []string        // of a catalog, by name
	reason  string          // that it stays, "" if it goes
}

// victim is an image that is to go.
type victim struct {
	store.Image
	tags []string
	root *root
	own  bool // it is the release or the catalog itself, which goes last: what is of it is known from it
}

// pruning looks at the clusters and the releases.
func (c *Clusters) pruning(ctx context.Context) (*pruning, error) {
	attached, err := c.Store.Clusters.List(ctx)
	if err != nil {
		return nil, err
	}
	if len(attached) == 0 {
		return nil, hint.New(errors.New("no cluster is attached, so that it is not known what is needed"),
			"attach each cluster that uses this registry: appliance pin cluster FILE")
	}
	if _, err := c.each(ctx, (*pass).keep); err != nil { // what they need is known to the store then
		return nil, err
	}
	if err := c.Updates.Refresh(ctx); err != nil {
		return nil, err
	}
	restored, err := c.Store.Restored(ctx)
	if err != nil {
		return nil, err
	}
	p := &pruning{reach: newReach(c.Updates.Known(), restored), attached: attached, tags: map[store.Image][]mirror.HeldImage{}}
	if p.pass, err = c.pass(ctx); err != nil {
		return nil, err
	}
	if p.recorded, err = mirror.HeldImages(p.origins); err != nil {
		return nil, err
	}
	for _, i := range p.recorded {
		at := store.Image{Repository: i.Repository, Digest: i.Digest}
		p.tags[at] = append(p.tags[at], i)
	}
	for _, one := range attached {
		f, err := factsOf(one)
		if err != nil {
			return nil, err
		}
		p.reach.add(one, f)
	}
	return p, errors.Join(p.findReleases(ctx), p.findCatalogs(ctx))
}

// findReleases finds the releases, and those of them that no cluster can reach.
func (p *pruning) findReleases(ctx context.Context) error {
	for _, i := range p.Unread {
		pushed, err := p.Store.Manifests.Repositories(ctx, i.Digest)
		if err != nil {
			return err
		}
		if slices.Contains(pushed, i.Repository) {
			p.stay("", "", fmt.Sprintf("%s:%s may be a release, and it is not known which images it needs: %v", i.Repository, i.Name, i.Err))
		}
	}
	for _, i := range p.recorded {
		if _, known := p.byDigest[i.Digest]; i.Type == plan.Release && !known {
			p.stay("", "", fmt.Sprintf("%s:%s was mirrored as a release and cannot be read as one, so that it is not known which images it needs", i.Repository, i.Tag))
		}
	}
	all := slices.SortedFunc(slices.Values(p.Releases), func(a, b graphdata.Release) int {
		return cmp.Or(a.Version.Compare(b.Version), strings.Compare(a.Arch, b.Arch), strings.Compare(string(a.Digest), string(b.Digest)))
	})
	for _, of := range all {
		r := &root{name: fmt.Sprintf("release %s (%s)", bare(of.Version), of.Arch), reason: p.reason(of)}
		for _, i := range p.recorded {
			if i.Type == plan.Release && i.Digest == of.Digest {
				r.at = append(r.at, i)
			}
		}
		p.roots = append(p.roots, r)
		if len(r.at) == 0 {
			repository, tag, _ := strings.Cut(p.Places[of.Digest], ":")
			r.at = []mirror.HeldImage{{Repository: repository, Tag: tag, Digest: of.Digest}}
			r.reason = "no run has mirrored it: a client has pushed it, or it is pulled through"
		}
		pushed, err := p.Store.Manifests.Repositories(ctx, of.Digest)
		if err == nil && len(pushed) > 0 { // what is pulled through has its images so too
			r.images, err = p.read(ctx, of.Digest)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			p.stay("", "", fmt.Sprintf("it is not known which images %s needs: %v", r.name, err))
		}
	}
	for _, r := range p.roots { // one may have been unreadable
		if r.reason == "" {
			r.reason = p.stays[[2]string{}]
		}
	}
	return nil
}

// ofMinor matches the tags of catalogs that are for a minor version of OpenShift.
var ofMinor = regexp.MustCompile(`^v([0-9]+\.[0-9]+)$`)

// findCatalogs finds the operator catalogs, and those of them that are for no version which a cluster has or can come to.
func (p *pruning) findCatalogs(ctx context.Context) error {
	unknown, err := p.unrecordedCatalog(ctx)
	if err != nil {
		return err
	}
	for _, i := range p.recorded {
		if i.Type != plan.OperatorCatalog {
			continue
		}
		r := &root{name: "catalog " + i.Origin, at: []mirror.HeldImage{i}, catalog: true}
		p.roots = append(p.roots, r)
		version := ofMinor.FindStringSubmatch(i.Tag)
		ref, err := imageset.ParseReference(i.Origin)
		switch {
		case p.unknown():
			r.reason = "it is not known of each cluster what it can reach"
		case unknown != "":
			r.reason = fmt.Sprintf("a cluster uses the catalog %s, which no run has mirrored", unknown)
		case err != nil || version == nil || ref.Tag != i.Tag:
			r.reason = "its tag is not that of a version of OpenShift"
		case p.minors[version[1]]:
			r.reason = fmt.Sprintf("a cluster has OpenShift %s, or can come to it", version[1])
		default:
			if r.named, err = p.contentOf(ctx, i); err != nil {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				r.reason = fmt.Sprintf("it is not known which images it needs: %v", err)
			}
		}
	}
	return nil
}

// unrecordedCatalog returns a catalog that a cluster uses from here, and of which no run has recorded
// anything: its bundles may need any image of operators. "": there is none.
func (p *pruning) unrecordedCatalog(ctx context.Context) (string, error) {
	known := map[digest.Digest]bool{}
	for _, i := range p.recorded {
		known[i.Digest] = known[i.Digest] || i.Type == plan.OperatorCatalog || i.Type == plan.CatalogView
	}
	for _, c := range p.attached {
		f, err := factsOf(c)
		if err != nil {
			return "", err
		}
		for _, used := range f.CatalogImages() {
			n := &needs{pass: p.pass, cluster: f, digests: map[digest.Digest]bool{}}
			if err := n.image(ctx, used); err != nil {
				return "", err
			}
			for d := range n.digests {
				at, err := p.Store.Manifests.AnyRepositories(ctx, d)
				if err != nil || len(at) > 0 && !known[d] {
					return used, err
				}
			}
		}
	}
	return "", nil
}

// contentOf returns the images that a catalog needs, by name.
func (p *pruning) contentOf(ctx context.Context, i mirror.HeldImage) ([]string, error) {
	found, err := p.Catalogs.Content(ctx, api.Place{Repository: i.Repository, Reference: i.Digest.String()})
	if err != nil {
		return nil, err
	}
	if found.Error != "" {
		return nil, errors.New(found.Error)
	}
	var content catalog.Content
	err = json.Unmarshal(found.Content, &content)
	return content.Images, err
}

// only has the releases and catalogs stay that are not among some.
func (p *pruning) only(some []api.Pruned) {
	asked := map[string]bool{}
	for _, one := range some {
		asked[one.Image+"@"+one.Digest.String()] = true
	}
	for _, r := range p.roots {
		if r.reason == "" && !asked[r.image()+"@"+r.at[0].Digest.String()] {
			r.reason = "it is not in the list that was given"
		}
	}
}

func (r *root) image() string { return strings.TrimSuffix(r.at[0].Repository+":"+r.at[0].Tag, ":") }

// plan decides what goes, and describes it. A release or catalog that cannot go keeps its images: then it is decided anew.
func (p *pruning) plan(ctx context.Context) error {
	for again := true; again; {
		if err := p.choose(ctx); err != nil {
			return err
		}
		spared, err := p.spare(ctx)
		if err != nil {
			return err
		}
		again = false
		for at, reason := range spared {
			v := p.victims[at]
			delete(p.victims, at)
			if v.own && v.root.reason == "" {
				v.root.reason, again = reason, true
			}
		}
	}
	return p.describe(ctx)
}

// choose makes victims of the images of the releases and catalogs that go, but for those that others have too.
func (p *pruning) choose(ctx context.Context) error {
	p.keep, p.victims = map[digest.Digest]bool{}, map[store.Image]*victim{}
	for _, r := range p.roots {
		if r.reason == "" || r.catalog {
			continue
		}
		for _, d := range r.images {
			p.keep[d] = true
		}
		p.keep[r.at[0].Digest] = true
	}
	by := map[digest.Digest][]store.Image{}
	for at := range p.tags {
		by[at.Digest] = append(by[at.Digest], at)
	}
	for _, r := range p.roots {
		if r.reason != "" {
			continue
		}
		for _, i := range r.at {
			p.victims[store.Image{Repository: i.Repository, Digest: i.Digest}] = &victim{root: r, own: true}
		}
		for _, d := range r.images {
			for _, at := range by[d] {
				p.choosePart(at, r, plan.ReleaseContent)
			}
		}
		for _, name := range r.named {
			places, err := p.present.Places(ctx, name)
			if err != nil {
				return err
			}
			for _, i := range places {
				if d := digest.Digest(i.Reference); d.Validate() == nil {
					p.choosePart(store.Image{Repository: i.Repository, Digest: d}, r, plan.OperatorBundle, plan.OperatorRelated)
				}
			}
		}
	}
	for at, v := range p.victims {
		v.Image = at
		for _, i := range p.tags[at] {
			if v.of(i) && !slices.Contains(v.tags, i.Tag) {
				v.tags = append(v.tags, i.Tag)
			}
		}
	}
	return nil
}

// choosePart makes a victim of an image that a run has mirrored as one of some types.
func (p *pruning) choosePart(at store.Image, r *root, types ...plan.Type) {
	mirrored := slices.ContainsFunc(p.tags[at], func(i mirror.HeldImage) bool { return slices.Contains(types, i.Type) })
	if mirrored && !p.keep[at.Digest] && p.victims[at] == nil {
		p.victims[at] = &victim{root: r}
	}
}

// of reports whether a tag of a victim goes with it.
func (v *victim) of(i mirror.HeldImage) bool {
	switch i.Type {
	case plan.ReleaseContent, plan.OperatorBundle, plan.OperatorRelated:
		return true
	case plan.Release, plan.OperatorCatalog:
		return v.own && slices.Contains(v.root.at, i)
	}
	return false
}

// spare returns the victims that something else needs, with the reasons.
func (p *pruning) spare(ctx context.Context) (map[store.Image]string, error) {
	q := api.NeedsRequest{WithoutImageSets: true}
	repositories, asked := map[string][]digest.Digest{}, map[api.Place]store.Image{}
	for at, v := range p.victims {
		repositories[at.Repository] = append(repositories[at.Repository], at.Digest)
		for _, ref := range append([]string{at.Digest.String()}, v.tags...) {
			i := api.Place{Repository: at.Repository, Reference: ref}
			asked[i] = at
			q.Images = append(q.Images, i)
		}
	}
	needs, err := p.Catalogs.Needs(ctx, q)
	if err != nil {
		return nil, err
	}
	spared := map[store.Image]string{}
	for _, n := range needs {
		spared[asked[api.Place{Repository: n.Repository, Reference: n.Reference}]] = strings.TrimSuffix(n.By, ",") + " needs it"
	}
	for repository, some := range repositories {
		lists, err := p.Store.Manifests.Lists(ctx, repository, some)
		if err == nil {
			err = p.spareLists(ctx, repository, lists, spared)
		}
		if err != nil {
			return nil, err
		}
	}
	return spared, nil
}

// spareLists spares lists with an image that is needed and has no tag, which would go with them; and
// images of lists that stay.
func (p *pruning) spareLists(ctx context.Context, repository string, lists map[digest.Digest][]digest.Digest, spared map[store.Image]string) error {
	goes := func(d digest.Digest) bool {
		at := store.Image{Repository: repository, Digest: d}
		return p.victims[at] != nil && spared[at] == ""
	}
	for index, images := range lists {
		for _, d := range images {
			if !goes(index) || !p.keep[d] {
				continue
			}
			tags, err := p.Store.Tags.Of(ctx, repository, d)
			if err != nil {
				return err
			}
			if len(tags) == 0 {
				spared[store.Image{Repository: repository, Digest: index}] = fmt.Sprintf("a release that stays needs %s in it", d)
			}
		}
	}
	for again := true; again; {
		again = false
		for index, images := range lists {
			for _, d := range images {
				if !goes(index) && goes(d) {
					spared[store.Image{Repository: repository, Digest: d}] = fmt.Sprintf("it is a part of %s@%s, which stays", repository, index)
					again = true
				}
			}
		}
	}
	return nil
}

// wants returns the names of the image sets that want images, by repository:tag.
func (p *pruning) wants(ctx context.Context) (map[string][]string, error) {
	sets, err := p.Store.Runs.Wants(ctx)
	if err != nil {
		return nil, err
	}
	all := map[string][]string{}
	for key, text := range sets {
		var w mirror.Wants
		if err := json.Unmarshal([]byte(text), &w); err != nil {
			return nil, fmt.Errorf("read what %s wants: %w", key, err)
		}
		name := fmt.Sprintf("%s (its run of %s)", w.Name, w.At.UTC().Format(time.DateOnly))
		for _, image := range w.Images {
			all[image] = append(all[image], name)
		}
	}
	return all, nil
}
