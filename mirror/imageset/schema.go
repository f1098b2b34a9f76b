package imageset

import (
	"strings"

	"go.yaml.in/yaml/v3"
)

// header checks what the document is before anything else is said about it.
func (d *decoder) header(root *yaml.Node, c *Config) bool {
	if root.Kind != yaml.MappingNode {
		d.problem(root, "", "the file must be a mapping that starts with kind: %s", Kind)
		return false
	}
	kind := lookup(root, "kind")
	switch {
	case kind == nil || kind.Value == "":
		d.problem(root, "add the line kind: "+Kind, "configuration missing `kind`")
		return false
	case kind.Value == "DeleteImageSetConfiguration":
		d.problem(kind, "this version cannot delete yet; remove tags in the registry and run appliance gc",
			"kind DeleteImageSetConfiguration is not built yet")
		return false
	case kind.Value != Kind:
		d.problem(kind, "write kind: "+Kind, "kind is %q, not %s", kind.Value, Kind)
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
			return resolve(n.Content[i+1])
		}
	}
	return nil
}

func (d *decoder) config(root *yaml.Node, c *Config) {
	var kind string
	d.object(root, "", map[string]value{
		"kind":        d.text(&kind),
		"apiVersion":  d.text(&c.APIVersion),
		"archiveSize": d.number(&c.ArchiveSize),
		"mirror":      func(n *yaml.Node, path string) { d.object(n, path, d.mirror(&c.Mirror)) },
	})
}

func (d *decoder) mirror(m *Mirror) map[string]value {
	return map[string]value{
		"platform":         func(n *yaml.Node, path string) { d.object(n, path, d.platform(&m.Platform)) },
		"operators":        objects(d, &m.Operators, d.operator),
		"additionalImages": objects(d, &m.AdditionalImages, d.additionalImage),
		"helm":             func(n *yaml.Node, path string) { d.object(n, path, d.helm(&m.Helm)) },
		"blockedImages": objects(d, &m.BlockedImages, func(b *BlockedImage) map[string]value {
			return map[string]value{"name": d.text(&b.Name)}
		}),
		"samples": objects(d, &m.Samples, func(s *Sample) map[string]value {
			return map[string]value{"name": d.text(&s.Name)}
		}),
	}
}

func (d *decoder) platform(p *Platform) map[string]value {
	return map[string]value{
		"graph":             d.flag(&p.Graph),
		"channels":          objects(d, &p.Channels, d.channel),
		"architectures":     d.texts(&p.Architectures),
		"platforms":         objects(d, &p.Platforms, d.osArch),
		"release":           d.text(&p.Release),
		"kubeVirtContainer": d.flag(&p.KubeVirtContainer),
	}
}

func (d *decoder) channel(c *Channel) map[string]value {
	c.Type = OCP
	return map[string]value{
		"name":         d.text(&c.Name),
		"minVersion":   d.text(&c.MinVersion),
		"maxVersion":   d.text(&c.MaxVersion),
		"shortestPath": d.flag(&c.ShortestPath),
		"full":         d.flag(&c.Full),
		"type": func(n *yaml.Node, path string) {
			var s string
			d.text(&s)(n, path)
			switch ChannelType(s) {
			case OKD:
				c.Type = OKD
			case OCP, "":
			default:
				d.warn(n, "channel type %q is unknown; ocp is meant", s)
			}
		},
	}
}

func (d *decoder) osArch(p *OSArch) map[string]value {
	return map[string]value{"os": d.text(&p.OS), "architecture": d.text(&p.Architecture)}
}

func (d *decoder) operator(o *Operator) map[string]value {
	return map[string]value{
		"catalog":                     d.text(&o.Catalog),
		"targetCatalog":               d.text(&o.TargetCatalog),
		"targetTag":                   d.text(&o.TargetTag),
		"full":                        d.flag(&o.Full),
		"skipDependencies":            d.flag(&o.SkipDependencies),
		"targetCatalogSourceTemplate": d.text(&o.TargetCatalogSourceTemplate),
		"platforms":                   objects(d, &o.Platforms, d.osArch),
		"packages":                    objects(d, &o.Packages, d.pkg),
	}
}

func (d *decoder) pkg(p *Package) map[string]value {
	return map[string]value{
		"name":           d.text(&p.Name),
		"minVersion":     d.text(&p.MinVersion),
		"maxVersion":     d.text(&p.MaxVersion),
		"defaultChannel": d.text(&p.DefaultChannel),
		"channels": objects(d, &p.Channels, func(c *PackageChannel) map[string]value {
			return map[string]value{
				"name":       d.text(&c.Name),
				"minVersion": d.text(&c.MinVersion),
				"maxVersion": d.text(&c.MaxVersion),
			}
		}),
	}
}

func (d *decoder) additionalImage(a *AdditionalImage) map[string]value {
	return map[string]value{
		"name":       d.text(&a.Name),
		"targetRepo": d.text(&a.TargetRepo),
		"targetTag":  d.text(&a.TargetTag),
		"platforms":  objects(d, &a.Platforms, d.osArch),
	}
}

func (d *decoder) helm(h *Helm) map[string]value {
	return map[string]value{
		"repositories": objects(d, &h.Repositories, func(r *HelmRepository) map[string]value {
			return map[string]value{
				"name":   d.text(&r.Name),
				"url":    d.text(&r.URL),
				"charts": objects(d, &r.Charts, d.chart),
			}
		}),
		"local": objects(d, &h.Local, d.chart),
	}
}

func (d *decoder) chart(c *Chart) map[string]value {
	return map[string]value{
		"name":       d.text(&c.Name),
		"version":    d.text(&c.Version),
		"path":       d.text(&c.Path),
		"imagePaths": d.texts(&c.ImagePaths),
		"platforms":  objects(d, &c.Platforms, d.osArch),
	}
}
