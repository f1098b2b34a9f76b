// Package yamlkeys decodes YAML by tables of keys. Each problem has a line, a key and a hint, and
// decoding goes on after one, so that a person sees all of them at once.
//
// Call Decoder.Document, then Decoder.Mapping with the table of the document's keys. Struct
// tags were refused: a message such as "cannot unmarshal !!seq into config.TLS" names neither
// the key nor what to write.
package yamlkeys

import (
	"cmp"
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Problem is one thing that is wrong in a document, or a warning.
type Problem struct {
	Line int    // 0: the document as a whole
	Key  string // such as tls.certificate or upstreams[1].prefix; "": no key in particular
	What string
	Hint string // what to do; may be empty
}

// Text returns the problem with the key that it is about.
func (p Problem) Text() string {
	if p.Key == "" {
		return p.What
	}
	return p.Key + ": " + p.What
}

// Key is a line of a table: a key of a mapping, and where its value goes.
type Key struct {
	Name string
	// Value is a *string, *bool, *int, *int64, *time.Duration, *[]string, encoding.TextUnmarshaler,
	// a value with DecodeNode or, for a nested mapping, []Key. The error of an
	// encoding.TextUnmarshaler names what is wanted, such as "a number of bytes"; it and that of
	// Check may have a hint.
	Value    any
	Required bool
	Check    func() error // examines the decoded value; nil accepts all
}

// custom decodes its own node.
type custom interface {
	DecodeNode(d *Decoder, n *yaml.Node, path string)
}

// Decoder decodes one document. The zero value is strict.
type Decoder struct {
	// Lenient decodes as Kubernetes does: keys match in any case, << merges, a scalar of any type
	// is text, an empty value is none, and documents after the first are ignored.
	Lenient bool
	// UnknownHint returns the hint for an unknown key; "" lists the keys that are known there.
	UnknownHint func(key string) string

	Lines              map[string]int // by path: the line of each key and list element
	Problems, Warnings []Problem
}

// Fail adds a problem.
func (d *Decoder) Fail(line int, path, what, hint string) {
	d.Problems = append(d.Problems, Problem{Line: line, Key: path, What: what, Hint: hint})
}

// Warn adds a warning.
func (d *Decoder) Warn(line int, path, what string) {
	d.Warnings = append(d.Warnings, Problem{Line: line, Key: path, What: what})
}

// LineOf returns the line of path, or of the nearest key above it in the document, or 0.
func (d *Decoder) LineOf(path string) int {
	for path != "" {
		if line, ok := d.Lines[path]; ok {
			return line
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
	return 0
}

// Mapping decodes a mapping by a table. path is that of n, "" for the document.
func (d *Decoder) Mapping(n *yaml.Node, path string, keys []Key) {
	n = Resolve(n)
	if d.Lenient && isNull(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		d.Fail(n.Line, path, "keys and values are wanted here, not "+describe(n), "known keys: "+names(keys))
		return
	}
	given := map[string]bool{}
	d.fields(n, path, keys, given)
	for _, k := range keys {
		if k.Required && !given[k.Name] {
			d.Fail(n.Line, join(path, k.Name), "missing", fmt.Sprintf("add a line '%s: …'", k.Name))
		}
	}
}

// fields decodes the keys of a mapping and adds them to given.
func (d *Decoder) fields(n *yaml.Node, path string, keys []Key, given map[string]bool) {
	d.merge(n, path, keys, given)
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		k, ok := d.find(name, path, keys)
		if !ok {
			continue
		}
		at := join(path, k.Name)
		if first, again := seen[k.Name]; again {
			d.Fail(name.Line, at, fmt.Sprintf("given twice, first in line %d", first), "keep one of the two")
			continue
		}
		seen[k.Name], given[k.Name] = name.Line, true
		d.note(at, name.Line)
		d.Value(value, at, k)
	}
}

// merge decodes what << brings into a mapping, before the mapping's own keys, which go over it.
func (d *Decoder) merge(n *yaml.Node, path string, keys []Key, given map[string]bool) {
	for i := 0; d.Lenient && i+1 < len(n.Content); i += 2 {
		if n.Content[i].Tag != "!!merge" {
			continue
		}
		from := []*yaml.Node{Resolve(n.Content[i+1])}
		if from[0].Kind == yaml.SequenceNode {
			from = from[0].Content
		}
		for _, e := range slices.Backward(from) { // the first of them wins
			if e = Resolve(e); e.Kind != yaml.MappingNode {
				d.Fail(e.Line, path, "<< merges keys and values, not "+describe(e),
					"name an anchor (&name) of a mapping")
				continue
			}
			d.fields(e, path, keys, given)
		}
	}
}

// find returns the key of the table that a name means. It reports a name that is unknown.
func (d *Decoder) find(name *yaml.Node, path string, keys []Key) (Key, bool) {
	if d.Lenient && name.Tag == "!!merge" {
		return Key{}, false
	}
	for _, k := range keys {
		if k.Name == name.Value {
			return k, true
		}
	}
	for _, k := range keys {
		if d.Lenient && strings.EqualFold(k.Name, name.Value) {
			d.Warn(name.Line, "", fmt.Sprintf("key %q is read as %q", name.Value, k.Name))
			return k, true
		}
	}
	do := ""
	if d.UnknownHint != nil {
		do = d.UnknownHint(name.Value)
	}
	d.Fail(name.Line, join(path, name.Value), "unknown key", cmp.Or(do, "known keys here: "+names(keys)))
	return Key{}, false
}

func (d *Decoder) note(path string, line int) {
	if d.Lines == nil {
		d.Lines = map[string]int{}
	}
	d.Lines[path] = line
}

// Value decodes and checks the value of a key.
func (d *Decoder) Value(n *yaml.Node, path string, k Key) {
	n = Resolve(n)
	problems := len(d.Problems)
	d.decode(n, path, k.Value, k.Required)
	if k.Check == nil || len(d.Problems) > problems {
		return
	}
	if err := k.Check(); err != nil {
		d.Fail(n.Line, path, err.Error(), hintOf(err))
	}
}

func (d *Decoder) decode(n *yaml.Node, path string, value any, required bool) {
	switch v := value.(type) {
	case []Key:
		d.Mapping(n, path, v)
		return
	case custom:
		v.DecodeNode(d, n, path)
		return
	case *string:
		d.text(n, path, v, required)
		return
	case *[]string:
		*v = nil
		d.Sequence(n, path, "write it like [one, two]", func(n *yaml.Node, path string) {
			var s string
			d.text(n, path, &s, true)
			*v = append(*v, s)
		})
		return
	}
	if d.Lenient && isNull(n) {
		return
	}
	if wanted, do, ok := scalar(n, value); !ok {
		d.Fail(n.Line, path, wanted+" is wanted here, not "+describe(n), do)
	}
}

// Sequence decodes a list. each decodes one element; hint says how a list is written.
func (d *Decoder) Sequence(n *yaml.Node, path, hint string, each func(n *yaml.Node, path string)) {
	n = Resolve(n)
	if isNull(n) {
		return
	}
	if n.Kind != yaml.SequenceNode {
		d.Fail(n.Line, path, "a list is wanted here, not "+describe(n), hint)
		return
	}
	for i, e := range n.Content {
		e, at := Resolve(e), path+"["+strconv.Itoa(i)+"]"
		d.note(at, e.Line)
		each(e, at)
	}
}

// text decodes a string. Where decoding is strict a number or a true is refused: `hostname: 1e3` is
// more likely a slip than a name. Where it is lenient 1.10 means "1.10".
func (d *Decoder) text(n *yaml.Node, path string, into *string, required bool) {
	switch {
	case d.Lenient && isNull(n):
	case isNull(n), n.Kind == yaml.ScalarNode && n.Value == "":
		if required && !d.Lenient {
			d.Fail(n.Line, path, "it has no value", "write one after the colon")
		}
		*into = ""
	case n.Kind != yaml.ScalarNode, !d.Lenient && n.ShortTag() != "!!str":
		d.Fail(n.Line, path, "a text is wanted here, not "+describe(n),
			"write one value after the colon, in quotes if it looks like a number")
	case d.Lenient:
		*into = strings.TrimSpace(n.Value)
	default:
		*into = n.Value
	}
}

// scalar decodes a value of one of the other types, or returns what is wanted.
func scalar(n *yaml.Node, value any) (wanted, do string, ok bool) {
	one := n.Kind == yaml.ScalarNode
	switch v := value.(type) {
	case *bool:
		b, err := strconv.ParseBool(n.Value)
		*v = b
		return "true or false", "write true or false", one && err == nil && len(n.Value) >= len("true") // and not 1 or t
	case *int:
		i, err := strconv.Atoi(n.Value)
		*v = i
		return "a number", "write digits only, without quotes", one && n.ShortTag() == "!!int" && err == nil
	case *int64:
		i, err := strconv.ParseInt(n.Value, 10, 64)
		*v = i
		return "a number", "write digits only, without quotes", one && err == nil
	case *time.Duration:
		t, err := time.ParseDuration(n.Value)
		*v = t
		return "a duration", "write it like 90s, 5m or 24h", one && err == nil
	case encoding.TextUnmarshaler:
		if !one {
			n = &yaml.Node{}
		}
		if err := v.UnmarshalText([]byte(n.Value)); err != nil {
			return err.Error(), hintOf(err), false
		}
		return "", "", true
	}
	return fmt.Sprintf("a %T", value), "", false
}

func hintOf(err error) string {
	var hinted interface{ Hint() string }
	if errors.As(err, &hinted) {
		return hinted.Hint()
	}
	return ""
}

// Fields returns the table of the struct that to points to. The name of a key is that of
// its field, with a small first letter, unless the field has a tag yaml, which may be - for no key. A slice of structs
// is a list of mappings.
func Fields(to any) []Key {
	v := reflect.ValueOf(to).Elem()
	keys := make([]Key, 0, v.NumField())
	for n := range v.NumField() {
		f, field := v.Field(n), v.Type().Field(n)
		name := nameOf(field)
		if name == "-" {
			continue
		}
		i := len(keys)
		keys = append(keys, Key{Name: name, Value: f.Addr().Interface()})
		switch {
		case f.Kind() == reflect.String:
			keys[i].Value = f.Addr().Convert(reflect.TypeFor[*string]()).Interface()
		case f.Kind() == reflect.Struct:
			keys[i].Value = Fields(keys[i].Value)
		case f.Kind() == reflect.Slice && f.Type().Elem().Kind() == reflect.Struct:
			keys[i].Value = list{f}
		}
	}
	return keys
}

// nameOf returns the key of a field, - for none.
func nameOf(field reflect.StructField) string {
	return cmp.Or(field.Tag.Get("yaml"), strings.ToLower(field.Name[:1])+field.Name[1:])
}

// Write returns the YAML of a struct, with the names that Fields gives its fields. Fields without a
// value are left out.
func Write(from any) *yaml.Node { return write(reflect.ValueOf(from)) }

func write(v reflect.Value) *yaml.Node {
	n := &yaml.Node{}
	switch v.Kind() {
	case reflect.Struct:
		n.Kind = yaml.MappingNode
		for i := range v.NumField() {
			if name := nameOf(v.Type().Field(i)); name != "-" && !v.Field(i).IsZero() {
				n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: name}, write(v.Field(i)))
			}
		}
	case reflect.Slice:
		n.Kind = yaml.SequenceNode
		for i := range v.Len() {
			n.Content = append(n.Content, write(v.Index(i)))
		}
	case reflect.String:
		n.SetString(v.String())
	default:
		n.Kind, n.Value = yaml.ScalarNode, fmt.Sprint(v.Interface())
	}
	return n
}

// list is a slice of structs.
type list struct{ to reflect.Value }

func (l list) DecodeNode(d *Decoder, n *yaml.Node, path string) {
	element := l.to.Type().Elem()
	first := Fields(reflect.New(element).Interface())[0].Name
	l.to.SetZero()
	d.Sequence(n, path, "begin each element with '- "+first+": …'", func(n *yaml.Node, path string) {
		v := reflect.New(element)
		d.Mapping(n, path, Fields(v.Interface()))
		l.to.Set(reflect.Append(l.to, v.Elem()))
	})
}

// Resolve follows aliases.
func Resolve(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

// join returns the path of a key below path.
func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// describe names a value in words.
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

func names(keys []Key) string {
	all := make([]string, len(keys))
	for i, k := range keys {
		all[i] = k.Name
	}
	return strings.Join(all, ", ")
}
