package imageset

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/mirror-appliance/appliance/internal/yamlkeys"
)

// decoder decodes a configuration, then checks it.
type decoder struct {
	yamlkeys.Decoder
	problems []problem // of the checks
	warnings []string
}

func newDecoder() *decoder {
	return &decoder{Decoder: yamlkeys.Decoder{Lenient: true, UnknownHint: unknownHint, Lines: map[string]int{}}}
}

func (d *decoder) problem(n *yaml.Node, do, format string, args ...any) {
	d.problems = append(d.problems, problem{Line: n.Line, What: fmt.Sprintf(format, args...), Do: do})
}

func (d *decoder) warn(format string, args ...any) {
	d.warnings = append(d.warnings, fmt.Sprintf(format, args...))
}

// err returns all problems in the order of their lines, nil if there are none.
func (d *decoder) err(file string) error {
	for _, p := range d.Problems {
		d.problems = append(d.problems, problem{Line: p.Line, What: p.Text(), Do: p.Hint})
	}
	if len(d.problems) == 0 {
		return nil
	}
	slices.SortStableFunc(d.problems, func(a, b problem) int { return a.Line - b.Line })
	return &invalidError{file: file, problems: d.problems}
}

// unknownHint returns what replaced a key of an older version; "" for any other key.
func unknownHint(key string) string {
	switch key {
	case "storageConfig":
		return "remove storageConfig: it belongs to oc-mirror v1 and has no meaning any more"
	case "targetName":
		return "write targetCatalog instead of targetName"
	case "originalRef":
		return "remove originalRef and put the reference in catalog"
	case "minBundle":
		return "write minVersion instead of minBundle"
	case "bundles":
		return "select the bundles with minVersion and maxVersion; lists of bundles went out with oc-mirror 4.18"
	case "delete":
		return "deleting is asked for in a file of kind DeleteImageSetConfiguration"
	}
	return ""
}

// header checks kind and apiVersion, before any other fault is reported.
func (d *decoder) header(root *yaml.Node) bool {
	if root.Kind != yaml.MappingNode {
		d.problem(root, "", "the file must be a mapping that starts with kind: %s", imageSetKind)
		return false
	}
	kind := lookup(root, "kind")
	switch {
	case kind == nil || kind.Value == "":
		d.problem(root, "add the line kind: "+imageSetKind, "configuration missing `kind`")
		return false
	case kind.Value == "DeleteImageSetConfiguration":
		d.problem(kind, "this version cannot delete yet; remove tags in the registry and run appliance gc",
			"kind DeleteImageSetConfiguration is not built yet")
		return false
	case kind.Value != imageSetKind:
		d.problem(kind, "write kind: "+imageSetKind, "kind is %q, not %s", kind.Value, imageSetKind)
		return false
	}
	if lookup(root, "mirror") == nil {
		d.problem(root, "add the key mirror: and below it what to mirror", "the key mirror is missing")
		return false
	}
	return true
}

func lookup(n *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if strings.EqualFold(n.Content[i].Value, key) {
			return yamlkeys.Resolve(n.Content[i+1])
		}
	}
	return nil
}

func (c *Config) keys() []yamlkeys.Key {
	var kind string
	return []yamlkeys.Key{
		{Name: "kind", Value: &kind},
		{Name: "apiVersion", Value: &c.APIVersion},
		{Name: "archiveSize", Value: &c.ArchiveSize},
		{Name: "mirror", Value: c.Mirror.keys()},
	}
}

func (m *Mirror) keys() []yamlkeys.Key {
	return []yamlkeys.Key{
		{Name: "platform", Value: m.Platform.keys()},
		{Name: "operators", Value: yamlkeys.List(&m.Operators, (*Operator).keys)},
		{Name: "additionalImages", Value: yamlkeys.List(&m.AdditionalImages, (*AdditionalImage).keys)},
		{Name: "helm", Value: m.Helm.keys()},
		{Name: "blockedImages", Value: yamlkeys.List(&m.BlockedImages, (*BlockedImage).keys)},
		{Name: "samples", Value: yamlkeys.List(&m.Samples, (*Sample).keys)},
	}
}

func (b *BlockedImage) keys() []yamlkeys.Key { return []yamlkeys.Key{{Name: "name", Value: &b.Name}} }

func (s *Sample) keys() []yamlkeys.Key { return []yamlkeys.Key{{Name: "name", Value: &s.Name}} }

func (p *Platform) keys() []yamlkeys.Key {
	return []yamlkeys.Key{
		{Name: "graph", Value: &p.Graph},
		{Name: "channels", Value: yamlkeys.List(&p.Channels, (*Channel).keys)},
		{Name: "architectures", Value: &p.Architectures},
		{Name: "platforms", Value: yamlkeys.List(&p.Platforms, (*OSArch).keys)},
		{Name: "release", Value: &p.Release},
		{Name: "kubeVirtContainer", Value: &p.KubeVirtContainer},
	}
}

func (c *Channel) keys() []yamlkeys.Key {
	return []yamlkeys.Key{
		{Name: "name", Value: &c.Name},
		{Name: "minVersion", Value: &c.MinVersion},
		{Name: "maxVersion", Value: &c.MaxVersion},
		{Name: "shortestPath", Value: &c.ShortestPath},
		{Name: "full", Value: &c.Full},
		{Name: "type", Value: (*string)(&c.Type)},
	}
}

func (p *OSArch) keys() []yamlkeys.Key {
	return []yamlkeys.Key{{Name: "os", Value: &p.OS}, {Name: "architecture", Value: &p.Architecture}}
}

func (o *Operator) keys() []yamlkeys.Key {
	return []yamlkeys.Key{
		{Name: "catalog", Value: &o.Catalog},
		{Name: "targetCatalog", Value: &o.TargetCatalog},
		{Name: "targetTag", Value: &o.TargetTag},
		{Name: "full", Value: &o.Full},
		{Name: "skipDependencies", Value: &o.SkipDependencies},
		{Name: "targetCatalogSourceTemplate", Value: &o.TargetCatalogSourceTemplate},
		{Name: "platforms", Value: yamlkeys.List(&o.Platforms, (*OSArch).keys)},
		{Name: "packages", Value: yamlkeys.List(&o.Packages, (*Package).keys)},
	}
}

func (p *Package) keys() []yamlkeys.Key {
	return []yamlkeys.Key{
		{Name: "name", Value: &p.Name},
		{Name: "minVersion", Value: &p.MinVersion},
		{Name: "maxVersion", Value: &p.MaxVersion},
		{Name: "defaultChannel", Value: &p.DefaultChannel},
		{Name: "channels", Value: yamlkeys.List(&p.Channels, (*PackageChannel).keys)},
	}
}

func (c *PackageChannel) keys() []yamlkeys.Key {
	return []yamlkeys.Key{
		{Name: "name", Value: &c.Name},
		{Name: "minVersion", Value: &c.MinVersion},
		{Name: "maxVersion", Value: &c.MaxVersion},
	}
}

func (a *AdditionalImage) keys() []yamlkeys.Key {
	return []yamlkeys.Key{
		{Name: "name", Value: &a.Name},
		{Name: "targetRepo", Value: &a.TargetRepo},
		{Name: "targetTag", Value: &a.TargetTag},
		{Name: "platforms", Value: yamlkeys.List(&a.Platforms, (*OSArch).keys)},
	}
}

func (h *Helm) keys() []yamlkeys.Key {
	return []yamlkeys.Key{
		{Name: "repositories", Value: yamlkeys.List(&h.Repositories, (*HelmRepository).keys)},
		{Name: "local", Value: yamlkeys.List(&h.Local, (*Chart).keys)},
	}
}

func (r *HelmRepository) keys() []yamlkeys.Key {
	return []yamlkeys.Key{
		{Name: "name", Value: &r.Name},
		{Name: "url", Value: &r.URL},
		{Name: "charts", Value: yamlkeys.List(&r.Charts, (*Chart).keys)},
	}
}

func (c *Chart) keys() []yamlkeys.Key {
	return []yamlkeys.Key{
		{Name: "name", Value: &c.Name},
		{Name: "version", Value: &c.Version},
		{Name: "path", Value: &c.Path},
		{Name: "imagePaths", Value: &c.ImagePaths},
		{Name: "platforms", Value: yamlkeys.List(&c.Platforms, (*OSArch).keys)},
	}
}
