package imageset

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// decoder walks the YAML tree. It goes on after a problem, so that all of them are told at once.
type decoder struct {
	lines    map[string]int
	problems []Problem
	warnings []string
}

// value decodes the node n, which stands at path.
type value func(n *yaml.Node, path string)

func (d *decoder) problem(n *yaml.Node, do, format string, args ...any) {
	d.problems = append(d.problems, Problem{Line: n.Line, What: fmt.Sprintf(format, args...), Do: do})
}

func (d *decoder) warn(n *yaml.Node, format string, args ...any) {
	d.warnings = append(d.warnings, fmt.Sprintf("line %d: ", n.Line)+fmt.Sprintf(format, args...))
}

func (d *decoder) err(file string) *Error {
	slices.SortStableFunc(d.problems, func(a, b Problem) int { return a.Line - b.Line })
	return &Error{File: file, Problems: d.problems}
}

// resolve follows aliases and unwraps documents.
func resolve(n *yaml.Node) *yaml.Node {
	for {
		switch {
		case n.Kind == yaml.DocumentNode && len(n.Content) > 0:
			n = n.Content[0]
		case n.Kind == yaml.AliasNode:
			n = n.Alias
		default:
			return n
		}
	}
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// object decodes a mapping whose keys are those of fields.
func (d *decoder) object(n *yaml.Node, path string, fields map[string]value) {
	n = resolve(n)
	if isNull(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		d.problem(n, "", "%s must be a mapping (key: value), not %s", where(path), kindName(n))
		return
	}
	d.merged(n, path, fields)
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, val := n.Content[i], resolve(n.Content[i+1])
		if key.Tag == "!!merge" {
			continue
		}
		name, ok := d.key(key, path, fields)
		if !ok {
			continue
		}
		if first, dup := seen[name]; dup {
			d.problem(key, "keep one of them", "key %q is given twice (first on line %d)", name, first)
			continue
		}
		seen[name] = key.Line
		child := join(path, name)
		d.lines[child] = key.Line
		fields[name](val, child)
	}
}

// merged decodes what "<<" brings into the mapping n, before its own keys, which go over it.
func (d *decoder) merged(n *yaml.Node, path string, fields map[string]value) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Tag != "!!merge" {
			continue
		}
		from := resolve(n.Content[i+1])
		if from.Kind != yaml.SequenceNode {
			d.object(from, path, fields)
			continue
		}
		for _, e := range slices.Backward(from.Content) { // the first of them wins
			d.object(e, path, fields)
		}
	}
}

// key finds the field that a key means. oc-mirror's decoder does not look at case, so neither do we.
func (d *decoder) key(key *yaml.Node, path string, fields map[string]value) (string, bool) {
	if _, ok := fields[key.Value]; ok {
		return key.Value, true
	}
	names := slices.Sorted(maps.Keys(fields))
	for _, name := range names {
		if strings.EqualFold(name, key.Value) {
			d.warn(key, "key %q is read as %q", key.Value, name)
			return name, true
		}
	}
	d.problem(key, unknownHint(key.Value, names), "unknown key %q in %s", key.Value, where(path))
	return "", false
}

// unknownHint says what became of the keys of older versions; else it lists what is known.
func unknownHint(key string, known []string) string {
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
	return "known keys there: " + strings.Join(known, ", ")
}

// list decodes a sequence; each decodes one element.
func (d *decoder) list(n *yaml.Node, path string, each func(i int, n *yaml.Node, path string)) {
	n = resolve(n)
	if isNull(n) {
		return
	}
	if n.Kind != yaml.SequenceNode {
		d.problem(n, "start each element on its own line with \"- \"", "%s must be a list, not %s", where(path), kindName(n))
		return
	}
	for i, e := range n.Content {
		e = resolve(e)
		p := fmt.Sprintf("%s[%d]", path, i)
		d.lines[p] = e.Line
		each(i, e, p)
	}
}

// objects decodes a sequence of mappings into to.
func objects[T any](d *decoder, to *[]T, fields func(*T) map[string]value) value {
	return func(n *yaml.Node, path string) {
		*to = nil
		d.list(n, path, func(_ int, n *yaml.Node, path string) {
			var v T
			d.object(n, path, fields(&v))
			*to = append(*to, v)
		})
	}
}

// text decodes a scalar as it is written: targetTag: 1.10 means "1.10".
func (d *decoder) text(to *string) value {
	return func(n *yaml.Node, path string) {
		switch {
		case isNull(n):
		case n.Kind != yaml.ScalarNode:
			d.problem(n, "", "%s must be text, not %s", where(path), kindName(n))
		default:
			*to = strings.TrimSpace(n.Value)
		}
	}
}

func (d *decoder) texts(to *[]string) value {
	return func(n *yaml.Node, path string) {
		*to = nil
		d.list(n, path, func(_ int, n *yaml.Node, path string) {
			var s string
			d.text(&s)(n, path)
			*to = append(*to, s)
		})
	}
}

func (d *decoder) flag(to *bool) value {
	return func(n *yaml.Node, path string) {
		if isNull(n) {
			return
		}
		if n.Kind != yaml.ScalarNode || n.Tag != "!!bool" || n.Decode(to) != nil {
			d.problem(n, "write true or false", "%s must be true or false, not %q", where(path), n.Value)
		}
	}
}

func (d *decoder) number(to *int64) value {
	return func(n *yaml.Node, path string) {
		if isNull(n) {
			return
		}
		v, err := strconv.ParseInt(n.Value, 10, 64)
		if n.Kind != yaml.ScalarNode || err != nil {
			d.problem(n, "", "%s must be a whole number, not %q", where(path), n.Value)
			return
		}
		*to = v
	}
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func where(path string) string {
	if path == "" {
		return "the file"
	}
	return path
}

func kindName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	default:
		return strconv.Quote(n.Value)
	}
}
