package mirror

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/plan"
)

// unasked returns what the workspace has mirrored to the destination, and neither the image set of a plan
// nor the last run of another one asks for.
func (e *engine) unasked(ctx context.Context, from Pruner, p *plan.Plan) (all []*plan.Image, err error) {
	asked := map[string]bool{}
	for _, i := range p.Images {
		asked[e.destination(i)] = true
	}
	known, err := e.known()
	if err != nil {
		return nil, err
	}
	for at, images := range e.mirroredBefore() {
		place, here := strings.CutPrefix(at, e.o.Registry+"/")
		others := slices.ContainsFunc(known.at[place], func(set string) bool { return set != e.o.Config.Set() })
		if !here || asked[at] || others || len(images) == 0 {
			continue
		}
		i := images[0]
		if i.Prefix != e.o.Prefix && (i.Prefix != "" || !strings.HasPrefix(place, e.o.Prefix+"/")) {
			continue // it was mirrored to another path of the registry
		}
		repository, tag, _ := cutLast(place, ":")
		ref, err := imageset.ParseReference(i.Origin)
		if err != nil {
			ref = imageset.Reference{} // of what is made here
		}
		all = append(all, &plan.Image{Type: i.Type, Origin: i.Origin, Repository: repository, Tag: tag,
			Digest: i.Digest, Reference: ref})
	}
	past, err := e.unaskedV1(ctx, from, p, all)
	if err != nil {
		return nil, err
	}
	all = append(all, past...)
	slices.SortFunc(all, func(a, b *plan.Image) int { return strings.Compare(e.named(a), e.named(b)) })
	return all, nil
}

// prune deletes what is no longer asked for after a run in which nothing failed, and adds it to the
// report. What replaces it is there. The report is written before: content that it lists stays.
func (e *engine) prune(ctx context.Context, p *plan.Plan, r *Report) error {
	if err := e.checkAbsent(); err != nil {
		return err
	}
	images, err := e.unasked(ctx, e.o.Prune, p)
	if err == nil {
		err = e.writeReport(r)
	}
	var moved []*plan.Image
	if err == nil {
		images, moved, err = e.unmoved(ctx, e.o.Prune, images)
	}
	if err != nil {
		return err
	}
	r.Pruned, err = e.delete(ctx, e.o.Prune, items(e, images), false)
	if r.Pruned != nil {
		for _, item := range items(e, moved) {
			r.Pruned.Needed = append(r.Pruned.Needed, keptItem{item, pushedOver})
		}
	}
	return err
}

// pushedOver is for whom a tag stays that does not name what the workspace has mirrored.
const pushedOver = "a client, which has pushed another image over the tag,"

// unmoved returns those of some images whose tags name what the workspace has mirrored, or nothing, and
// the others.
func (e *engine) unmoved(ctx context.Context, from Pruner, images []*plan.Image) (rest, moved []*plan.Image, err error) {
	before := e.mirroredBefore()
	for _, i := range images {
		was := before[e.o.Registry+"/"+i.Repository+":"+i.Tag]
		if i.Tag == "" || len(was) == 0 {
			rest = append(rest, i)
			continue
		}
		desc, _, err := from.Manifest(ctx, i.Repository, i.Tag)
		switch {
		case ctx.Err() != nil:
			return nil, nil, ctx.Err()
		case err == nil && !slices.ContainsFunc(was, func(m mirroredImage) bool { return m.Digest == desc.Digest }):
			moved = append(moved, i)
		default: // what cannot be read is found out when it is deleted
			rest = append(rest, i)
		}
	}
	return rest, moved, nil
}

// checkAbsent returns an error where a package that is asked for is not in its catalog, which may have lost it
// for a day, or its name is misspelt: its images are to stay.
func (e *engine) checkAbsent() error {
	absent := e.catalogs.Absent()
	if len(absent) == 0 {
		return nil
	}
	return hint.New(fmt.Errorf("nothing is deleted, since the image set asks for what does not exist: %s", strings.Join(absent, ", ")),
		"correct the name, or take the package out of the image set, and run the same command again")
}

// planPrune adds what a run would delete to a plan, unless images cannot be planned: nothing is deleted
// then.
func (e *engine) planPrune(ctx context.Context, p *plan.Plan) error {
	if e.o.Prune == nil || len(p.Failures) > 0 {
		return nil
	}
	if err := e.checkAbsent(); err != nil {
		return err
	}
	images, err := e.unasked(ctx, e.o.Prune, p)
	if err != nil {
		return err
	}
	images, warnings, err := e.unneeded(ctx, e.o.Prune, images, false)
	p.Warnings = append(p.Warnings, warnings...)
	for _, i := range images {
		p.Prune = append(p.Prune, plan.Pruned{Type: i.Type, Origin: i.Origin, Repository: i.Repository, Tag: i.Tag, Digest: i.Digest})
	}
	return err
}

// pruningPlan returns what a run would delete in the form of oc-mirror v1.
func pruningPlan(p *plan.Plan) []byte {
	type repository struct {
		Name      string          `json:"name"`
		Manifests []digest.Digest `json:"manifests"`
	}
	all := struct {
		Registry     string        `json:"registry"`
		Repositories []*repository `json:"repositories"`
	}{Registry: p.Registry}
	at := map[string]*repository{}
	for _, i := range p.Prune {
		r := at[i.Repository]
		if r == nil {
			r = &repository{Name: i.Repository}
			at[i.Repository] = r
			all.Repositories = append(all.Repositories, r)
		}
		if !slices.Contains(r.Manifests, i.Digest) {
			r.Manifests = append(r.Manifests, i.Digest)
		}
	}
	text, _ := json.Marshal(all) // strings: it cannot fail
	return append(text, '\n')
}
