package imageset

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/yamlkeys"
)

// MaxEdited bounds a text that is edited, in bytes.
const MaxEdited = 256 << 10

// maxDepth bounds how deep a text is nested that is edited. The grammar has ten levels.
const maxDepth = 32

// Edit is a change of the text of a configuration, at a key as in [Config.At]. Exactly one of Set, Add
// and Remove is given.
type Edit struct {
	At     string
	Set    json.RawMessage // the value that the key gets; null, false and "" remove the key
	Add    json.RawMessage // what the list there gets at its end
	Remove bool            // the key, or the element of a list
}

// Apply returns a text with changes, in which comments, order and blank lines are as they were. The
// text need not be valid beyond its YAML; what is removed takes its comments along, and a list or a
// mapping that is left empty. The text of a change that has no effect is returned as it is.
func Apply(text []byte, edits []Edit) ([]byte, error) {
	doc, err := editable(text)
	if err != nil {
		return nil, err
	}
	if marked := markBlank(text); marked != nil {
		if with, err := editable(marked); err == nil && equal(with, doc, false) {
			doc = with
		}
	}
	changed := false
	for _, e := range edits {
		did, err := e.apply(doc.Content[0])
		if err != nil {
			return nil, fmt.Errorf("change %s: %w", e.At, err)
		}
		changed = changed || did
	}
	if !changed {
		return text, nil
	}
	return written(doc, styleOf(doc.Content[0]))
}

// Content returns what a text has, as JSON: true and false, and all else as texts, lists and mappings.
func Content(text []byte) (json.RawMessage, error) {
	doc, err := editable(text)
	if err != nil {
		return nil, err
	}
	return json.Marshal(plainOf(doc.Content[0]))
}

// Problems lists what is wrong by an error of Parse, or nil if it is another one.
func Problems(err error) []yamlkeys.Problem { return yamlkeys.ProblemsOf(err) }

// errAliases is the error of a text in which one place is written for several.
var errAliases = hint.New(errors.New("the file has aliases (*name), and a change at one place would be one at others"), "change the text itself")

// editable parses a text that can be changed by its nodes.
func editable(text []byte) (*yaml.Node, error) {
	if len(text) > MaxEdited {
		return nil, hint.New(fmt.Errorf("the image set has more than %d KiB", MaxEdited>>10), "edit the file itself, or divide it into two image sets")
	}
	var d yamlkeys.Decoder
	root := d.Document(text, "")
	if err := d.Err("the image set"); err != nil {
		return nil, err
	}
	if root.Kind != yaml.MappingNode {
		return nil, hint.New(errors.New("the file is not keys and values"), "start with the line kind: "+imageSetKind)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, err
	}
	return &doc, checkShape(&doc, maxDepth)
}

// checkShape refuses aliases and what is nested deeper than depth.
func checkShape(n *yaml.Node, depth int) error {
	if n.Kind == yaml.AliasNode || n.Tag == "!!merge" {
		return errAliases
	}
	if depth == 0 {
		return hint.New(fmt.Errorf("line %d is nested deeper than any image set", n.Line), "change the text itself")
	}
	for _, child := range n.Content {
		if err := checkShape(child, depth-1); err != nil {
			return err
		}
	}
	return nil
}

// plainOf returns a node without lines, comments and styles.
func plainOf(n *yaml.Node) any {
	switch n.Kind {
	case yaml.DocumentNode:
		return plainOf(n.Content[0])
	case yaml.MappingNode:
		m := map[string]any{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			m[n.Content[i].Value] = plainOf(n.Content[i+1])
		}
		return m
	case yaml.SequenceNode:
		s := []any{}
		for _, e := range n.Content {
			s = append(s, plainOf(e))
		}
		return s
	}
	var is bool
	switch n.ShortTag() {
	case "!!null":
		return nil
	case "!!bool":
		if n.Decode(&is) == nil {
			return is
		}
	}
	return n.Value
}

// equal reports whether two nodes mean the same and, if that is asked for, have the same comments.
func equal(a, b *yaml.Node, comments bool) bool {
	if a.Kind != b.Kind || len(a.Content) != len(b.Content) || a.ShortTag() != b.ShortTag() || a.Kind == yaml.ScalarNode && a.Value != b.Value {
		return false
	}
	for i := range a.Content {
		if !equal(a.Content[i], b.Content[i], false) {
			return false
		}
	}
	return !comments || slices.Equal(commentsOf(a), commentsOf(b))
}

// commentsOf returns the lines of all comments of a node, sorted: which of two neighbours has one is
// another question after each time that a text is written.
func commentsOf(n *yaml.Node) (all []string) {
	for _, c := range []string{n.HeadComment, n.LineComment, n.FootComment} {
		for line := range strings.Lines(c) {
			if line = strings.TrimSpace(line); line != "" && line != blankMark {
				all = append(all, line)
			}
		}
	}
	for _, child := range n.Content {
		all = append(all, commentsOf(child)...)
	}
	slices.Sort(all)
	return all
}

// style is how a text is indented.
type style struct {
	indent  int
	compact bool // lists are not indented below their keys
}

func styleOf(root *yaml.Node) style {
	s := style{indent: 2, compact: true}
	if i := indentBelow(root, yaml.MappingNode); i > 1 {
		s.indent = min(i, 9)
	}
	s.compact = indentBelow(root, yaml.SequenceNode) == 0
	return s
}

// indentBelow returns by how much the first block of a kind is indented below its key, or -1.
func indentBelow(n *yaml.Node, kind yaml.Kind) int {
	for i, child := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 1 && child.Kind == kind && child.Style&yaml.FlowStyle == 0 && child.Line > n.Content[i-1].Line {
			return child.Column - n.Content[i-1].Column
		}
		if in := indentBelow(child, kind); in >= 0 {
			return in
		}
	}
	return -1
}

// blankMark stands for a blank line in a text that is parsed: the parser knows comments only.
const blankMark = "#\u2060"

// markBlank returns a text with marks in the place of blank lines, or nil if it has none, or has marks.
func markBlank(text []byte) []byte {
	if bytes.Contains(text, []byte(blankMark)) {
		return nil
	}
	lines, indent, found := strings.Split(strings.TrimRight(string(text), " \t\r\n"), "\n"), "", false
	for i := len(lines) - 1; i >= 0; i-- {
		if rest := strings.TrimLeft(lines[i], " "); strings.TrimSpace(rest) != "" {
			indent = lines[i][:len(lines[i])-len(rest)]
			continue
		}
		lines[i], found = indent+blankMark, true
	}
	if !found {
		return nil
	}
	return []byte(strings.Join(lines, "\n") + "\n")
}

// written returns a document as text. What the encoder would write otherwise than it was meant is an error.
func written(doc *yaml.Node, s style) ([]byte, error) {
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(s.indent)
	if s.compact {
		enc.CompactSeqIndent()
	}
	err := enc.Encode(doc)
	if err == nil {
		err = enc.Close()
	}
	var kept []string
	for _, line := range strings.Split(out.String(), "\n") {
		if strings.TrimSpace(line) == blankMark {
			line = ""
		}
		if line != "" || len(kept) > 0 && kept[len(kept)-1] != "" {
			kept = append(kept, line)
		}
	}
	text := []byte(strings.TrimRight(strings.Join(kept, "\n"), "\n") + "\n")
	var again yaml.Node
	if err == nil {
		err = yaml.Unmarshal(text, &again)
	}
	if err != nil || !equal(doc, &again, true) {
		return nil, hint.New(errors.New("the file is written in a way in which it cannot be changed here without losing some of it"), "change the text itself")
	}
	return text, nil
}

// step is an element of a path: a key, or the place in a list.
type step struct {
	key   string
	index int // of a list, if the key is ""
}

// stepsOf parses a path such as mirror.platform.channels[0].name.
func stepsOf(path string) ([]step, error) {
	wrong := hint.New(fmt.Errorf("%q is not the place of a key", path), "write it like mirror.platform.channels[0].name")
	var steps []step
	for name := range strings.SplitSeq(path, ".") {
		key, rest, isList := strings.Cut(name, "[")
		if key == "" || strings.ContainsFunc(key, func(r rune) bool { return (r|0x20) < 'a' || (r|0x20) > 'z' }) {
			return nil, wrong
		}
		steps = append(steps, step{key: key})
		for isList {
			number, after, closed := strings.Cut(rest, "]")
			index, err := strconv.ParseUint(number, 10, 31)
			if !closed || err != nil || after != "" && after[0] != '[' {
				return nil, wrong
			}
			steps = append(steps, step{index: int(index)})
			_, rest, isList = strings.Cut(after, "[")
		}
	}
	if len(steps) >= maxDepth {
		return nil, wrong
	}
	return steps, nil
}
