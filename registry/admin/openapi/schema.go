package openapi

import (
	"encoding"
	"encoding/json"
	"fmt"
	"path"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// schemas are the types of the calls. Each struct with a name is a component.
type schemas struct {
	texts      map[string]typeLegend
	components map[string]*jsonschema.Schema
	known      map[reflect.Type]*jsonschema.Schema // how a type is written where it is used
}

func newSchemas(texts map[string]typeLegend, calls []Call) (*schemas, error) {
	s := &schemas{texts: texts, components: map[string]*jsonschema.Schema{}, known: map[reflect.Type]*jsonschema.Schema{
		reflect.TypeFor[time.Time]():       {Type: "string", Format: "date-time"},
		reflect.TypeFor[json.RawMessage](): {Description: "any JSON"},
		reflect.TypeFor[[]byte]():          {Type: "string", ContentEncoding: "base64"},
		reflect.TypeFor[api.Duration]():    {Type: "string", Description: "a duration such as 1h30m0s"},
	}}
	var structs []reflect.Type
	requests := map[reflect.Type]bool{}
	for _, c := range calls {
		s.collect(c.Request, &structs, requests)
	}
	s.collect(reflect.TypeFor[api.Refusal](), &structs, nil)
	for _, c := range calls {
		s.collect(c.Answer, &structs, nil)
		if c.Progress != nil {
			s.collect(c.Progress, &structs, nil)
		}
	}
	for _, t := range structs {
		made, err := s.component(t)
		if err != nil {
			return nil, err
		}
		if !requests[t] {
			made.AdditionalProperties = nil // a later version may tell more
		}
		s.components[componentName(t)] = made
	}
	return s, nil
}

// collect finds the structs below a type, each once. It notes them in seen, if that is not nil.
func (s *schemas) collect(t reflect.Type, found *[]reflect.Type, seen map[reflect.Type]bool) {
	if t == reflect.TypeFor[api.None]() {
		return
	}
	if s.known[t] != nil && s.known[t].Ref == "" {
		return
	}
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array:
		s.collect(t.Elem(), found, seen)
	case reflect.Map:
		s.collect(t.Elem(), found, seen)
	case reflect.Struct:
		if seen != nil {
			if seen[t] {
				return
			}
			seen[t] = true
		}
		if s.known[t] == nil {
			s.known[t] = &jsonschema.Schema{Ref: "#/components/schemas/" + componentName(t)}
			*found = append(*found, t)
		} else if seen == nil {
			return
		}
		for _, f := range reflect.VisibleFields(t) {
			if f.IsExported() && f.Tag.Get("json") != "-" {
				s.collect(f.Type, found, seen)
			}
		}
	default:
		if t.Implements(reflect.TypeFor[encoding.TextMarshaler]()) {
			s.known[t] = &jsonschema.Schema{Type: "string"}
		}
	}
}

// componentName returns the name of a struct: that of another package than api has the package's before it.
func componentName(t reflect.Type) string {
	if t.PkgPath() == reflect.TypeFor[api.Refusal]().PkgPath() {
		return t.Name()
	}
	pkg := path.Base(t.PkgPath())
	return strings.ToUpper(pkg[:1]) + pkg[1:] + t.Name()
}

// component returns the schema of a struct, whose fields refer to others.
func (s *schemas) component(t reflect.Type) (*jsonschema.Schema, error) {
	others := map[reflect.Type]*jsonschema.Schema{}
	for other, schema := range s.known {
		if other != t {
			others[other] = schema
		}
	}
	fields := reflect.VisibleFields(t)
	for _, f := range fields {
		if f.Anonymous {
			delete(others, f.Type) // its fields are those of t
		}
	}
	made, err := jsonschema.ForType(t, &jsonschema.ForOptions{TypeSchemas: others})
	if err != nil {
		return nil, fmt.Errorf("describe %s: %w", t, err)
	}
	made.Description = s.texts[t.String()].Text
	for _, f := range fields {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		property := made.Properties[name]
		if f.Anonymous || property == nil {
			continue
		}
		owner, optional := owner(t, f.Index)
		if optional {
			made.Required = slices.DeleteFunc(made.Required, func(r string) bool { return r == name })
		}
		withoutNull(property, slices.Contains(made.Required, name))
		if text := s.texts[owner.String()].Fields[f.Name]; text != "" {
			property.Description = text
		}
	}
	return made, nil
}

// owner returns the struct that has a field of t, and whether it is absent where a pointer to it is nil.
func owner(t reflect.Type, index []int) (in reflect.Type, optional bool) {
	for _, i := range index[:len(index)-1] {
		t = t.Field(i).Type
		if t.Kind() == reflect.Pointer {
			t, optional = t.Elem(), true
		}
	}
	return t, optional
}

// withoutNull removes null from the types of a property which is left out instead, and of a reference,
// for which it would allow nothing else.
func withoutNull(s *jsonschema.Schema, required bool) {
	if s == nil {
		return
	}
	if !required || s.Ref != "" {
		s.Types = slices.DeleteFunc(s.Types, func(t string) bool { return t == "null" })
		switch len(s.Types) {
		case 0:
			s.Types = nil
		case 1:
			s.Type, s.Types = s.Types[0], nil
		}
	}
	withoutNull(s.Items, true)
	withoutNull(s.AdditionalProperties, true)
}

// of returns the schema of a type where it is used.
func (s *schemas) of(t reflect.Type) *jsonschema.Schema {
	if known := s.known[t]; known != nil {
		return known.CloneSchemas()
	}
	made, err := jsonschema.ForType(t, &jsonschema.ForOptions{TypeSchemas: s.known})
	if err != nil { // TestDocument has each type
		return &jsonschema.Schema{Description: err.Error()}
	}
	return made
}

// line returns the schema of a line of a job.
func (s *schemas) line(c Call) *jsonschema.Schema {
	one := func(name string, value *jsonschema.Schema) *jsonschema.Schema {
		return &jsonschema.Schema{Type: "object", Required: []string{name}, Properties: map[string]*jsonschema.Schema{name: value}}
	}
	result := &jsonschema.Schema{Type: "object"}
	if c.Answer != reflect.TypeFor[api.None]() {
		result = s.of(c.Answer)
	}
	failed := s.of(reflect.TypeFor[api.Refusal]())
	failed = &jsonschema.Schema{AllOf: []*jsonschema.Schema{failed, one("status", &jsonschema.Schema{Type: "integer",
		Description: "that the answer would have had if it had not begun"})}}
	return &jsonschema.Schema{OneOf: []*jsonschema.Schema{one("progress", s.of(c.Progress)), one("result", result), failed}}
}
