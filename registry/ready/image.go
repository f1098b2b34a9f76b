package ready

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/cluster"
	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/mirror/graphdata"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/stored"
)

// place is an image, a manifest or a blob in a repository.
type place struct {
	repository string
	digest     digest.Digest
}

// blob is one that was found.
type blob struct {
	repository string
	size       int64
	cure       *api.Cure
}

// looked is what was found of an image.
type looked struct{ manifests []digest.Digest } // but for lists

// again is what to do where something of a mirrored image is missing.
const again = "mirror it again: appliance mirror"

// image judges an image of a release: where it is read, whether it is whole there, and whether it is signed
// as nodes demand.
func (j *judgement) image(ctx context.Context, p *payload, w wanted) error {
	at, ok, err := j.place(ctx, p, w)
	if err != nil || !ok {
		j.verdict.Images++
		return err
	}
	found, err := j.look(ctx, p, w, at)
	if err != nil {
		return err
	}
	return j.attachments(ctx, p, w, at, found)
}

// look looks at an image where it is read, once.
func (j *judgement) look(ctx context.Context, p *payload, w wanted, at place) (*looked, error) {
	j.verdict.Images++
	if found, ok := j.looked[at]; ok {
		return found, nil
	}
	found, err := j.whole(ctx, p, w, at)
	j.looked[at] = found
	return found, err
}

// place finds where nodes read an image. It is to be the same place while they are installed and once they
// run. That there is none is a reason.
func (j *judgement) place(ctx context.Context, p *payload, w wanted) (at place, ok bool, err error) {
	if w.component == "release" && j.request.From == "" { // the installer is given its place
		at, ok = place{p.repository, w.digest}, true
	} else if at, ok, err = j.find(ctx, p.running, w); err != nil {
		return at, false, err
	}
	unmapped := func(code, what, files string) {
		r := api.Reason{Code: code, Where: w.name, Text: "no mirror of this registry is named for it in " + what + ", and " + w.component + " is an image of it", Hint: files}
		if j.request.Cluster == nil {
			r.Cure = p.cure
		}
		j.refuse(r)
	}
	files := "mirror the release with appliance mirror, which records where its images come from; then make the files again: appliance cluster-config"
	if j.request.Cluster != nil {
		files = applied
	}
	switch running := j.repositories(p.running, w.name); {
	case len(running) == 0:
		unmapped("unmapped", "the mirror sets", files)
		return at, ok, nil
	case !ok:
		j.refuse(api.Reason{Code: "image-absent", Where: j.at(place{running[0], w.digest}), Text: "the image of " + w.component + " is not here", Hint: again, Cure: p.cure})
		return at, false, nil
	}
	installing := j.repositories(p.installing, w.name)
	switch {
	case w.component == "release", j.request.From != "":
	case len(installing) == 0:
		unmapped("unmapped-install", "imageDigestSources of install-config.yaml", files)
	case installing[0] != at.repository: // the installer asks no other
		j.refuse(api.Reason{Code: "install-place", Where: w.name, Text: fmt.Sprintf("install-config.yaml leads to %s first, and %s is in %s", installing[0], w.component, at.repository),
			Hint: "mirror the release to one path of the registry"})
	}
	return at, ok, nil
}

// repositories returns the repositories of this registry in which a repository of a source is read.
func (j *judgement) repositories(sources cluster.Sources, name string) []string {
	return sources.Repositories(j.Registry, name)
}

// find returns the first place in which an image is.
func (j *judgement) find(ctx context.Context, sources cluster.Sources, w wanted) (at place, ok bool, err error) {
	for _, repository := range j.repositories(sources, w.name) {
		_, _, err := j.manifest(ctx, place{repository, w.digest})
		if err == nil {
			return place{repository, w.digest}, true, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return at, false, err
		}
	}
	return at, false, nil
}

// manifest reads a manifest. It is an error for which errors.Is(err, fs.ErrNotExist) holds if it is absent.
func (j *judgement) manifest(ctx context.Context, at place) (m image.Manifest, body []byte, err error) {
	desc, body, err := stored.Repository{Store: j.Store, Name: at.repository}.Manifest(ctx, at.digest.String())
	if err == nil {
		m, err = image.Parse(desc.MediaType, body)
	}
	if err != nil {
		return m, nil, fmt.Errorf("%s: %w", j.at(at), err)
	}
	if m.MediaType == "" {
		m.MediaType = desc.MediaType
	}
	return m, body, nil
}

// whole looks at everything of an image.
func (j *judgement) whole(ctx context.Context, p *payload, w wanted, at place) (*looked, error) {
	found := &looked{}
	err := j.wholeBelow(ctx, p, w, at, found, 0)
	return found, err
}

// maxDepth bounds indexes in indexes.
const maxDepth = 5

func (j *judgement) wholeBelow(ctx context.Context, p *payload, w wanted, at place, found *looked, depth int) error {
	m, body, err := j.manifest(ctx, at)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		j.refuse(api.Reason{Code: "image-absent", Where: j.at(at), Text: "a manifest of the image of " + w.component + " is not here", Hint: again, Cure: p.cure})
		return nil
	case err == nil && at.digest.Algorithm().FromBytes(body) != at.digest, err == nil && depth > maxDepth:
		j.refuse(api.Reason{Code: "content-damaged", Where: j.at(at), Text: "the manifest of " + w.component + " is damaged", Hint: "appliance verify", Cure: p.cure})
		return nil
	case err != nil:
		return err
	}
	j.verdict.Manifests++
	if !image.IsIndex(m.EffectiveType()) {
		found.manifests = append(found.manifests, at.digest)
		return j.parts(ctx, p, w, at, m)
	}
	children := j.children(p, m)
	for _, r := range children {
		if err := j.wholeBelow(ctx, p, w, place{at.repository, r.Digest}, found, depth+1); err != nil {
			return err
		}
	}
	j.missing(p, w, at, children)
	return nil
}

// children returns the images of a list that nodes need.
func (j *judgement) children(p *payload, m image.Manifest) (all []image.Reference) {
	var archs []string
	switch {
	case p.Release.Arch == graphdata.Multi:
		archs = j.nodes
	case p.bundle: // which may have been mirrored with the platforms of the nodes alone
		archs = []string{p.Release.Arch}
	}
	for _, r := range m.References {
		if isImage(r) && (len(archs) == 0 || slices.Contains(archs, arch(r))) {
			all = append(all, r)
		}
	}
	return all
}

// isImage reports whether a member of a list is an image that nodes run, and no statement about one.
func isImage(r image.Reference) bool {
	return r.Kind == image.Child && !strings.HasPrefix(r.Platform, "unknown/")
}

// missing gives a reason where a list has no image for an architecture of the nodes.
func (j *judgement) missing(p *payload, w wanted, at place, children []image.Reference) {
	if len(children) == 0 {
		j.refuse(api.Reason{Code: "platform-absent", Where: j.at(at), Text: w.component + " has no image for " + strings.Join(j.nodes, ", "), Hint: "take a release for this architecture"})
		return
	}
	if p.Release.Arch != graphdata.Multi {
		return
	}
	for _, a := range j.nodes {
		if !slices.ContainsFunc(children, func(r image.Reference) bool { return arch(r) == a }) {
			j.refuse(api.Reason{Code: "platform-absent", Where: j.at(at), Text: w.component + " has no image for " + a, Hint: "take a release for this architecture"})
		}
	}
}

// arch returns the architecture of an image of a list.
func arch(r image.Reference) string {
	_, a, _ := strings.Cut(r.Platform, "/")
	a, _, _ = strings.Cut(a, "/")
	return a
}

// parts looks at the blobs of a manifest.
func (j *judgement) parts(ctx context.Context, p *payload, w wanted, at place, m image.Manifest) error {
	repo := stored.Repository{Store: j.Store, Name: at.repository}
	for _, r := range m.Required() {
		size, err := repo.Stat(ctx, r.Digest)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			j.refuse(api.Reason{Code: "blob-absent", Where: j.at(place{at.repository, r.Digest}), Text: fmt.Sprintf("a %s of the image of %s is not here", r.Kind, w.component),
				Hint: again + "; see appliance verify", Cure: p.cure})
			continue
		case err != nil:
			return err
		case r.Size > 0 && size != r.Size:
			j.refuse(api.Reason{Code: "content-damaged", Where: j.at(place{at.repository, r.Digest}), Text: fmt.Sprintf("a %s of the image of %s has %d bytes, and is to have %d", r.Kind, w.component, size, r.Size),
				Hint: "appliance verify", Cure: p.cure})
		}
		j.blobs[r.Digest] = blob{at.repository, size, p.cure}
	}
	return nil
}

// archs returns the architectures of a list.
func (j *judgement) archs(ctx context.Context, at place) (all []string, err error) {
	m, _, err := j.manifest(ctx, at)
	for _, r := range m.References {
		if isImage(r) {
			all = append(all, arch(r))
		}
	}
	return all, err
}

// layers returns the layers of an image, the lowest first; of a list, those of the image for an
// architecture, or of the first that nodes need.
func (j *judgement) layers(ctx context.Context, at place, of string) (all []digest.Digest, err error) {
	m, _, err := j.manifest(ctx, at)
	if err != nil {
		return nil, err
	}
	for _, r := range m.References {
		switch {
		case r.Kind == image.Layer:
			all = append(all, r.Digest)
		case isImage(r) && (of == "" || arch(r) == of) && (len(j.nodes) == 0 || slices.Contains(j.nodes, arch(r))):
			return j.layers(ctx, place{at.repository, r.Digest}, of)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s has no image for %s", j.at(at), of)
	}
	return all, nil
}
