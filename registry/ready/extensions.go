package ready

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"

	"github.com/mirror-appliance/appliance/cluster/state"
	"github.com/mirror-appliance/appliance/mirror/operator"
	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// installation is an operator and how it is updated: by a Subscription, or by OLM v1.
type installation struct {
	pkg       string
	bundle    state.Operator // that is installed
	channels  []string       // none: the default one of a Subscription, all of an extension
	extension bool           // of OLM v1
	within    *semver.Constraints
	free      bool // the updates of channels do not count
	frozen    bool // it is not updated

	// For people: what its names begin with, the kind of the object that has the channel, and what to do.
	prefix, kind, describe, update string
}

func bySubscription(s state.Subscription, csv state.Operator) installation {
	i := installation{pkg: s.Package, bundle: csv, prefix: s.Namespace + "/", kind: "Subscription", describe: "oc describe csv " + csv.Name + " -n " + s.Namespace,
		update: "approve its InstallPlan: oc get installplan -n " + s.Namespace}
	if s.Channel != "" {
		i.channels = []string{s.Channel}
	}
	return i
}

// byExtension returns how an extension is updated, or an error that names the setting that is not known.
func byExtension(e state.Extension) (installation, error) {
	i := installation{pkg: e.Package, bundle: state.Operator{Name: e.Bundle, Version: e.Version, Phase: e.Trouble}, channels: e.Channels, extension: true,
		free: e.Policy == state.SelfCertified, prefix: "clusterextension/", kind: "ClusterExtension", describe: "oc describe clusterextension " + e.Name}
	i.update = "its ClusterExtension is to allow that version: oc edit clusterextension " + e.Name
	if !slices.Contains([]string{"", state.CatalogProvided, state.SelfCertified}, e.Policy) {
		return i, fmt.Errorf("its upgradeConstraintPolicy is %q", e.Policy)
	}
	if e.Range == "" {
		return i, nil
	}
	var err error
	if i.within, err = semver.NewConstraint(e.Range); err != nil { // as OLM v1 reads it
		return i, fmt.Errorf("its range of versions is %q: %w", e.Range, err)
	}
	return i, nil
}

// may reports whether the operator may be updated to a version.
func (i installation) may(version string) bool {
	if i.within == nil || i.frozen {
		return !i.frozen
	}
	v, err := semver.StrictNewVersion(version)
	return err == nil && i.within.Check(v)
}

// next returns the bundles of a channel to which a bundle is updated directly.
func (i installation) next(c operator.Channel, name, version string) (all []string) {
	if !i.free {
		return c.Next(name, version)
	}
	for _, e := range c.Entries {
		all = append(all, e.Name)
	}
	return all
}

// leads names what leads to other bundles.
func (i installation) leads() string {
	if len(i.channels) == 0 {
		return "one of its channels"
	}
	return "channel " + strings.Join(i.channels, " or ")
}

// extensions judges the operators of OLM v1.
func (o *operators) extensions(ctx context.Context) error {
	if o.cluster.NoExtensions {
		o.refuse(api.Reason{Code: "extensions-unknown", Where: o.request.From, Text: "the cluster has OLM v1, and the export has nothing of its operators", Hint: state.Hint})
	}
	for _, e := range o.cluster.Extensions {
		if err := o.extensionOf(ctx, e); err != nil {
			return err
		}
	}
	return nil
}

// extensionOf judges an operator of OLM v1 by the catalog that it is updated from.
func (o *operators) extensionOf(ctx context.Context, e state.Extension) error {
	name := "clusterextension/" + e.Name
	if e.Package == "" || e.Bundle == "" {
		o.refuse(api.Reason{Code: "operator-pending", Where: name, Text: "it has no package of a catalog, or has installed no bundle", Hint: "oc describe clusterextension " + e.Name + "; mend or delete it, and export the cluster again"})
		return nil
	}
	i, err := byExtension(e)
	if err != nil {
		o.refuse(unreadExtension(e, err))
		return nil
	}
	from, err := o.having(ctx, e, i)
	if err != nil || len(from) == 0 {
		return err
	}
	if len(from) > 1 && from[0].Priority == from[1].Priority {
		i.frozen = true
		o.risk(api.Reason{Code: "catalog-ambiguous", Where: name, Text: fmt.Sprintf("package %s is in the ClusterCatalogs %s and %s, which have one priority: OLM v1 updates it from neither", i.pkg, from[0].Name, from[1].Name),
			Hint: "give one a higher spec.priority, make the other unavailable, or have the ClusterExtension select one: spec.source.catalog.selector"})
	}
	repositories, tag := o.in(from[0].Image)
	return o.updates(ctx, i, repositories, tag)
}

// having returns the catalogs which an extension may be updated from and that have its package, those with the
// highest priority first. That there is none is a reason, and that one cannot be read.
func (o *operators) having(ctx context.Context, e state.Extension, i installation) (all []state.ClusterCatalog, err error) {
	for _, c := range o.cluster.ClusterCatalogs {
		selected, err := e.Selector.Selects(c)
		if err != nil {
			o.refuse(unreadExtension(e, err))
			return nil, nil
		}
		if !selected || c.Unavailable {
			continue
		}
		repositories, tag := o.in(c.Image)
		if len(repositories) == 0 {
			o.refuse(api.Reason{Code: "catalog-elsewhere", Where: c.Image, Text: "ClusterCatalog " + c.Name + ", which " + e.Name + " may be updated from, is not one of this registry",
				Hint: "apply the cluster resources: appliance cluster-config; make the catalog unavailable: oc patch clustercatalog " + c.Name + ` --type merge -p '{"spec":{"availabilityMode":"Unavailable"}}'`})
			return nil, nil
		}
		at, _, err := o.holding(ctx, repositories, tag)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		offer, ok, err := o.open(ctx, at+":"+tag, i)
		if err != nil || !ok {
			return nil, err // which is a reason
		}
		if offer != nil {
			all = append(all, c)
		}
	}
	if len(all) == 0 {
		o.refuse(api.Reason{Code: "operator-absent", Where: "clusterextension/" + e.Name, Text: "package " + i.pkg + " is in no ClusterCatalog that is available", Hint: "mirror a catalog with it, and apply the cluster resources: appliance cluster-config"})
	}
	slices.SortStableFunc(all, func(a, b state.ClusterCatalog) int { return cmp.Compare(b.Priority, a.Priority) })
	return all, nil
}

// unreadExtension is the reason that something of an extension is not known.
func unreadExtension(e state.Extension, err error) api.Reason {
	return api.Reason{Code: "extension-unread", Where: "clusterextension/" + e.Name, Text: "it cannot be judged what it is updated to: " + err.Error(), Hint: "oc edit clusterextension " + e.Name + ", and export the cluster again"}
}
