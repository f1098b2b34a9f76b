package mirror

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/blang/semver/v4"
	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/mirror/catalog"
	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/plan"
	"github.com/mirror-appliance/appliance/mirror/release"
)

// ReadCatalog returns what an operator catalog of a registry has. A *CatalogError is about that catalog
// alone.
type ReadCatalog func(at Place) (*catalog.Content, error)

// CatalogError is the reason that the content of a catalog is not known.
type CatalogError struct{ Reason string }

func (e *CatalogError) Error() string { return e.Reason }

// HeldImageSet returns an ImageSetConfiguration of what a registry has, from what the runs recorded and
// what its catalogs have. Unrecorded are tags, as repository:tag, of which nothing was.
func HeldImageSet(origins []Origin, unrecorded []string, read ReadCatalog) ([]byte, error) {
	h := &heldSet{prefixes: map[string]bool{}, others: map[plan.Type]int{}, ofBundles: map[string]bool{}}
	var images []mirroredImage
	for _, o := range origins {
		i, err := o.image()
		if err == nil && i.Type == plan.OperatorCatalog {
			err = h.catalog(o, i, read)
		}
		if err != nil {
			return nil, err
		}
		h.add(o, i)
		images = append(images, i)
	}
	h.unoffered(images)
	for _, prefix := range slices.Sorted(maps.Keys(h.prefixes)) {
		if prefix != "" {
			h.note("some of it is below the path %s: give it with the destination, docker://HOST:PORT/%[1]s", prefix)
		}
	}
	if h.joined {
		h.note("some of it was mirrored with --max-nested-paths: give that again")
	}
	for _, t := range slices.Sorted(maps.Keys(h.others)) {
		h.note("not in here: images of type %s, %d of them", t, h.others[t])
	}
	if len(unrecorded) > 0 {
		h.note("not in here, since no run recorded their origins (clients pushed them, or an earlier version mirrored them):")
	}
	slices.Sort(unrecorded)
	for _, tag := range unrecorded {
		h.note("  %s", tag)
	}
	return imageset.Write(h.Held), nil
}

// HeldCatalog is an operator catalog that a registry or an archive has.
type HeldCatalog struct {
	Catalog string        `json:"catalog"` // as the image set names it; of another program's archive ""
	Image   string        `json:"image"`
	Digest  digest.Digest `json:"digest"`
}

// HeldCatalogs returns the catalogs of a registry, and views of them, from what the runs recorded.
func HeldCatalogs(origins []Origin) ([]HeldCatalog, error) {
	all := []HeldCatalog{}
	for _, o := range origins {
		i, err := o.image()
		if err != nil {
			return nil, err
		}
		if i.Type == plan.OperatorCatalog || i.Type == plan.CatalogView {
			all = append(all, HeldCatalog{i.Origin, o.Repository + ":" + o.Tag, i.Digest})
		}
	}
	return all, nil
}

// HeldRelease is a release, or an image with graph data, that a registry has.
type HeldRelease struct {
	Repository, Tag string
	Digest          digest.Digest
	Channel         string // which led to it; "" if it was named
	Origin          string // as its source names it
	Signature       []byte // of a release: OpenPGP, verified by the run; nil: it has none
}

// HeldReleases returns the releases of a registry, from what the runs recorded.
func HeldReleases(origins []Origin) ([]HeldRelease, error) { return heldOf(origins, plan.Release) }

// HeldGraphs returns the images with graph data of a registry, from what the runs recorded.
func HeldGraphs(origins []Origin) ([]HeldRelease, error) { return heldOf(origins, plan.Graph) }

func heldOf(origins []Origin, t plan.Type) (all []HeldRelease, err error) {
	for _, o := range origins {
		i, err := o.image()
		if err != nil {
			return nil, err
		}
		if i.Type == t {
			all = append(all, HeldRelease{o.Repository, o.Tag, i.Digest, i.Channel, i.Origin, i.Signature})
		}
	}
	return all, nil
}

// HeldImage is an image that a registry has, with a tag.
type HeldImage struct {
	Repository, Tag string
	Digest          digest.Digest
	Type            plan.Type
	Origin          string // as its source names it
}

// HeldImages returns the images of a registry, from what the runs recorded.
func HeldImages(origins []Origin) (all []HeldImage, err error) {
	for _, o := range origins {
		i, err := o.image()
		if err != nil {
			return nil, err
		}
		all = append(all, HeldImage{o.Repository, o.Tag, i.Digest, i.Type, i.Origin})
	}
	return all, nil
}

// heldSet collects what a registry has.
type heldSet struct {
	imageset.Held
	prefixes  map[string]bool // paths below which a registry has images
	joined    bool            // components of paths were joined
	ofBundles map[string]bool // images that bundles of the catalogs need, as those name them
	others    map[plan.Type]int
}

func (h *heldSet) note(format string, args ...any) {
	h.Notes = append(h.Notes, fmt.Sprintf(format, args...))
}

func (h *heldSet) add(o Origin, i mirroredImage) {
	switch i.Type {
	case plan.ReleaseContent: // the release brings it
	case plan.OperatorCatalog, plan.OperatorBundle, plan.OperatorRelated: // see catalog and unoffered
	case plan.Graph:
		h.Graph = true
	case plan.Release:
		h.release(o, i)
	case plan.Generic:
		h.image(o, i, "")
	case plan.Helm:
		h.image(o, i, "an image of a chart; which chart was not recorded")
	default:
		h.others[i.Type]++
	}
}

// release adds a release, whose tag is its version and its architecture.
func (h *heldSet) release(o Origin, i mirroredImage) {
	version, machine, _ := cutLast(o.Tag, "-")
	v, err := semver.Parse(version)
	r := imageset.HeldRelease{Version: v, Architecture: release.Architecture(machine), Channel: i.Channel,
		OKD: strings.HasPrefix(i.Origin, "quay.io/okd/"), Payload: i.Origin}
	if err != nil {
		r.Channel = "" // it was mirrored by its digest
	}
	if len(i.Platforms) > 0 {
		h.note("%s was mirrored with platforms %v only", o.Tag, i.Platforms)
	}
	h.Releases = append(h.Releases, r)
	h.below(o.Repository, "openshift/release-images")
}

func cutLast(s, sep string) (before, after string, found bool) {
	n := strings.LastIndex(s, sep)
	if n < 0 {
		return s, "", false
	}
	return s[:n], s[n+len(sep):], true
}

// below notes the path below which a repository is, and reports whether its name ends with path.
func (h *heldSet) below(repository, path string) bool {
	prefix, ok := strings.CutSuffix(repository, path)
	if ok = ok && (prefix == "" || strings.HasSuffix(prefix, "/")); ok {
		h.prefixes[strings.TrimSuffix(prefix, "/")] = true
	}
	return ok
}

func (h *heldSet) image(o Origin, i mirroredImage, note string) {
	ref, err := imageset.ParseReference(i.Origin)
	if err != nil {
		h.note("not in here: %s:%s, whose origin %s is not a reference", o.Repository, o.Tag, i.Origin)
		return
	}
	held := imageset.HeldImage{AdditionalImage: imageset.AdditionalImage{Name: i.Origin, Platforms: i.Platforms}, Note: note}
	held.TargetRepo = h.target(o, i, ref.Path)
	if o.Tag != ref.DestinationTag() {
		held.TargetTag = o.Tag
	}
	h.Images = append(h.Images, held)
}

// target returns the repository that an entry has to name for an image to be put where it is, "" if it is
// there by itself. It notes the path below which that is.
func (h *heldSet) target(o Origin, i mirroredImage, path string) string {
	if i.Joined {
		h.joined = true
		join := strings.NewReplacer("/", "-")
		if join.Replace(o.Repository) == join.Replace(strings.TrimPrefix(i.Prefix+"/"+path, "/")) {
			h.prefixes[i.Prefix] = true
			return ""
		}
	}
	if within, ok := strings.CutPrefix(o.Repository, i.Prefix+"/"); ok && i.Prefix != "" && within != path {
		h.prefixes[i.Prefix] = true
		return within
	}
	if h.below(o.Repository, path) {
		return ""
	}
	return o.Repository
}
