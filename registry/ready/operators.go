package ready

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/cluster/state"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/catalog"
	"github.com/mirror-appliance/appliance/mirror/graphdata"
	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/operator"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/stored"
)

// operators judges the operators of a cluster on its way through minor versions.
type operators struct {
	*judgement
	cluster *state.Facts
	minors  []operator.Minor // that it comes to, the last is that of the release it is upgraded to
	arch    string
	present *mirror.Present
	held    []mirror.HeldCatalog
	// What was read of catalogs here, by repository:tag.
	read map[string]*readCatalog
}

// readCatalog is a catalog that is here.
type readCatalog struct {
	index *operator.Index
	files fs.FS
}

// operators judges the operators, if they are known.
func (j *judgement) operators(ctx context.Context, to graphdata.Release, minors []operator.Minor) error {
	if j.request.Cluster == nil {
		j.risk(api.Reason{Code: "operators-unknown", Where: j.request.From, Text: "the operators of the cluster, and its mirror sets, were not looked at",
			Hint: "give an export of the cluster: --cluster-state FILE; --help has the command that makes it"})
		return nil
	}
	o := &operators{judgement: j, cluster: j.request.Cluster, minors: minors, arch: to.Arch, read: map[string]*readCatalog{}}
	var err error
	if o.present, err = mirror.NewPresent(j.recorded, stored.Whole(j.Store), j.Store.Manifests.Repositories); err != nil {
		return err
	}
	if o.held, err = mirror.HeldCatalogs(j.recorded); err != nil {
		return err
	}
	if err := os.RemoveAll(j.Dir); err != nil { // of a process that was killed
		return err
	}
	defer os.RemoveAll(j.Dir)
	if o.cluster.Updating != "" {
		j.refuse(api.Reason{Code: "cluster-updating", Where: o.cluster.Updating, Text: "an update of the cluster is under way", Hint: "wait until it has completed, and export the cluster again"})
	}
	for _, name := range o.cluster.Images {
		if _, err := imageset.ParseImage(name); err != nil {
			j.refuse(api.Reason{Code: "image-unread", Where: imageset.Shown(name), Text: "an operator of the cluster runs an image whose name cannot be read", Hint: "look for the operator that names it: oc get csv -A -o yaml; update or remove it"})
		}
	}
	for _, s := range o.cluster.Subscriptions {
		if err := o.subscription(ctx, s); err != nil {
			return err
		}
	}
	for _, csv := range o.cluster.Operators {
		o.alone(csv)
	}
	return o.extensions(ctx)
}

// ofOpenShift is the operator that comes with OpenShift, without a subscription.
const ofOpenShift = "openshift-operator-lifecycle-manager/packageserver"

// alone judges an operator that no subscription updates.
func (o *operators) alone(csv state.Operator) {
	name := csv.Namespace + "/" + csv.Name
	if name == ofOpenShift || slices.ContainsFunc(o.cluster.Subscriptions, func(s state.Subscription) bool { return s.Namespace == csv.Namespace && s.Installed == csv.Name }) {
		return
	}
	o.refuse(api.Reason{Code: "operator-unsubscribed", Where: name, Text: "no Subscription updates this operator: it is not known whether it is for the release, and whether its images are here",
		Hint: "see whether it is what an update has left: oc get csv,subscription -n " + csv.Namespace + "; delete it, or subscribe to it"})
}

// subscription judges a subscribed operator.
func (o *operators) subscription(ctx context.Context, s state.Subscription) error {
	name := s.Namespace + "/" + s.Package
	n := slices.IndexFunc(o.cluster.Operators, func(csv state.Operator) bool { return csv.Namespace == s.Namespace && csv.Name == s.Installed })
	if s.Installed == "" || n < 0 {
		o.refuse(api.Reason{Code: "operator-pending", Where: name, Text: "its Subscription has installed no bundle that is in the export", Hint: "oc get subscription,installplan,csv -n " + s.Namespace + "; approve or delete it, and export the cluster again"})
		return nil
	}
	at := slices.IndexFunc(o.cluster.Catalogs, func(c state.Catalog) bool { return c.Name == s.Source && c.Namespace == s.SourceNamespace })
	if at < 0 || o.cluster.Catalogs[at].Image == "" {
		o.refuse(api.Reason{Code: "catalog-unknown", Where: s.SourceNamespace + "/" + s.Source, Text: "the CatalogSource of operator " + s.Package + " is not in the export, or is no image", Hint: "oc get catalogsource -A; have the Subscription name one of this registry"})
		return nil
	}
	repositories, tag := o.in(o.cluster.Catalogs[at].Image)
	if len(repositories) == 0 {
		o.refuse(api.Reason{Code: "catalog-elsewhere", Where: o.cluster.Catalogs[at].Image, Text: "the catalog of CatalogSource " + s.Source + " is not one of this registry", Hint: "apply the cluster resources: appliance cluster-config; have the Subscriptions name its CatalogSource"})
		return nil
	}
	return o.updates(ctx, bySubscription(s, o.cluster.Operators[n]), repositories, tag)
}

// in returns the repositories here in which a cluster reads an image, those that it asks first before others, and
// the tag or digest there.
func (o *operators) in(image string) (repositories []string, ref string) {
	named, err := imageset.ParseImage(image)
	if err != nil {
		return nil, "" // nodes cannot read it either
	}
	sources := o.cluster.Tags
	if ref = named.Tag; named.Digest != "" {
		ref, sources = named.Digest.String(), o.cluster.Digests
	}
	return o.repositories(sources, named.Canonical()), ref
}

// holding returns the first of some repositories that has a tag or digest. fs.ErrNotExist: none has, and it
// returns the one that is asked first.
func (o *operators) holding(ctx context.Context, repositories []string, ref string) (repository string, d digest.Digest, err error) {
	for _, repository := range repositories {
		if d, err = (stored.Repository{Store: o.Store, Name: repository}).Resolve(ctx, ref); !errors.Is(err, fs.ErrNotExist) {
			return repository, d, err
		}
	}
	return repositories[0], "", err
}

// ofVersion matches the tags of catalogs that are of a version of OpenShift.
var ofVersion = regexp.MustCompile(`^v([0-9]+)\.([0-9]+)$`)

// updates judges an operator by the catalogs of its repositories: that which the cluster has, and those of
// the versions that it comes to.
func (o *operators) updates(ctx context.Context, i installation, repositories []string, tag string) error {
	at, _, err := o.holding(ctx, repositories, tag)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	named := at + ":" + tag
	now, err := o.offer(ctx, named, i)
	if err != nil || now == nil {
		return err // which is a reason
	}
	if len(i.channels) == 0 && !i.extension {
		i.channels = []string{now.DefaultChannel}
	}
	u := &upgrades{operators: o, installation: i, known: map[string]operator.OfferedBundle{}, reached: map[string]bool{i.bundle.Name: true},
		cure: o.cureOf(named, i)}
	u.add(now, named)
	if i.bundle.Phase != "" && i.bundle.Phase != "Succeeded" {
		o.risk(api.Reason{Code: "operator-unwell", Where: i.prefix + i.bundle.Name, Text: "the phase of this operator is " + i.bundle.Phase, Hint: i.describe + "; mend it before the upgrade"})
	}
	for _, minor := range o.minors {
		of := "v" + minor.String()
		at, _, err := o.holding(ctx, repositories, of)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		last := minor == o.minors[len(o.minors)-1]
		if ofVersion.MatchString(tag) && tag != of && (last || err == nil) { // meanwhile it may keep that of before
			next, err := o.offer(ctx, at+":"+of, i)
			if err != nil || next == nil {
				return err // which is a reason
			}
			u.add(next, at+":"+of)
		}
		if err := u.come(ctx, minor); err != nil {
			return err
		}
	}
	return nil
}

// offer returns what a catalog here has of a package. That it cannot be read, or has nothing, is a reason.
func (o *operators) offer(ctx context.Context, named string, i installation) (*operator.Offer, error) {
	found, ok, err := o.open(ctx, named, i)
	if ok && found == nil {
		o.refuse(api.Reason{Code: "operator-absent", Where: o.Registry + "/" + named, Text: "operator " + i.pkg + " is not in this catalog", Hint: "mirror the catalog with it: appliance mirror, or --as-imageset", Cure: o.cureOf(named, i)})
	}
	return found, err
}

// open returns what a catalog here has of a package, nil for nothing. That it cannot be read is a reason.
func (o *operators) open(ctx context.Context, named string, i installation) (found *operator.Offer, ok bool, err error) {
	cure := o.cureOf(named, i)
	c, err := o.catalog(ctx, named, cure)
	if err == nil && c != nil {
		found, err = c.index.Offer(ctx, c.files, i.pkg)
	}
	switch {
	case ctx.Err() != nil:
		return nil, false, ctx.Err()
	case errors.Is(err, fs.ErrNotExist):
		o.refuse(api.Reason{Code: "catalog-absent", Where: o.Registry + "/" + named, Text: "this catalog, which operator " + i.pkg + " needs, is not here", Hint: "mirror it: appliance mirror, or --as-imageset", Cure: cure})
		return nil, false, nil
	case err != nil:
		o.refuse(api.Reason{Code: "catalog-unread", Where: o.Registry + "/" + named, Text: "this catalog cannot be read: " + err.Error(), Hint: hintOr(err, again), Cure: cure})
		return nil, false, nil
	}
	return found, true, nil
}

func hintOr(err error, other string) string {
	if h := hint.Of(err); h != "" {
		return h
	}
	return other
}

// cureOf is a package of a catalog as content, nil if it is not known where the catalog comes from.
func (o *operators) cureOf(named string, i installation) *api.Cure {
	repository, tag, _ := strings.Cut(named, ":")
	for _, h := range o.held {
		at, _, _ := strings.Cut(h.Image, ":")
		if ref, err := imageset.ParseReference(h.Catalog); err == nil && at == repository && !strings.HasPrefix(tag, "sha256") {
			cure := &api.Cure{Catalog: ref.Registry() + "/" + ref.Repository() + ":" + tag, Package: i.pkg}
			if len(i.channels) > 0 {
				cure.PackageChannel, cure.MinVersion = i.channels[0], i.bundle.Version
			}
			return cure
		}
	}
	return nil
}

// catalog reads a catalog, once.
func (o *operators) catalog(ctx context.Context, named string, cure *api.Cure) (*readCatalog, error) {
	if c, ok := o.read[named]; ok {
		return c, nil
	}
	repository, ref, _ := strings.Cut(named, ":")
	repo := stored.Repository{Store: o.Store, Name: repository}
	d, err := repo.Resolve(ctx, ref)
	if err != nil {
		return nil, err
	}
	if err := o.Store.CheckSpace(); err != nil {
		return nil, err
	}
	o.tell(api.ReadyProgress{Reads: "catalog " + named})
	c := &readCatalog{}
	dir := filepath.Join(o.Dir, d.Encoded())
	c.index, c.files, err = catalog.Load(ctx, repo, ref, dir)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("it is not whole here: %v", err) // and not absent
		}
		return nil, err
	}
	o.read[named] = c
	o.verdict.Basis.Catalogs = append(o.verdict.Basis.Catalogs, api.JudgedImage{Image: named, Digest: d})
	_, err = o.look(ctx, o.standsFor(cure), wanted{"catalog " + named, named, d}, place{repository, d})
	return c, err
}

// standsFor returns what images of operators are judged as.
func (o *operators) standsFor(cure *api.Cure) *payload {
	return &payload{Release: graphdata.Release{Arch: o.arch}, running: o.cluster.Digests, cure: cure, bundle: true}
}

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
	case b.Fault != nil:
		return b.Fault.Error(), nil
	case u.extension && b.Requires != "" && name != u.bundle.Name:
		return "it has a dependency (" + b.Requires + "), and OLM v1 installs none", nil
	}
	lacking, err := u.present.Lacking(ctx, b.Images)
	for _, image := range slices.Sorted(maps.Keys(lacking)) {
		return fmt.Sprintf("its image %s is not here: %s", image, lacking[image]), nil
	}
	return "", err
}
