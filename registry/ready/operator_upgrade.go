package ready

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/mirror-appliance/appliance/mirror/catalog"
	"github.com/mirror-appliance/appliance/mirror/operator"
	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// upgrades are those of one operator.
type upgrades struct {
	*operators
	installation
	known    map[string]operator.OfferedBundle // of the catalogs that count by now
	channels []operator.Channel
	reached  map[string]bool // bundles that may be installed by now
	told     bool            // that it must be updated
	cure     *api.Cure
}

// add has a catalog count.
func (u *upgrades) add(o *operator.Offer, named string) {
	maps.Copy(u.known, o.Bundles)
	before := len(u.channels)
	for _, c := range o.Channels {
		if len(u.installation.channels) == 0 || slices.Contains(u.installation.channels, c.Name) {
			u.channels = append(u.channels, c)
		}
	}
	if len(u.channels) == before {
		u.refuse(api.Reason{Code: "channel-absent", Where: u.Registry + "/" + named, Text: "channel " + strings.Join(u.installation.channels, ", ") + " of operator " + u.pkg + " is not in this catalog",
			Hint: "mirror the catalog with it, or change the channel of the " + u.kind, Cure: u.cure})
	}
	for _, d := range o.Deprecations {
		if d.Schema == "olm.package" || d.Schema == "olm.channel" && slices.Contains(u.installation.channels, d.Name) || d.Schema == "olm.bundle" && d.Name == u.bundle.Name {
			u.deprecated(d)
		}
	}
}

func (u *upgrades) deprecated(d operator.Deprecation) {
	what := strings.TrimSpace(strings.TrimPrefix(d.Schema, "olm.") + " " + d.Name)
	r := api.Reason{Code: "operator-deprecated", Where: u.prefix + u.pkg, Text: what + ": " + d.Message, Hint: "read what its catalog says, and change the channel of the " + u.kind}
	if !slices.ContainsFunc(u.verdict.Risks, func(other api.Reason) bool { return other.Where == r.Where && other.Text == r.Text }) {
		u.risk(r)
	}
}

// version returns the version of a bundle.
func (u *upgrades) version(name string) string {
	if name == u.bundle.Name && u.bundle.Version != "" {
		return u.bundle.Version
	}
	return u.known[name].Version
}

// follow adds what the channel leads to from the bundles that may be installed.
func (u *upgrades) follow() {
	todo := slices.Sorted(maps.Keys(u.reached))
	for len(todo) > 0 {
		name := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, c := range u.channels {
			for _, next := range u.next(c, name, u.version(name)) {
				if b, ok := u.known[next]; ok && !u.reached[next] && u.may(b.Version) {
					u.reached[next] = true
					todo = append(todo, next)
				}
			}
		}
	}
}

// come judges that the operator can be there when the cluster comes to a version: as it is, or as one that its
// channel leads to.
func (u *upgrades) come(ctx context.Context, minor operator.Minor) error {
	u.follow()
	able, why := map[string]bool{}, map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(u.reached)) {
		reason, err := u.lacks(ctx, name, minor)
		if err != nil {
			return err
		}
		if why[name] = reason; reason == "" {
			able[name] = true
		}
	}
	where := u.prefix + u.pkg
	switch {
	case len(able) == 0:
		u.refuse(u.stuck(where, minor, why))
		return nil
	case !able[u.bundle.Name] && !u.told:
		u.told = true
		u.risk(api.Reason{Code: "operator-update", Where: where, Text: fmt.Sprintf("%s does not do with OpenShift %s: %s; %s, which %s leads to, does", u.bundle.Name, minor, why[u.bundle.Name], u.best(able), u.leads()),
			Hint: "update the operator before the cluster: " + u.update})
	}
	u.reached = able
	return u.images(ctx, able)
}

// stuck is the reason that an operator keeps a cluster from a version.
func (u *upgrades) stuck(where string, minor operator.Minor, why map[string]string) api.Reason {
	text := fmt.Sprintf("no bundle that %s leads to from %s does with OpenShift %s", u.leads(), u.bundle.Name, minor)
	for _, name := range slices.Sorted(maps.Keys(why)) {
		if name == u.bundle.Name || len(why) <= shown {
			text += "; " + name + ": " + why[name]
		}
	}
	return api.Reason{Code: "operator-stuck", Where: where, Text: text, Hint: "mirror its bundles and those that follow in the channel, change the channel of the " + u.kind + ", or remove the operator", Cure: u.cure}
}

// shown is how many bundles a reason lists.
const shown = 5

// best returns the bundle with the highest version.
func (u *upgrades) best(of map[string]bool) string {
	return slices.MaxFunc(slices.Sorted(maps.Keys(of)), func(a, b string) int { return catalog.CompareVersions(u.version(a), u.version(b)) })
}

// images looks at the images of the bundle that is there then: the installed one, if it does.
func (u *upgrades) images(ctx context.Context, able map[string]bool) error {
	name := u.bundle.Name
	if !able[name] {
		name = u.best(able)
	}
	p := u.standsFor(u.cure)
	for _, image := range u.known[name].Images {
		repositories, ref := u.in(image)
		if len(repositories) == 0 {
			u.refuse(api.Reason{Code: "unmapped", Where: image, Text: "the cluster has no mirror at this registry for this image of operator " + u.pkg, Hint: applied})
			continue
		}
		repository, d, err := u.holding(ctx, repositories, ref)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			u.refuse(api.Reason{Code: "image-absent", Where: u.Registry + "/" + repository + " " + ref, Text: "an image of operator " + u.pkg + " is not where the cluster reads it", Hint: applied, Cure: u.cure})
			continue
		case err != nil:
			return err
		}
		if _, err := u.look(ctx, p, wanted{"operator " + u.pkg, image, d}, place{repository, d}); err != nil {
			return err
		}
	}
	return nil
}

// applied is what to do where a cluster has other mirror sets than this registry serves.
const applied = "apply the mirror sets that this registry serves: appliance cluster-config, and the apply.sh that it writes"

// lacks returns the reason that a bundle does not do with a version, "" if it does.
func (u *upgrades) lacks(ctx context.Context, name string, minor operator.Minor) (string, error) {
	ranges := []operator.Range{}
	b, offered := u.known[name]
	if offered {
		ranges = append(ranges, b.Range)
	}
	if name == u.bundle.Name {
		ranges = append(ranges, operator.Range{Max: u.bundle.Max, Versions: u.bundle.Versions})
	}
	for _, r := range ranges {
		switch ok, err := r.Allows(minor); {
		case err != nil:
			return err.Error(), nil
		case !ok:
			return fmt.Sprintf("it is not for OpenShift %s", minor), nil
		}
	}
	switch {
	case !offered:
		return "it is in no catalog here, and so its images are not known", nil
	case b.Fault != "":
		return b.Fault, nil
	case u.extension && b.Requires != "" && name != u.bundle.Name:
		return "it has a dependency (" + b.Requires + "), and OLM v1 installs none", nil
	}
	lacking, err := u.present.Lacking(ctx, b.Images)
	for _, image := range slices.Sorted(maps.Keys(lacking)) {
		return fmt.Sprintf("its image %s is not here: %s", image, lacking[image]), nil
	}
	return "", err
}
