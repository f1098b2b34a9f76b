package mirror

import (
	"path"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/plan"
)

// The names of pinned configurations begin with these, as in oc-mirror, and the time follows.
const (
	pinnedSet      = "isc_pinned_"
	pinnedDeletion = "disc_pinned_"
)

// pin writes the pinned configurations of a run, or those of the archive that it mirrors from. Those of a
// run into an archive have been written before its commit.
func (e *engine) pin(r *Report) (err error) {
	if !e.o.ToArchive {
		if e.pinned, err = e.writePinned(r.Mirrored); err == nil {
			err = e.takePinned()
		}
	}
	r.Pinned = e.pinned
	return err
}

// writePinned writes the image set with the digests that its tags had, to mirror the same once more,
// and what deletes it. What is mirrored from an archive has been decided when that was made.
func (e *engine) writePinned(images []*plan.Image) (paths []string, err error) {
	if !e.o.Pin || e.o.Documents != nil || e.o.Config.V1 {
		return nil, nil
	}
	pins := imageset.Pins{Catalogs: e.catalogs.Pins(), Images: map[string]digest.Digest{}}
	for _, i := range images {
		if i.Type == plan.Generic {
			pins.Images[i.Origin] = i.Digest
		}
	}
	set, deletion, err := e.o.Config.Pin(pins)
	if err != nil {
		return nil, err
	}
	after := e.o.Now().UTC().Format(time.RFC3339) + ".yaml"
	for _, f := range []struct {
		name string
		data []byte
	}{{pinnedSet + after, set}, {pinnedDeletion + after, deletion}} {
		if err := e.workspace.Write(f.name, f.data); err != nil {
			return nil, err
		}
		paths = append(paths, e.workspace.path(f.name))
	}
	return paths, nil
}

// takePinned keeps the pinned configurations of an archive that is mirrored from: what deletes its images
// is wanted where they are.
func (e *engine) takePinned() error {
	if !e.o.Pin || e.o.Documents == nil {
		return nil
	}
	names, err := e.o.Documents.List("")
	if err != nil {
		return err
	}
	for _, name := range names {
		set, _ := path.Match(pinnedSet+"*.yaml", name)
		deletion, _ := path.Match(pinnedDeletion+"*.yaml", name)
		if !set && !deletion {
			continue
		}
		data, err := e.o.Documents.Read(name)
		if err == nil {
			err = e.workspace.Write(name, data)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// pinArchive writes the pinned configurations before an archive is committed, which takes them along.
func (x *execution) pinArchive(p *plan.Plan) (err error) {
	if x.o.ToArchive && len(x.failures(p)) == 0 {
		x.pinned, err = x.writePinned(p.Images)
	}
	return err
}

// pinnedCatalogs returns the digests of the catalogs that the pinned configurations of the workspace
// name: a delete reads those catalogs.
func (e *engine) pinnedCatalogs() (all []digest.Digest) {
	names, err := e.workspace.List("")
	if err != nil {
		e.o.Log.Warn("catalogs of pinned configurations may be removed", "error", err)
	}
	for _, name := range names {
		if ok, _ := path.Match(pinnedDeletion+"*.yaml", name); !ok {
			continue
		}
		c, err := imageset.LoadDelete(e.workspace.path(name))
		if err != nil {
			e.o.Log.Warn("a pinned configuration cannot be read", "error", err)
			continue
		}
		for _, o := range c.Mirror.Operators {
			if ref, err := imageset.ParseReference(o.Catalog); err == nil && ref.Digest != "" {
				all = append(all, ref.Digest)
			}
		}
	}
	return all
}
