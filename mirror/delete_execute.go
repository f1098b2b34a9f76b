package mirror

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror/plan"
)

// Deleted is what a delete did.
type Deleted struct {
	Deleted []deleteItem `json:"deleted"`
	Absent  []deleteItem `json:"absent"` // were not there
	Kept    []keptItem   `json:"kept"`   // another image has the same content: only the tag was deleted
	Failed  []failedItem `json:"failed"`
	// Needed stay as they are: a catalog, a view, or another workspace at the registry needs them.
	Needed []keptItem `json:"needed,omitempty"`
}

// keptItem is an item whose content another image needs.
type keptItem struct {
	deleteItem
	For string `json:"for"`
}

// failedItem is an item that could not be deleted.
type failedItem struct {
	deleteItem
	Error string `json:"error"`
}

// victim is an item, and where it is.
type victim struct {
	deleteItem
	repository, tag string // or a digest
	digest          digest.Digest
	members         []digest.Digest // of a list
	was             []digest.Digest // that the workspace has mirrored to the tag; none if that is not known
}

// Delete deletes the images of a list that PlanDelete or oc-mirror wrote, with their signatures.
// What is not there is done. An image that two image sets of this workspace have mirrored is an
// error before anything is deleted, unless force; what something else at an appliance needs stays,
// unless force. Content that an image besides the list has too stays: a registry deletes a manifest
// with all of its tags.
func Delete(ctx context.Context, o Options, from Pruner, list string, force bool) (*Deleted, error) {
	e, err := newEngine(o)
	if err != nil {
		return nil, err
	}
	items, err := readList(list)
	if err != nil {
		return nil, err
	}
	if _, err := e.victims(items); err != nil { // before the workspace is locked
		return nil, err
	}
	unlock, err := e.workspace.lock(e.o.Now())
	if err != nil {
		return nil, err
	}
	defer unlock()
	if !force {
		if err := e.checkNotSince(list, items); err != nil {
			return nil, err
		}
	}
	return e.delete(ctx, from, items, force)
}

// checkNotSince returns an error for images that a run has mirrored since their list was written.
func (e *engine) checkNotSince(list string, items []deleteItem) error {
	info, err := os.Stat(list)
	if err != nil {
		return err
	}
	victims, err := e.victims(items)
	if err != nil {
		return err
	}
	runs, err := e.runs()
	if err != nil {
		return err
	}
	since := map[string]bool{}
	for _, r := range runs {
		for _, i := range r.Mirrored {
			since[i.Repository+":"+i.Tag] = since[i.Repository+":"+i.Tag] || r.Started.After(info.ModTime())
		}
	}
	var again []string
	for _, v := range victims {
		if since[v.repository+":"+v.tag] {
			again = append(again, v.ImageReference)
		}
	}
	if len(again) == 0 {
		return nil
	}
	return hint.New(fmt.Errorf("%d images of the list were mirrored since it was written: %s", len(again), strings.Join(again[:min(len(again), 10)], ", ")),
		"list again what is to be deleted, or delete with --force; nothing was deleted")
}

// recallDigests notes what the workspace has mirrored to the tags.
func (e *engine) recallDigests(victims []*victim) {
	before := e.mirroredBefore()
	for _, v := range victims {
		for _, i := range before[e.o.Registry+"/"+v.repository+":"+v.tag] {
			v.was = append(v.was, i.Digest)
		}
	}
}

// moved returns an error if a tag names another image than what the workspace has mirrored.
func (v *victim) moved() error {
	if len(v.was) == 0 || slices.Contains(v.was, v.digest) {
		return nil
	}
	return hint.New(fmt.Errorf("the tag names %s now, which the workspace has not mirrored", v.digest), "delete it with --force, if it is not to stay")
}

// victims returns the places of items.
func (e *engine) victims(items []deleteItem) (all []*victim, err error) {
	for _, item := range items {
		v := &victim{deleteItem: item}
		if v.repository, v.tag, err = e.place(item); err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, nil
}

// delete deletes items, see Delete. The workspace is locked.
func (e *engine) delete(ctx context.Context, from Pruner, items []deleteItem, force bool) (*Deleted, error) {
	victims, err := e.victims(items)
	if err != nil {
		return nil, err
	}
	known, err := e.known()
	if err != nil {
		return nil, err
	}
	if err := known.wanted(victims); err != nil && !force {
		return nil, err
	}
	if !force {
		e.recallDigests(victims)
	}
	d := &Deleted{Deleted: []deleteItem{}, Absent: []deleteItem{}, Kept: []keptItem{}, Failed: []failedItem{}}
	var needed map[Place]string
	if !force {
		if victims, needed, err = e.spare(ctx, from, victims, d); err != nil {
			return nil, err
		}
	}
	// A payload goes last: from it the components are known.
	slices.SortStableFunc(victims, func(a, b *victim) int { return payloads(a) - payloads(b) })
	err = e.deleteAll(ctx, from, victims, known.others(victims), needed, d)
	return d, errors.Join(err, e.forget(d))
}

func payloads(v *victim) int {
	if v.Type == plan.Release {
		return 1
	}
	return 0
}

// deleteAll deletes what is there, each digest of a repository once. The content of others stays, and
// that of what is needed.
func (e *engine) deleteAll(ctx context.Context, from Pruner, victims []*victim,
	others map[place]string, needed map[Place]string, d *Deleted) error {
	gone := map[place]bool{}
	stay := &staying{from: from, others: others, members: map[string]map[digest.Digest]bool{}}
	for _, v := range victims {
		err := e.resolve(ctx, from, v)
		if err == nil {
			err = v.moved()
		}
		at := place{v.repository, v.digest}
		if by := needed[Place{v.repository, v.tag}]; err == nil && by != "" {
			others[at] = by
		}
		switch {
		case err == nil && others[at] != "":
			d.Kept = append(d.Kept, keptItem{v.deleteItem, others[at]})
			err = e.untag(ctx, from, v)
		case err == nil && gone[at]: // the registry keeps the tags of what is deleted
			d.Deleted = append(d.Deleted, v.deleteItem)
			err = e.untag(ctx, from, v)
		case err == nil:
			if err = e.deleteOne(ctx, from, v, stay); err == nil {
				gone[at] = true
				d.Deleted = append(d.Deleted, v.deleteItem)
			}
		case errors.Is(err, fs.ErrNotExist):
			d.Absent = append(d.Absent, v.deleteItem)
			err = nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			d.Failed = append(d.Failed, failedItem{v.deleteItem, err.Error()})
		}
	}
	if len(d.Failed) > 0 {
		return fmt.Errorf("%d of %d images could not be deleted", len(d.Failed), len(victims))
	}
	return nil
}

func (e *engine) resolve(ctx context.Context, from Pruner, v *victim) (err error) {
	v.digest, v.members, err = list(ctx, from, v.repository, v.tag)
	return err
}

// deleteOne deletes a manifest, with its signatures and those of its members first: they would be
// out of reach after it.
func (e *engine) deleteOne(ctx context.Context, from Pruner, v *victim, stay *staying) error {
	subjects, err := stay.subjects(ctx, v)
	if err == nil {
		err = deleteSignatures(ctx, from, v.repository, subjects)
	}
	if err != nil {
		return err
	}
	if err := from.Delete(ctx, v.repository, v.digest.String()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	switch _, _, err := from.Manifest(ctx, v.repository, v.tag); {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	}
	return e.untag(ctx, from, v) // some registries keep the tags of what is deleted
}

// untag deletes a tag alone, where the registry can do that.
func (e *engine) untag(ctx context.Context, from Pruner, v *victim) error {
	if strings.Contains(v.tag, ":") { // a digest
		return nil
	}
	err := from.Delete(ctx, v.repository, v.tag)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return hint.New(fmt.Errorf("delete the tag %s alone: %w", v.tag, err),
		"this registry may be one that cannot; the tag stays")
}

// known are the images that the last run of each image set of a workspace has mirrored to each path of a registry.
type known struct {
	at      map[string][]string // tags, as repository:tag, and the image sets that have them
	here    map[string]place
	bundles map[string][]plan.Bundle // of operators, by the tags of the images that they need
	own     map[plan.Bundle]string   // the tags of their own images
	places  map[string]string        // of catalogs, as repository:tag, by the names that image sets have
}

// setRun is the last run of an image set to a path of the registry, by its report.
type setRun struct {
	Started                                  time.Time
	Registry, Prefix, ImageSet, ImageSetPath string
	FollowedDependencies                     bool
	Mirrored                                 []struct {
		Repository, Tag, Origin string
		Digest                  digest.Digest
		Type                    plan.Type
		Bundles                 []plan.Bundle
	}
}

// otherFile reports whether a path is of a file that is there and is not the one at another path.
func otherFile(path, than string) bool {
	info, err := os.Stat(path)
	if err != nil || path == than || than == "" {
		return false
	}
	here, err := os.Stat(than)
	return err != nil || !os.SameFile(info, here)
}

// runs reads the reports about the registry, the newest first.
func (e *engine) runs() (all []*setRun, err error) {
	names, err := e.workspace.List("logs")
	if err != nil {
		return nil, fmt.Errorf("read the workspace: %w", err)
	}
	for _, name := range names {
		if !isReport(name) {
			continue
		}
		r := &setRun{}
		data, err := e.workspace.Read("logs/" + name)
		if err == nil {
			err = json.Unmarshal(data, r)
		}
		if err != nil {
			return nil, fmt.Errorf("report %s: %w", e.workspace.path("logs/"+name), err)
		}
		if r.Registry == e.o.Registry {
			all = append(all, r)
		}
	}
	slices.SortStableFunc(all, func(a, b *setRun) int { return b.Started.Compare(a.Started) })
	return all, nil
}

// known reads the reports. An image set is known by the name of its file; of several files with one name that are there,
// the others are known by their paths. So one that moves stays the same.
func (e *engine) known() (*known, error) {
	runs, err := e.runs()
	if err != nil {
		return nil, err
	}
	k := &known{at: map[string][]string{}, here: map[string]place{}, bundles: map[string][]plan.Bundle{}, own: map[plan.Bundle]string{},
		places: map[string]string{}}
	meant := map[string]string{e.o.Config.Set(): e.o.Config.Path} // by name
	seen := map[string]bool{}
	for _, r := range runs {
		if _, ok := meant[r.ImageSet]; !ok {
			meant[r.ImageSet] = r.ImageSetPath
		}
		set := r.ImageSet
		if otherFile(r.ImageSetPath, meant[r.ImageSet]) {
			set = r.ImageSetPath
		}
		if r.Prefix != e.o.Prefix {
			set += " at " + r.Registry + "/" + r.Prefix
		}
		if !seen[set] {
			seen[set] = true
			k.add(set, r)
		}
	}
	return k, nil
}

func (k *known) add(set string, r *setRun) {
	for _, i := range r.Mirrored {
		at := i.Repository + ":" + i.Tag
		k.at[at] = append(k.at[at], set)
		if _, ok := k.here[at]; !ok { // the newest
			k.here[at] = place{i.Repository, i.Digest}
		}
		k.bundles[at] = append(k.bundles[at], i.Bundles...)
		if i.Type == plan.OperatorCatalog && k.places[i.Origin] == "" {
			k.places[i.Origin] = at
		}
		if i.Type == plan.OperatorBundle {
			for _, b := range i.Bundles {
				k.own[b] = at
			}
		}
	}
}

func isReport(name string) bool {
	return strings.HasPrefix(name, "report_") && strings.HasSuffix(name, ".json")
}

// wanted returns an error for images that several image sets have.
func (k *known) wanted(victims []*victim) error {
	var all []string
	for _, v := range victims {
		if sets := k.at[v.repository+":"+v.tag]; len(sets) > 1 {
			slices.Sort(sets)
			all = append(all, fmt.Sprintf("%s (%s)", v.ImageReference, strings.Join(sets, ", ")))
		}
	}
	if len(all) == 0 {
		return nil
	}
	return hint.New(fmt.Errorf("other image sets of this workspace want %d of the images: %s",
		len(all), strings.Join(all[:min(len(all), 10)], ", ")),
		"take them out of those image sets and run them again, or delete with --force; nothing was deleted")
}

// keep takes the images out of a plan that bundles besides those of the plan need, and warns of them:
// the bundles of one operator share images, and those of several do. A bundle that an earlier delete has
// deleted needs nothing.
//
// places are those of the plan's catalogs: a pinned configuration has another name for a catalog.
func (k *known) keep(p *plan.Plan, there mirrored, places map[string]string) {
	going := map[plan.Bundle]bool{}
	for b, at := range k.own {
		going[placed(b, k.places)] = len(there[p.Registry+"/"+at]) == 0
	}
	for _, i := range p.Images {
		for _, b := range i.Bundles {
			going[placed(b, places)] = true
		}
	}
	stays := map[string]bool{}
	p.Images = slices.DeleteFunc(p.Images, func(i *plan.Image) bool {
		at := i.Repository + ":" + i.Tag
		n := -1
		if len(i.Bundles) > 0 {
			n = slices.IndexFunc(k.bundles[at], func(b plan.Bundle) bool { return !going[placed(b, k.places)] })
		}
		if n >= 0 && !stays[at] {
			stays[at] = true
			b := k.bundles[at][n]
			p.Warnings = append(p.Warnings, fmt.Sprintf("%s stays: bundle %s of operator %s needs it, in catalog %s", at, b.Name, b.Package, b.Catalog))
		}
		return n >= 0
	})
}

// placed returns a bundle with the destination of its catalog, if that is known, for a name.
func placed(b plan.Bundle, places map[string]string) plan.Bundle {
	b.Catalog = cmp.Or(places[b.Catalog], b.Catalog)
	return b
}

// others returns the content of images that are not to be deleted, each with one of those images.
func (k *known) others(victims []*victim) map[place]string {
	deleted := map[string]bool{}
	for _, v := range victims {
		deleted[v.repository+":"+v.tag] = true
	}
	all := map[place]string{}
	for at, content := range k.here {
		if !deleted[at] {
			all[content] = at
		}
	}
	return all
}
