// Package state reads what a cluster has told of itself: an export of
//
//	oc get csv,subscription,clusterversion,imagecontentsourcepolicy,imagedigestmirrorset,imagetagmirrorset,catalogsource -A -o json
//	oc get clusterextension,clustercatalog -o json
//
// Use Read. The second is for OLM v1, and its output may follow that of the first. Of hundreds of megabytes it keeps the few facts that decide whether an upgrade works, which are
// all that leaves the host of the export. It decodes one object after the other.
//
// Refused: the types of Kubernetes and OLM, some hundred modules for a dozen fields.
package state

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/mirror-appliance/appliance/cluster"
	"github.com/mirror-appliance/appliance/internal/hint"
)

// Facts are what is known of a cluster.
type Facts struct {
	ID       string `json:"id,omitempty"`       // its own
	Version  string `json:"version"`            // that it runs; "": it is being installed
	Updating string `json:"updating,omitempty"` // the version of an update or an installation under way
	Channel  string `json:"channel,omitempty"`
	Multi    bool   `json:"multi,omitempty"` // its release is one for several architectures
	// Releases are those that it runs, is updated to or was told to update to, or may roll back to: the version before.
	Releases []Release `json:"releases,omitempty"`
	// Where its nodes read images by digest, and by tag.
	Digests  cluster.Sources `json:"digests,omitempty"`
	Tags     cluster.Sources `json:"tags,omitempty"`
	Catalogs []Catalog       `json:"catalogs,omitempty"`
	// Subscriptions are those of operators.
	Subscriptions []Subscription `json:"subscriptions,omitempty"`
	// Operators are the ClusterServiceVersions, but for copies.
	Operators []Operator `json:"operators,omitempty"`
	// Extensions are the operators of OLM v1, which have no ClusterServiceVersion, and ClusterCatalogs its catalogs.
	Extensions      []Extension      `json:"extensions,omitempty"`
	ClusterCatalogs []ClusterCatalog `json:"clusterCatalogs,omitempty"`
	// NoExtensions reports that the cluster has OLM v1, and that the export has nothing of it.
	NoExtensions bool `json:"noExtensions,omitempty"`
	// Images are those that its operators run, by name.
	Images []string `json:"images,omitempty"`
	// NotUpgradeable is why it refuses updates to another minor version, and Failing what is wrong with it.
	NotUpgradeable string `json:"notUpgradeable,omitempty"`
	Failing        string `json:"failing,omitempty"`

	read string // the ClusterVersion, while an export is read
}

// Needs returns the facts that decide what a cluster needs of a registry.
func (f Facts) Needs() Facts {
	return Facts{ID: f.ID, Version: f.Version, Updating: f.Updating, Channel: f.Channel, Multi: f.Multi, Releases: f.Releases,
		Tags: f.Tags, Catalogs: f.Catalogs, Images: f.Images, Extensions: f.Extensions, ClusterCatalogs: f.ClusterCatalogs, NoExtensions: f.NoExtensions}
}

// CatalogImages returns the images of the catalogs that either OLM installs from.
func (f Facts) CatalogImages() (all []string) {
	for _, c := range f.Catalogs {
		all = append(all, c.Image)
	}
	for _, c := range f.ClusterCatalogs {
		if !c.Unavailable {
			all = append(all, c.Image, c.Resolved)
		}
	}
	return slices.DeleteFunc(all, func(name string) bool { return name == "" })
}

// Release is one that a cluster has had, or is to have.
type Release struct {
	Version string `json:"version"`
	Image   string `json:"image"`
}

// Catalog is a CatalogSource.
type Catalog struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Image     string `json:"image"` // "": it is no image
}

// Subscription is one of an operator.
type Subscription struct {
	Namespace       string `json:"namespace"`
	Name            string `json:"name"`
	Package         string `json:"package"`
	Channel         string `json:"channel,omitempty"` // "": the default channel
	Source          string `json:"source"`
	SourceNamespace string `json:"sourceNamespace"`
	Installed       string `json:"installed,omitempty"` // the name of its bundle
}

// Operator is an installed bundle.
type Operator struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Version   string `json:"version,omitempty"`
	Phase     string `json:"phase,omitempty"`
	// Max are the values of olm.maxOpenShiftVersion, Versions is com.redhat.openshift.versions.
	Max      []string `json:"max,omitempty"`
	Versions string   `json:"versions,omitempty"`
}

// kind is what is read of objects of a kind.
type kind func(f *Facts, o *object) error

// kinds are the kinds that are read, with their groups.
var kinds = map[string]kind{
	"ClusterVersion.config.openshift.io":             (*Facts).clusterVersion,
	"ImageDigestMirrorSet.config.openshift.io":       (*Facts).mirrorSet,
	"ImageTagMirrorSet.config.openshift.io":          (*Facts).mirrorSet,
	"ImageContentSourcePolicy.operator.openshift.io": (*Facts).mirrorSet,
	"CatalogSource.operators.coreos.com":             (*Facts).catalog,
	"Subscription.operators.coreos.com":              (*Facts).subscription,
	"ClusterServiceVersion.operators.coreos.com":     (*Facts).operator,
	"ClusterExtension.olm.operatorframework.io":      (*Facts).extension,
	"ClusterCatalog.olm.operatorframework.io":        (*Facts).clusterCatalog,
}

// object is an object of a cluster.
type object struct {
	APIVersion string
	Kind       string
	Metadata   struct {
		Namespace, Name     string
		Annotations, Labels map[string]string
	}
	Spec, Status json.RawMessage
}

// How an export is made. oc get fails wholly for a kind that a cluster lacks, so that those of OLM v1 are asked for apart.
const (
	Export     = "oc get csv,subscription,clusterversion,imagecontentsourcepolicy,imagedigestmirrorset,imagetagmirrorset,catalogsource -A -o json"
	Needed     = "oc get clusterversion,csv,catalogsource,imagetagmirrorset -A -o json" // for Facts.Needs
	Extensions = "oc get clusterextension,clustercatalog -o json"

	Hint = "make the file with: " + Export + " > cluster.json; with OLM v1 then: " + Extensions + " >> cluster.json"
)

// Read reads an export, or several after each other.
func Read(r io.Reader) (*Facts, error) {
	f := &Facts{}
	d := json.NewDecoder(r)
	for {
		err := f.document(d)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, hint.New(fmt.Errorf("the export of the cluster: %w", err), cmp.Or(hint.Of(err), Hint))
		}
	}
	f.read = ""
	f.NoExtensions = f.NoExtensions && len(f.Extensions) == 0 && len(f.ClusterCatalogs) == 0 // it comes with catalogs
	slices.Sort(f.Images)
	f.Images = slices.Compact(f.Images)
	switch {
	case f.Version == "" && f.Updating == "":
		return nil, hint.New(errors.New("the export of the cluster has no ClusterVersion with a version"), Hint)
	case f.Version != "" && len(f.Operators) == 0: // each cluster with operators has the one of its package server
		return nil, hint.New(errors.New("the export of the cluster has no ClusterServiceVersion: its operators are not known"), Hint)
	}
	return f, nil
}

// document reads a list of objects, or one object. After the last one it returns io.EOF.
func (f *Facts) document(d *json.Decoder) error {
	switch begin, err := d.Token(); {
	case err != nil:
		return err
	case begin != json.Delim('{'):
		return errors.New("it is not JSON of oc get")
	}
	rest := map[string]json.RawMessage{}
	list := false
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return unexpected(err)
		}
		if key == "items" {
			list = true
			if err := f.items(d); err != nil {
				return unexpected(err)
			}
			continue
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return unexpected(err)
		}
		rest[key.(string)] = value
	}
	if _, err := d.Token(); err != nil {
		return unexpected(err)
	}
	if list {
		return nil
	}
	text, err := json.Marshal(rest)
	if err != nil {
		return err
	}
	return f.item(text)
}

// unexpected returns an error that is not io.EOF: the end within a document is not its end.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (f *Facts) items(d *json.Decoder) error {
	switch begin, err := d.Token(); {
	case err != nil:
		return err
	case begin == nil: // null
		return nil
	case begin != json.Delim('['):
		return errors.New("its items are not a list")
	}
	for d.More() {
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return err
		}
		if err := f.item(value); err != nil {
			return err
		}
	}
	_, err := d.Token()
	return err
}

// item reads an object. One of another kind is passed over.
func (f *Facts) item(text []byte) error {
	var o object
	if err := json.Unmarshal(text, &o); err != nil {
		return err
	}
	group, _, _ := strings.Cut(o.APIVersion, "/")
	read := kinds[o.Kind+"."+group]
	if read == nil {
		return nil
	}
	if err := read(f, &o); err != nil {
		return fmt.Errorf("%s %s: %w", o.Kind, strings.TrimPrefix(o.Metadata.Namespace+"/"+o.Metadata.Name, "/"), err)
	}
	return nil
}

// decode reads a part of an object, which may be absent.
func decode(text json.RawMessage, into any) error {
	if len(text) == 0 {
		return nil
	}
	return json.Unmarshal(text, into)
}

func (f *Facts) clusterVersion(o *object) error {
	var spec struct{ ClusterID, Channel string }
	var status struct {
		Desired struct{ Version, Image, Architecture string }
		History []struct{ State, Version, Image string }
		// Capabilities that the cluster has, since 4.11.
		Capabilities struct{ EnabledCapabilities []string }
	}
	if err := errors.Join(decode(o.Spec, &spec), decode(o.Status, &status)); err != nil {
		return err
	}
	if err := f.same(spec.ClusterID, fmt.Sprint(spec, status)); err != nil {
		return err
	}
	f.ID, f.Channel, f.Multi = spec.ClusterID, spec.Channel, status.Desired.Architecture == "Multi"
	f.NoExtensions = slices.Contains(status.Capabilities.EnabledCapabilities, "OperatorLifecycleManagerV1")
	f.release(status.Desired.Version, status.Desired.Image)
	if err := f.chosen(o); err != nil {
		return err
	}
	if len(status.History) == 0 {
		f.Updating = status.Desired.Version
	}
	running := "" // the image of the version that it runs
	for n, h := range status.History {
		f.release(h.Version, h.Image)
		switch {
		case h.State == "Completed" && f.Version == "":
			f.Version, running = h.Version, h.Image
		case h.State == "Completed" && h.Image != running: // the one before
			return nil
		case n == 0 && h.State != "Completed":
			f.Updating = h.Version
		}
	}
	return nil
}

// chosen reads the update that a cluster was told to make, and has not begun while it cannot be verified or read, and why it
// would refuse one.
func (f *Facts) chosen(o *object) error {
	var spec struct{ DesiredUpdate Release }
	var status struct {
		Desired            Release
		AvailableUpdates   []Release
		ConditionalUpdates []struct{ Release Release }
		Conditions         []condition
	}
	if err := errors.Join(decode(o.Spec, &spec), decode(o.Status, &status)); err != nil {
		return err
	}
	to := spec.DesiredUpdate
	offered := status.AvailableUpdates
	for _, c := range status.ConditionalUpdates {
		offered = append(offered, c.Release)
	}
	if n := slices.IndexFunc(offered, func(r Release) bool { return r.Version == to.Version }); n >= 0 && to.Image == "" {
		to.Image = offered[n].Image
	}
	to.Version = cmp.Or(to.Version, to.Image)
	if to.Image != "" && to.Image != status.Desired.Image || to.Image == "" && to.Version != "" && to.Version != status.Desired.Version {
		f.Releases = append(f.Releases, to)
	}
	for _, c := range status.Conditions {
		text := strings.TrimSuffix(c.Reason+": "+c.Message, ": ")
		switch {
		case c.Type == "Upgradeable" && c.Status == "False":
			f.NotUpgradeable = cmp.Or(text, c.Type)
		case c.Type == "Failing" && c.Status == "True":
			f.Failing = cmp.Or(text, c.Type)
		}
	}
	return nil
}

// same returns an error for a ClusterVersion besides another one: what it needs would be kept in the place of what
// the other cluster needs.
func (f *Facts) same(id, state string) error {
	switch {
	case f.read == "" || f.read == state && f.ID == id:
		f.read = state
		return nil
	case f.ID == id:
		return hint.New(fmt.Errorf("it is of cluster %q at another time than the one before", id), "give the newest export alone")
	}
	return hint.New(fmt.Errorf("it is of cluster %q, and the one before of cluster %q", id, f.ID), "make a file for each cluster, and give one at a time")
}

// release adds a release, once.
func (f *Facts) release(version, image string) {
	if r := (Release{version, image}); image != "" && !slices.Contains(f.Releases, r) {
		f.Releases = append(f.Releases, r)
	}
}

func (f *Facts) mirrorSet(o *object) error {
	type entry struct {
		Source  string
		Mirrors []string
		Policy  string `json:"mirrorSourcePolicy"`
	}
	var spec struct {
		ByDigest []entry `json:"imageDigestMirrors"`
		Policy   []entry `json:"repositoryDigestMirrors"`
		ByTag    []entry `json:"imageTagMirrors"`
	}
	if err := decode(o.Spec, &spec); err != nil {
		return err
	}
	for _, e := range slices.Concat(spec.ByDigest, spec.Policy) {
		f.Digests = f.Digests.Add(cluster.Source{Source: e.Source, Mirrors: e.Mirrors, NeverContact: e.Policy == "NeverContactSource"})
	}
	for _, e := range spec.ByTag {
		f.Tags = f.Tags.Add(cluster.Source{Source: e.Source, Mirrors: e.Mirrors, NeverContact: e.Policy == "NeverContactSource"})
	}
	return nil
}

func (f *Facts) catalog(o *object) error {
	var spec struct{ Image string }
	err := decode(o.Spec, &spec)
	f.Catalogs = append(f.Catalogs, Catalog{o.Metadata.Namespace, o.Metadata.Name, spec.Image})
	return err
}

func (f *Facts) subscription(o *object) error {
	var spec struct{ Name, Channel, Source, SourceNamespace string }
	var status struct{ InstalledCSV string }
	err := errors.Join(decode(o.Spec, &spec), decode(o.Status, &status))
	f.Subscriptions = append(f.Subscriptions, Subscription{o.Metadata.Namespace, o.Metadata.Name, spec.Name, spec.Channel, spec.Source, spec.SourceNamespace, status.InstalledCSV})
	return err
}

func (f *Facts) operator(o *object) error {
	if o.Metadata.Labels["olm.copiedFrom"] != "" {
		return nil
	}
	type container struct{ Image string }
	var spec struct {
		Version       string
		RelatedImages []container
		Install       struct {
			Spec struct {
				Deployments []struct {
					Spec struct {
						Template struct {
							Spec struct{ InitContainers, Containers []container }
						}
					}
				}
			}
		}
	}
	var status struct{ Phase, Reason string }
	if err := errors.Join(decode(o.Spec, &spec), decode(o.Status, &status)); err != nil {
		return err
	}
	if status.Reason == "Copied" {
		return nil
	}
	images := spec.RelatedImages
	for _, d := range spec.Install.Spec.Deployments {
		images = slices.Concat(images, d.Spec.Template.Spec.InitContainers, d.Spec.Template.Spec.Containers)
	}
	for _, i := range images {
		if i.Image != "" {
			f.Images = append(f.Images, i.Image)
		}
	}
	one := Operator{Namespace: o.Metadata.Namespace, Name: o.Metadata.Name, Version: spec.Version, Phase: status.Phase,
		Versions: o.Metadata.Annotations["com.redhat.openshift.versions"]}
	if text := o.Metadata.Annotations["olm.properties"]; text != "" {
		var all []struct {
			Type  string
			Value json.RawMessage
		}
		if err := json.Unmarshal([]byte(text), &all); err != nil {
			return fmt.Errorf("olm.properties: %w", err)
		}
		for _, p := range all {
			if p.Type == "olm.maxOpenShiftVersion" {
				one.Max = append(one.Max, strings.Trim(string(p.Value), `"`))
			}
		}
	}
	f.Operators = append(f.Operators, one)
	return nil
}
