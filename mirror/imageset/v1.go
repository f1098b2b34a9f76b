package imageset

import (
	"fmt"
	"path"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/mirror-appliance/appliance/internal/yamlkeys"
)

const (
	apiVersion1 = "mirror.openshift.io/v1alpha2"
	apiVersion2 = "mirror.openshift.io/v2alpha1"
)

// version is the version of oc-mirror that a file is read as.
type version int

const (
	version2 version = iota // whatever its apiVersion, as oc-mirror v2 reads it
	version1                // its apiVersion must be that of version 1
	either                  // as its apiVersion says
)

// Storage is where version 1 keeps what it has mirrored: in a registry, in a directory, or, if
// both are empty, nowhere.
type Storage struct {
	Registry RegistryStorage
	Local    LocalStorage
}

// RegistryStorage is an image that has the metadata of version 1.
type RegistryStorage struct {
	ImageURL string
	SkipTLS  bool
}

// LocalStorage is a directory that has the metadata of version 1.
type LocalStorage struct{ Path string }

// IsSet reports whether a history is kept.
func (s Storage) IsSet() bool { return s.Registry.ImageURL != "" || s.Local.Path != "" }

// mirror1 has the keys of version 1. What means the same is of the same type.
type mirror1 struct {
	Platform         platform1
	Operators        []operator1
	AdditionalImages []image1
	Helm             helm1
	BlockedImages    []BlockedImage
	Samples          []Sample
}

type platform1 struct {
	Graph         bool
	Channels      []Channel
	Architectures []string
}

type operator1 struct {
	Catalog          string
	TargetName       string
	TargetCatalog    string
	TargetTag        string
	Full             bool
	SkipDependencies bool
	OriginalRef      string
	Packages         []package1
}

type package1 struct {
	Name           string
	MinVersion     string
	MaxVersion     string
	MinBundle      string
	DefaultChannel string
	Channels       []channel1
}

type channel1 struct {
	Name       string
	MinVersion string
	MaxVersion string
	MinBundle  string
}

type image1 struct{ Name string }

type helm1 struct {
	Repositories []helmRepository1
	Local        []chart1
}

type helmRepository1 struct {
	Name   string
	URL    string `yaml:"url"`
	Charts []chart1
}

type chart1 struct {
	Name       string
	Version    string
	Path       string
	ImagePaths []string
}

// isVersion1 decides as what a file is read. Else than version 2, version 1 checks apiVersion.
func (d *decoder) isVersion1(root *yaml.Node, v version) bool {
	api, line := "", root.Line
	if n := lookup(root, "apiVersion"); n != nil {
		api, line = n.Value, n.Line
	}
	if v == version1 && api != apiVersion1 {
		d.problem(line, "write apiVersion: "+apiVersion1+", or leave --v1 out",
			"config GVK not recognized: apiVersion is %q", api)
	}
	return v != version2 && api == apiVersion1
}

// decode1 decodes a file of version 1 and says it in the words of version 2.
func (d *decoder) decode1(root *yaml.Node, c *Config) {
	var m mirror1
	c.V1 = true
	keys := append(c.keys(yamlkeys.Fields(&m)),
		yamlkeys.Key{Name: "storageConfig", Value: yamlkeys.Fields(&c.Storage)})
	d.Mapping(root, "", keys)
	c.Mirror = Mirror{
		Platform:      Platform{Graph: m.Platform.Graph, Channels: m.Platform.Channels, Architectures: m.Platform.Architectures},
		BlockedImages: m.BlockedImages, Samples: m.Samples,
	}
	for _, i := range m.AdditionalImages {
		c.Mirror.AdditionalImages = append(c.Mirror.AdditionalImages, AdditionalImage{Name: latest(i.Name)})
	}
	for _, r := range m.Helm.Repositories {
		c.Mirror.Helm.Repositories = append(c.Mirror.Helm.Repositories, HelmRepository{Name: r.Name, URL: r.URL, Charts: charts(r.Charts)})
	}
	c.Mirror.Helm.Local = charts(m.Helm.Local)
	for i, o := range m.Operators {
		c.Mirror.Operators = append(c.Mirror.Operators, d.operator(fmt.Sprintf("mirror.operators[%d]", i), o))
	}
	d.checkStorage(c.Storage)
	c.Storage.Registry.ImageURL = latest(c.Storage.Registry.ImageURL)
}

func (d *decoder) checkStorage(s Storage) {
	const path = "storageConfig"
	if s.Registry.ImageURL != "" && s.Local.Path != "" {
		d.at(path, "keep one of them", "storageConfig has both registry and local")
	}
	for _, k := range []struct{ above, key, value string }{
		{".registry", ".imageURL", s.Registry.ImageURL}, {".local", ".path", s.Local.Path},
	} {
		if line, given := d.Lines[path+k.above]; given && k.value == "" {
			d.problem(line, "write it, or remove "+path, "%s%s%s is empty", path, k.above, k.key)
		}
	}
	if _, err := ParseReference(latest(s.Registry.ImageURL)); s.Registry.ImageURL != "" && err != nil {
		d.at(path+".registry.imageURL", referenceHint, "storageConfig.registry.imageURL: %v", err)
	}
}

// latest adds the tag that version 1 assumes.
func latest(name string) string {
	last := name[strings.LastIndexByte(name, '/')+1:]
	if name == "" || strings.ContainsAny(last, ":@") || strings.HasPrefix(name, "oci:") {
		return name
	}
	return name + ":latest"
}

func charts(all []chart1) (to []Chart) {
	for _, c := range all {
		to = append(to, Chart{Name: c.Name, Version: c.Version, Path: c.Path, ImagePaths: c.ImagePaths})
	}
	return to
}

// operator returns an entry in the words of version 2. Version 1 follows dependencies unless it is
// told not to.
func (d *decoder) operator(at string, o operator1) Operator {
	to := Operator{
		Catalog: o.Catalog, TargetCatalog: o.TargetCatalog, TargetTag: o.TargetTag, Full: o.Full,
		SkipDependencies: o.SkipDependencies, FollowDependencies: !o.SkipDependencies,
	}
	if o.TargetName != "" && o.TargetCatalog == "" {
		to.TargetCatalog = renamed(o.Catalog, o.TargetName)
	}
	if o.TargetName != "" {
		d.warn(d.Lines[at+".targetName"], "targetName is deprecated: write targetCatalog: %s", to.TargetCatalog)
	}
	if o.OriginalRef != "" {
		d.warn(d.Lines[at+".originalRef"], "originalRef is deprecated and has no effect: write targetCatalog")
	}
	for i, p := range o.Packages {
		to.Packages = append(to.Packages, d.packageOf(fmt.Sprintf("%s.packages[%d]", at, i), p))
	}
	return to
}

// UniqueName returns the name that version 1 keeps the history of a catalog under: where the catalog is
// read, with the path and the tag that it gets.
func (o Operator) UniqueName() string {
	transport, name, ok := strings.Cut(o.Catalog, "://")
	if !ok {
		transport, name = "", o.Catalog
	}
	if o.TargetCatalog == "" && o.TargetTag == "" {
		return name
	}
	name, digest, _ := strings.Cut(name, "@")
	tag := ""
	if n := strings.LastIndexByte(name, ':'); n > strings.LastIndexByte(name, '/') {
		name, tag = name[:n], name[n+1:]
	}
	if o.TargetTag != "" {
		tag = o.TargetTag
	}
	if o.TargetCatalog != "" {
		host, _, _ := strings.Cut(name, "/")
		if name = o.TargetCatalog; transport == "" || transport == "docker" {
			name = path.Join(host, name)
		}
	}
	switch {
	case tag != "":
		return name + ":" + tag
	case digest != "":
		return name + "@" + digest
	}
	return name
}

// renamed returns the path of a catalog with another last component. That of a layout is the path of its directory.
func renamed(catalog, name string) string {
	if dir, ok := strings.CutPrefix(catalog, "oci://"); ok {
		return strings.ToLower(path.Join(path.Dir(strings.Trim(dir, "/")), name))
	}
	catalog, _, _ = strings.Cut(strings.TrimPrefix(catalog, "docker://"), "@")
	_, below, ok := strings.Cut(catalog, "/")
	if !ok {
		return name
	}
	return path.Join(path.Dir(below), name)
}

func (d *decoder) packageOf(at string, p package1) Package {
	to := Package{Name: p.Name, MinVersion: p.MinVersion, MaxVersion: p.MaxVersion, MinBundle: p.MinBundle, DefaultChannel: p.DefaultChannel}
	d.oneMinimum(at, "package "+p.Name, p.MinVersion, p.MinBundle)
	listed := len(p.Channels) == 0 || p.DefaultChannel == ""
	for i, c := range p.Channels {
		d.oneMinimum(fmt.Sprintf("%s.channels[%d]", at, i), "channel "+c.Name, c.MinVersion, c.MinBundle)
		to.Channels = append(to.Channels, PackageChannel(c))
		listed = listed || c.Name == p.DefaultChannel
	}
	if !listed {
		d.at(at+".defaultChannel", "add the channel to channels", "package %s: the default channel %s is not one of its channels", p.Name, p.DefaultChannel)
	}
	return to
}

func (d *decoder) oneMinimum(at, what, version, bundle string) {
	if version != "" && bundle != "" {
		d.at(at+".minBundle", "keep one of them", "%s: minimum version and bundle are mutually exclusive", what)
	}
}
