package yamlkeys

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxNodes bounds a document with its aliases written out: a few lines can mean billions.
const maxNodes = 1 << 20

// Document returns the one document that data must have, or nil if it has none or is not valid
// YAML, which Problems then say; an empty one has the hint that is given.
func (d *Decoder) Document(data []byte, emptyHint string) *yaml.Node {
	if what := wrongEncoding(data); what != "" {
		d.Fail(1, "", what, "save the file as UTF-8 without a byte order mark (BOM)")
		return nil
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, more yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		d.Fail(0, "", "the file is empty", emptyHint)
		return nil
	case err != nil:
		d.malformed(err)
		return nil
	}
	root := Resolve(doc.Content[0])
	if err := (expansion{}).check(root); err != nil {
		d.malformed(err)
		return nil
	}
	switch err := dec.Decode(&more); {
	case errors.Is(err, io.EOF), err == nil && isEmpty(&more): // a line of --- at the end
	case d.Lenient:
		d.Warn(more.Line, "", "only the first document of the file is read")
	case err != nil:
		d.malformed(err)
		return nil
	default:
		d.Fail(more.Line, "", "a second YAML document begins here", "keep one, without a line of ---")
		return nil
	}
	return root
}

// wrongEncoding describes what editors of Windows put at the beginning of a text: YAML accepts it,
// and scripts that search for the first key do not find it.
func wrongEncoding(data []byte) string {
	switch {
	case bytes.HasPrefix(data, []byte("\xef\xbb\xbf")):
		return "the file begins with a byte order mark (BOM)"
	case bytes.HasPrefix(data, []byte("\xff\xfe")), bytes.HasPrefix(data, []byte("\xfe\xff")):
		return "the file is UTF-16 text"
	}
	return ""
}

// malformed reports an error of the YAML parser, whose text has the line.
func (d *Decoder) malformed(err error) {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	var line int
	if n, _ := fmt.Sscanf(text, "line %d:", &line); n == 1 {
		_, text, _ = strings.Cut(text, ": ")
	}
	d.Fail(line, "", "not valid YAML: "+text, "check indentation (spaces, no tabs) and quotes around that line")
}

// expansion has the size of each node with its aliases written out; 0 while it is being counted.
type expansion map[*yaml.Node]int

// check refuses a document that contains itself, or that is many times its text.
func (e expansion) check(root *yaml.Node) error {
	_, err := e.size(root)
	return err
}

func (e expansion) size(n *yaml.Node) (int, error) {
	n = Resolve(n)
	if size, seen := e[n]; seen {
		if size == 0 {
			return 0, fmt.Errorf("line %d: what is called &%s there contains itself", n.Line, n.Anchor)
		}
		return size, nil
	}
	e[n] = 0
	total := 1
	for _, child := range n.Content {
		size, err := e.size(child)
		if err != nil {
			return 0, err
		}
		if total += size; total > maxNodes {
			return 0, errors.New("its aliases (*name) make it too large")
		}
	}
	e[n] = total
	return total, nil
}

// isEmpty reports whether a document has no content.
func isEmpty(doc *yaml.Node) bool {
	return len(doc.Content) == 0 || doc.Content[0].Kind == yaml.ScalarNode && doc.Content[0].Tag == "!!null"
}
