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
	additional int // problems that oc-mirror finds when it collects the additional images
}

func (d *decoder) problem(line int, do, format string, args ...any) {
	d.Fail(line, "", fmt.Sprintf(format, args...), do)
}

func (d *decoder) warn(line int, format string, args ...any) {
	d.Warn(line, "", fmt.Sprintf(format, args...))
}

// err returns all problems in the order of their lines, nil if there are none.
func (d *decoder) err(file string) error {
	if len(d.Problems) == 0 {
		return nil
	}
	slices.SortStableFunc(d.Problems, func(a, b yamlkeys.Problem) int { return a.Line - b.Line })
	return &invalidError{file, d.Problems, d.additional == len(d.Problems)}
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
		d.problem(root.Line, "", "the file must be a mapping that starts with kind: %s", imageSetKind)
		return false
	}
	kind := lookup(root, "kind")
	switch {
	case kind == nil || kind.Value == "":
		d.problem(root.Line, "add the line kind: "+imageSetKind, "configuration missing `kind`")
		return false
	case kind.Value == "DeleteImageSetConfiguration":
		d.problem(kind.Line, "this version cannot delete yet; remove tags in the registry and run appliance gc",
			"kind DeleteImageSetConfiguration is not built yet")
		return false
	case kind.Value != imageSetKind:
		d.problem(kind.Line, "write kind: "+imageSetKind, "kind is %q, not %s", kind.Value, imageSetKind)
		return false
	}
	if lookup(root, "mirror") == nil {
		d.problem(root.Line, "add the key mirror: and below it what to mirror", "the key mirror is missing")
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

// keys returns the table of the document. Below mirror it follows from the structs.
func (c *Config) keys() []yamlkeys.Key {
	var kind string
	return []yamlkeys.Key{
		{Name: "kind", Value: &kind},
		{Name: "apiVersion", Value: &c.APIVersion},
		{Name: "archiveSize", Value: &c.ArchiveSize},
		{Name: "mirror", Value: yamlkeys.Fields(&c.Mirror)},
	}
}
