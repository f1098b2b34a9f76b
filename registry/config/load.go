package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"go.yaml.in/yaml/v3"
)

// Load reads the file at path. An error is an *Error.
func Load(path string) (*Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	return Parse(path, data)
}

// Parse reads data; name stands for it in errors. An error is an *Error.
func Parse(name string, data []byte) (*Config, error) {
	d := &decoder{file: name, lines: map[string]int{}}
	root, err := d.document(data)
	if err != nil {
		return nil, err
	}
	c := minimal()
	if err := d.mapping(root, "", c.keys()); err != nil {
		return nil, err
	}
	c.Hostname = strings.ToLower(c.Hostname)
	if c.Listen == "" {
		c.Listen = listenOn(c.Port)
	}
	if key, bad := c.together(); bad != nil {
		return nil, d.fail(d.lines[key], key, bad)
	}
	return c, nil
}

type decoder struct {
	file  string
	lines map[string]int // where each key stands, for checks made at the end
}

func (d *decoder) fail(line int, key string, c *complaint) *Error {
	return &Error{File: d.file, Line: line, Key: key, Problem: c.problem, hint: c.hint}
}

// document returns the one mapping that the file must be.
func (d *decoder) document(data []byte) (*yaml.Node, error) {
	if c := byteOrderMark(data); c != nil {
		return nil, d.fail(1, "", c)
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, more yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return nil, d.fail(0, "", &complaint{"the file is empty", "write one with 'appliance install', or begin with 'hostname: registry.example.com'"})
	} else if err != nil {
		return nil, malformed(d.file, err)
	}
	if err := dec.Decode(&more); err == nil {
		return nil, d.fail(more.Line, "", &complaint{"a second YAML document begins here", "keep one, without a line of ---"})
	} else if !errors.Is(err, io.EOF) {
		return nil, malformed(d.file, err)
	}
	return doc.Content[0], nil
}

// byteOrderMark knows what editors of Windows put at the beginning of a text. YAML takes it, and scripts that look for
// the first key do not find it.
func byteOrderMark(data []byte) *complaint {
	const hint = "save the file as UTF-8 without a byte order mark (BOM)"
	switch {
	case bytes.HasPrefix(data, []byte("\xef\xbb\xbf")):
		return &complaint{"the file begins with a byte order mark (BOM)", hint}
	case bytes.HasPrefix(data, []byte("\xff\xfe")), bytes.HasPrefix(data, []byte("\xfe\xff")):
		return &complaint{"the file is UTF-16 text", hint}
	}
	return nil
}

// mapping decodes n by the table of keys. at is the path of n, "" for the top.
func (d *decoder) mapping(n *yaml.Node, at string, keys []key) *Error {
	n = resolve(n)
	if n.Kind != yaml.MappingNode {
		return d.fail(n.Line, at, &complaint{"keys and values are wanted here, not " + describe(n), "known keys: " + names(keys)})
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		path := join(at, name.Value)
		k, ok := find(keys, name.Value)
		if !ok {
			return d.fail(name.Line, path, &complaint{"unknown key", "known keys here: " + names(keys)})
		}
		if first, again := seen[k.name]; again {
			return d.fail(name.Line, path, &complaint{fmt.Sprintf("given twice, first in line %d", first), "keep one of the two"})
		}
		seen[k.name], d.lines[path] = name.Line, name.Line
		if err := d.value(value, path, k); err != nil {
			return err
		}
	}
	return d.missing(n, at, keys, seen)
}

func (d *decoder) missing(n *yaml.Node, at string, keys []key, seen map[string]int) *Error {
	for _, k := range keys {
		if _, ok := seen[k.name]; k.required && !ok {
			return d.fail(n.Line, join(at, k.name), &complaint{"missing", fmt.Sprintf("add a line '%s: …'", k.name)})
		}
	}
	return nil
}

func (d *decoder) value(n *yaml.Node, path string, k key) *Error {
	n = resolve(n)
	var bad *complaint
	switch v := k.value.(type) {
	case []key:
		return d.mapping(n, path, v)
	case *[]Upstream:
		return d.upstreams(n, path, v)
	case *patterns:
		return d.patterns(n, path, v)
	case *string:
		bad = text(n, v, k.required)
	case *int:
		bad = number(n, v)
	case *time.Duration:
		bad = duration(n, v)
	case *bool:
		bad = boolean(n, v)
	case *Size:
		bad = size(n, v)
	}
	if bad == nil && k.check != nil {
		bad = k.check()
	}
	if bad != nil {
		return d.fail(n.Line, path, bad)
	}
	return nil
}

func (d *decoder) upstreams(n *yaml.Node, path string, into *[]Upstream) *Error {
	if isNull(n) {
		return nil
	}
	if n.Kind != yaml.SequenceNode {
		return d.fail(n.Line, path, &complaint{"a list is wanted here, not " + describe(n), "begin each upstream with '- prefix: …'"})
	}
	for i, item := range n.Content {
		u := Upstream{Freshness: DefaultFreshness}
		at := path + "[" + strconv.Itoa(i) + "]"
		if err := d.mapping(item, at, u.keys()); err != nil {
			return err
		}
		*into = append(*into, u)
	}
	return nil
}

func (d *decoder) patterns(n *yaml.Node, path string, into *patterns) *Error {
	if isNull(n) {
		return nil
	}
	if n.Kind != yaml.SequenceNode {
		return d.fail(n.Line, path, &complaint{"a list is wanted here, not " + describe(n), "write it like [one, two]"})
	}
	for i, item := range n.Content {
		var s string
		bad := text(resolve(item), &s, true)
		if bad == nil {
			bad = pattern(s)
		}
		if bad != nil {
			return d.fail(item.Line, path+"["+strconv.Itoa(i)+"]", bad)
		}
		*into = append(*into, s)
	}
	return nil
}

// text takes what YAML reads as a string. A number or a true is refused, since `hostname: 1e3`
// is more likely a slip than a name.
func text(n *yaml.Node, into *string, required bool) *complaint {
	if isNull(n) || (n.Kind == yaml.ScalarNode && n.Value == "") {
		if required {
			return &complaint{"it has no value", "write one after the colon"}
		}
		*into = ""
		return nil
	}
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!str" {
		return &complaint{"a text is wanted here, not " + describe(n), "write one value after the colon, in quotes if it looks like a number"}
	}
	*into = n.Value
	return nil
}

func number(n *yaml.Node, into *int) *complaint {
	bad := &complaint{"a number is wanted here, not " + describe(n), "write digits only, without quotes"}
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!int" {
		return bad
	}
	v, err := strconv.Atoi(n.Value)
	if err != nil {
		return bad
	}
	*into = v
	return nil
}

func duration(n *yaml.Node, into *time.Duration) *complaint {
	bad := &complaint{"a duration is wanted here, not " + describe(n), "write it like 90s, 5m or 24h"}
	if n.Kind != yaml.ScalarNode {
		return bad
	}
	v, err := time.ParseDuration(n.Value)
	if err != nil {
		return bad
	}
	*into = v
	return nil
}

func boolean(n *yaml.Node, into *bool) *complaint {
	switch n.Value {
	case "true", "false":
		*into = n.Value == "true"
		return nil
	}
	return &complaint{"true or false is wanted here, not " + describe(n), "write true or false"}
}

func size(n *yaml.Node, into *Size) *complaint {
	bad := &complaint{"a number of bytes is wanted here, not " + describe(n), "write it like 500MiB, 10GiB or 0"}
	if n.Kind != yaml.ScalarNode {
		return bad
	}
	v, err := humanize.ParseBytes(n.Value)
	// A comma it would leave out: 1,5GiB is no 15GiB.
	if err != nil || strings.Contains(n.Value, ",") || v > math.MaxInt64 {
		return bad
	}
	*into = Size(v)
	return nil
}

func resolve(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// describe names what stands in the file, in words.
func describe(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "keys and values"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case isNull(n):
		return "nothing"
	}
	return strconv.Quote(n.Value)
}

func find(keys []key, name string) (key, bool) {
	for _, k := range keys {
		if k.name == name {
			return k, true
		}
	}
	return key{}, false
}

func names(keys []key) string {
	var all []string
	for _, k := range keys {
		all = append(all, k.name)
	}
	return strings.Join(all, ", ")
}

func join(at, name string) string {
	if at == "" {
		return name
	}
	return at + "." + name
}
