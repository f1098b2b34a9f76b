package ready

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/cluster/state"
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
	offers  catalog.PackageOffers
	read    map[digest.Digest]*catalog.OfferReader // of catalogs here
	relied  map[string]bool                        // catalogs that the verdict relies on: repository:tag
}

// operators judges the operators, if they are known.
func (j *judgement) operators(ctx context.Context, to graphdata.Release, minors []operator.Minor) error {
	if j.request.Cluster == nil {
		j.risk(api.Reason{Code: "operators-unknown", Where: j.request.From, Text: "the operators of the cluster, and its mirror sets, were not looked at",
			Hint: "give an export of the cluster: --cluster-state FILE; --help has the command that makes it"})
		return nil
	}
	o, err := j.ofCluster(j.request.Cluster, to, minors)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(o.offers.Work); err != nil { // of a process that was killed
		return err
	}
	defer os.RemoveAll(o.offers.Work)
	defer o.keep(ctx)
	o.exported()
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

// ofCluster returns the operators of a cluster, before they are judged.
func (j *judgement) ofCluster(cluster *state.Facts, to graphdata.Release, minors []operator.Minor) (*operators, error) {
	present, err := mirror.NewPresent(j.recorded, stored.Whole(j.Store), j.Store.Manifests.Repositories)
	if err != nil {
		return nil, err
	}
	held, err := mirror.HeldCatalogs(j.recorded)
	if err != nil {
		return nil, err
	}
	return &operators{judgement: j, cluster: cluster, minors: minors, arch: to.Arch, present: present, held: held, relied: map[string]bool{},
		offers: catalog.PackageOffers{Dir: filepath.Join(j.Dir, "offers"), Work: filepath.Join(j.Dir, "work"), Version: j.Version},
		read:   map[digest.Digest]*catalog.OfferReader{}}, nil
}

// exported judges the export itself: of a cluster that is not changing, with images whose names can be read.
func (o *operators) exported() {
	if o.cluster.Updating != "" {
		o.refuse(api.Reason{Code: "cluster-updating", Where: o.cluster.Updating, Text: "an update of the cluster is under way", Hint: "wait until it has completed, and export the cluster again"})
	}
	for _, name := range o.cluster.Images {
		if _, err := imageset.ParseImage(name); err != nil {
			o.refuse(api.Reason{Code: "image-unread", Where: imageset.Shown(name), Text: "an operator of the cluster runs an image whose name cannot be read", Hint: "look for the operator that names it: oc get csv -A -o yaml; update or remove it"})
		}
	}
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

// standsFor returns what images of operators are judged as.
func (o *operators) standsFor(cure *api.Cure) *payload {
	return &payload{Release: graphdata.Release{Arch: o.arch}, running: o.cluster.Digests, cure: cure, bundle: true}
}
