package mirror

import (
	"fmt"
	"strings"

	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/mirror/imageset"
)

// Missed is a manifest that clients of a registry asked for and did not get.
type Missed struct{ Repository, Reference string }

// Upstream is a registry, or a path of one, that another one pulls through from below a prefix.
type Upstream struct{ Prefix, URL string }

// MissedImageSet returns an ImageSetConfiguration that mirrors what clients did not get: from the
// upstream that a repository is below, from where a run has mirrored the repository, or from the host
// that its name begins with. Of what cannot be placed it has comments.
func MissedImageSet(missed []Missed, upstreams []Upstream, origins []Origin) ([]byte, error) {
	from := map[string]imageset.Reference{}
	for _, o := range origins {
		i, err := o.image()
		if err != nil {
			return nil, err
		}
		if ref, err := imageset.ParseReference(i.Origin); err == nil && !ref.IsLayout() {
			from[o.Repository] = ref
		}
	}
	var h imageset.Held
	for _, m := range missed {
		name := upstreamName(m.Repository, upstreams)
		if ref, ok := from[m.Repository]; name == "" && ok {
			name = ref.Registry() + "/" + ref.Repository()
		}
		if host, _, ok := strings.Cut(m.Repository, "/"); name == "" && ok && strings.Contains(host, ".") {
			name = m.Repository
		}
		if name == "" {
			h.Notes = append(h.Notes, fmt.Sprintf("not in here, since it is not known where it comes from: %s %s", m.Repository, m.Reference))
			continue
		}
		separator := ":"
		if strings.Contains(m.Reference, ":") {
			separator = "@"
		}
		h.Images = append(h.Images, imageset.HeldImage{AdditionalImage: imageset.AdditionalImage{Name: name + separator + m.Reference}})
	}
	return imageset.Write(h), nil
}

// upstreamName returns what a repository is called where its upstream, that with the longest prefix, has
// it from in the end, or "".
func upstreamName(repository string, upstreams []Upstream) string {
	name, longest := "", -1
	for _, u := range upstreams {
		rest, ok := strings.CutPrefix(repository, u.Prefix)
		if !ok || rest != "" && rest[0] != '/' || len(u.Prefix) <= longest {
			continue
		}
		names := image.NamesThrough(u.Prefix, u.URL)
		name, longest = names[len(names)-1]+rest, len(u.Prefix)
	}
	return name
}
