package mirror

import (
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/plan"
	"github.com/mirror-appliance/appliance/mirror/resources"
)

// mirroredFile lists what the runs of a workspace have mirrored and no delete has deleted.
const mirroredFile = "mirrored.json"

// mirroredImage is an image at a destination.
type mirroredImage struct {
	Type   plan.Type     `json:"type"`
	Origin string        `json:"origin"`
	Digest digest.Digest `json:"digest"`
	// Signature is OpenPGP, of a release.
	Signature []byte `json:"signature,omitempty"`
	// Template is that of an operator catalog's CatalogSource.
	Template []byte `json:"template,omitempty"`
	// Whole reports that an operator catalog was asked for as it is, and is so.
	Whole bool `json:"whole,omitempty"`
	// UniqueName is that of an operator catalog in an image set of version 1, which names resources by it.
	UniqueName string `json:"uniqueName,omitempty"`
	// Channel led to a release.
	Channel   string            `json:"channel,omitempty"`
	Platforms []imageset.OSArch `json:"platforms,omitempty"`
	// Joined reports that the components of paths were joined, see Options.MaxNestedPaths.
	Joined bool `json:"joined,omitempty"`
	// Names are those of a catalog's resources.
	resources.Names
	// Prefix is the path below the registry that it was mirrored to.
	Prefix string `json:"prefix,omitempty"`
}

// mirroredOf returns what is noted of an image.
func (e *engine) mirroredOf(i *plan.Image) mirroredImage {
	noted := mirroredImage{Type: i.Type, Origin: i.Origin, Digest: i.Digest, Signature: i.Signature, Template: i.Template,
		Channel: i.Channel, Platforms: i.Platforms, Joined: e.o.MaxNestedPaths > 0, Prefix: e.o.Prefix, Whole: i.Whole,
		Names: resources.Names{Source: e.sourceNames[e.destination(i)]}}
	if e.o.Config.V1 {
		noted.UniqueName = i.UniqueName
	}
	return noted
}

// mirrored are images by their destinations, registry/repository:tag. One that is known by several
// names at its sources is there under each.
type mirrored map[string][]mirroredImage

// mirroredBefore returns what the workspace knows. Where it has no list that can be read, its
// reports are one.
func (e *engine) mirroredBefore() mirrored {
	all := mirrored{}
	raw, err := e.workspace.Read(mirroredFile)
	if err == nil {
		err = json.Unmarshal(raw, &all)
	}
	if err == nil {
		return all
	}
	if !errors.Is(err, fs.ErrNotExist) {
		e.o.Log.Warn("the list of mirrored images is made anew of the reports", "file",
			e.workspace.path(mirroredFile), "error", err)
	}
	return e.mirroredByReports()
}

// mirroredByReports returns what the last report about each destination says.
func (e *engine) mirroredByReports() mirrored {
	all := mirrored{}
	past, err := History(e.workspace.dir)
	for _, p := range past { // the oldest first
		var r struct {
			Registry string
			Mirrored []struct {
				mirroredImage
				Repository, Tag string
			}
		}
		var raw []byte
		if raw, err = e.workspace.Read("logs/" + p.name); err == nil {
			err = json.Unmarshal(raw, &r)
		}
		for _, i := range r.Mirrored {
			all.put(r.Registry+"/"+i.Repository+":"+i.Tag, i.mirroredImage)
		}
	}
	if err != nil {
		e.o.Log.Warn("cluster resources are without some images of earlier runs", "error", err)
	}
	return all
}

// mirroredWith returns what the workspace knows, with the images of a run, and with names for the
// resources of all catalogs of the registry.
func (e *engine) mirroredWith(images []*plan.Image) mirrored {
	all := e.mirroredBefore()
	e.addTo(all, images)
	all.name(e.o.Registry, e.resourceOptions())
	return all
}

// addTo adds the images of a run to what the workspace knows. The catalogs that an earlier version has
// named have their names before those of the run.
func (e *engine) addTo(all mirrored, images []*plan.Image) {
	all.name(e.o.Registry, e.resourceOptions())
	all.add(e, images)
	for at, source := range e.sourceNames {
		for n := range all[at] {
			all[at][n].Source = source
		}
	}
}

// add adds the images of a run. A catalog keeps the names that it has.
func (m mirrored) add(e *engine, images []*plan.Image) {
	for _, i := range images {
		at, noted := e.destination(i), e.mirroredOf(i)
		if i.Type == plan.OperatorCatalog {
			m.supersede(e.o.Registry+"/"+i.Repository, i.Origin)
			noted.Names = m.names(at)
		}
		m.put(at, noted)
	}
}

// only returns the images of a run, with the names that the resources of catalogs have.
func (m mirrored) only(e *engine, images []*plan.Image) mirrored {
	these := mirrored{}
	these.add(e, images)
	for at, known := range these {
		for n := range known {
			known[n].Names = m.names(at)
		}
	}
	return these
}

// names returns the names of the resources of the catalog at a destination.
func (m mirrored) names(at string) resources.Names {
	for _, i := range m[at] {
		if i.Names != (resources.Names{}) {
			return i.Names
		}
	}
	return resources.Names{}
}

// name gives names to the resources of the catalogs of a registry that have none.
func (m mirrored) name(registry string, o resources.Options) {
	named, _ := resources.Named(m.resources(registry, "").Catalogs, o)
	for _, c := range named {
		for n := range m[c.Image] {
			m[c.Image][n].Names = c.Names
		}
	}
}

// supersede forgets the catalogs of an origin that are named by their digests: there is another one,
// and clusters need one source for it.
func (m mirrored) supersede(repository, origin string) {
	for at, images := range m {
		if !strings.HasPrefix(at, repository+":sha256-") {
			continue
		}
		m[at] = slices.DeleteFunc(images, func(i mirroredImage) bool {
			return i.Type == plan.OperatorCatalog && i.Origin == origin
		})
		if len(m[at]) == 0 {
			delete(m, at)
		}
	}
}

// put notes what a destination has now. Other names of the same image stay.
func (m mirrored) put(at string, i mirroredImage) {
	stay := slices.DeleteFunc(m[at], func(o mirroredImage) bool { return o.Digest != i.Digest || o.Origin == i.Origin })
	m[at] = append(stay, i)
}

func (e *engine) writeMirrored(m mirrored) error {
	raw, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return e.workspace.Write(mirroredFile, append(raw, '\n'))
}

// forget takes deleted images off the list.
func (e *engine) forget(d *Deleted) error {
	all := e.mirroredBefore()
	before := len(all)
	items := slices.Concat(d.Deleted, d.Absent)
	for _, k := range d.Kept { // their content is kept, not their tags
		items = append(items, k.deleteItem)
	}
	for _, i := range items {
		delete(all, strings.TrimPrefix(i.ImageReference, "docker://"))
	}
	if len(all) == before {
		return nil
	}
	return e.writeMirrored(all)
}

// resources returns what cluster resources are about, of a registry. The update service has the
// graph image of a repository, if there are several.
func (m mirrored) resources(registry, graph string) resources.Mirrored {
	var r resources.Mirrored
	for _, at := range slices.Sorted(maps.Keys(m)) {
		if !strings.HasPrefix(at, registry+"/") {
			continue
		}
		for _, i := range m[at] {
			i.describe(at, registry+"/"+graph, &r)
		}
	}
	return r
}

// describe adds what cluster resources say of an image at its destination.
func (i mirroredImage) describe(at, graph string, r *resources.Mirrored) {
	repository := at[:strings.LastIndexByte(at, ':')]
	if i.Type == plan.Graph && (r.Updates == nil || repository == graph) {
		r.Updates = &resources.UpdateService{GraphImage: at,
			Releases: strings.TrimSuffix(repository, "graph-image") + "release-images"}
	}
	if i.Type == plan.OperatorCatalog || i.Type == plan.CatalogView {
		r.Catalogs = append(r.Catalogs, resources.Catalog{Image: at, Origin: i.Origin, UniqueName: i.UniqueName, Template: i.Template, Names: i.Names})
	}
	if i.Signature != nil {
		r.Signatures = append(r.Signatures, resources.Signature{Digest: i.Digest, Raw: i.Signature})
	}
	class := i.Type.Class()
	ref, err := imageset.ParseReference(i.Origin)
	if err != nil || class.MirrorSets == "" || ref.IsLayout() { // a cluster cannot ask for a directory
		return
	}
	r.Images = append(r.Images, resources.Image{
		Category: class.MirrorSets, Source: ref.Canonical(), Destination: repository,
		ByDigest: class.ByBoth || ref.Digest != "", ByTag: class.ByBoth || ref.Tag != "",
	})
}

// resourceOptions returns how cluster resources are rendered, but for their time.
func (e *engine) resourceOptions() resources.Options {
	return resources.Options{Version: e.o.Version, ByRepository: e.o.MaxNestedPaths > 0,
		DefaultSourceNames: e.o.DefaultSourceNames, V1: e.o.Config.V1}
}

// render returns the cluster resources for what is mirrored. A file that says the same as the one
// that exists is that one, with the time when it was made.
func (e *engine) render(m mirrored, at time.Time) ([]resources.File, error) {
	of, options := m.resources(e.o.Registry, e.repository(graphRepository)), e.resourceOptions()
	options.Created = at
	files, err := resources.Render(of, options)
	if err != nil {
		return nil, err
	}
	for n, f := range files {
		old, err := e.workspace.Read("cluster-resources/" + f.Name)
		if err != nil {
			continue
		}
		created := createdAt.FindSubmatch(old)
		if created == nil {
			continue
		}
		if options.Created, err = time.Parse(time.RFC3339, string(created[1])); err != nil {
			continue
		}
		again, err := resources.Render(of, options)
		if err != nil {
			return nil, err
		}
		if slices.Equal(again[n].Data, old) {
			files[n] = again[n]
		}
	}
	return files, nil
}

// createdAt finds the time in a resource, in YAML and in JSON.
var createdAt = regexp.MustCompile(`createdAt"?: ?"([^"]+)"`)
