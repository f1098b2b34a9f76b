package imageset

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/mirror-appliance/appliance/internal/yamlkeys"
)

// decoder decodes a configuration, then checks it.
type decoder struct {
	yamlkeys.Decoder
	additional int // problems that oc-mirror finds when it collects the additional images
	v1         bool
}

func (d *decoder) problem(line int, do, format string, args ...any) {
	d.Fail(line, "", fmt.Sprintf(format, args...), do)
}

func (d *decoder) warn(line int, format string, args ...any) {
	d.Warn(line, "", fmt.Sprintf(format, args...))
}

// err returns all problems in the order of their lines, nil if there are none.
func (d *decoder) err(file string) error {
	err := d.Err(file)
	if err == nil {
		return nil
	}
	return &invalidError{err, d.additional == len(d.Problems)}
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
	case "delete":
		return "deleting is asked for in a file of kind DeleteImageSetConfiguration"
	}
	return ""
}

// section returns the key that has the content of a kind.
func section(kind string) string {
	if kind == deleteKind {
		return "delete"
	}
	return "mirror"
}

// asMirror gives the content of a deletion the name that the table of keys has. Keys that a
// deletion does not have are problems.
func (d *decoder) asMirror(root *yaml.Node) {
	for i := 0; i+1 < len(root.Content); i += 2 {
		switch key := root.Content[i]; {
		case strings.EqualFold(key.Value, "delete"):
			key.Value = "mirror"
			if blocked := lookup(yamlkeys.Resolve(root.Content[i+1]), "blockedImages"); blocked != nil {
				d.problem(blocked.Line, "leave it out: what is listed is deleted", "blockedImages: unknown key")
			}
		case strings.EqualFold(key.Value, "archiveSize"):
			d.problem(key.Line, "leave it out", "archiveSize: unknown key")
		}
	}
}

// header checks kind and apiVersion, before any other fault is reported.
func (d *decoder) header(root *yaml.Node, want string) bool {
	if root.Kind != yaml.MappingNode {
		d.problem(root.Line, "", "the file must be a mapping that starts with kind: %s", want)
		return false
	}
	kind := lookup(root, "kind")
	other := map[string]string{imageSetKind: "appliance mirror takes it", deleteKind: "appliance delete takes it"}
	switch {
	case kind == nil || kind.Value == "":
		d.problem(root.Line, "add the line kind: "+want, "configuration missing `kind`")
		return false
	case kind.Value != want:
		do := "write kind: " + want
		if other[kind.Value] != "" {
			do = other[kind.Value]
		}
		d.problem(kind.Line, do, "kind is %q, not %s", kind.Value, want)
		return false
	}
	for _, kind := range []string{imageSetKind, deleteKind} {
		switch node := lookup(root, section(kind)); {
		case kind == want && node == nil:
			d.problem(root.Line, "add the key "+section(want)+": and below it what is meant",
				"the key %s is missing", section(want))
			return false
		case kind != want && node != nil:
			do := "leave it out; the kind of a file with it is " + kind
			d.problem(node.Line, do, "%s: unknown key", section(kind))
			return false
		}
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
func (c *Config) keys(mirror []yamlkeys.Key) []yamlkeys.Key {
	var kind string
	return []yamlkeys.Key{
		{Name: "kind", Value: &kind},
		{Name: "apiVersion", Value: &c.APIVersion},
		{Name: "archiveSize", Value: &c.ArchiveSize},
		{Name: "mirror", Value: mirror},
	}
}
