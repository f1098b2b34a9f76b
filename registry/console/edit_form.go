package console

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// setContent is what the form has of an image set. Its keys are those of the file.
type setContent struct {
	Mirror struct {
		Platform struct {
			Graph, KubeVirtContainer flag
			Release                  value
			Architectures            []value
			Channels                 []setChannel
		}
		Operators        []setCatalog
		AdditionalImages []struct{ Name, TargetRepo, TargetTag value }
		Helm             struct {
			Repositories []struct {
				Name, URL value
				Charts    []setChart
			}
			Local []setChart
		}
		BlockedImages []struct{ Name value }
	}
}

type setChannel struct {
	Name, Type, MinVersion, MaxVersion value
	ShortestPath, Full                 flag

	Versions []string        `json:"-"` // to choose from, the newest first
	Chosen   *chosenVersions `json:"-"` // nil: its drawing is closed
}

type setCatalog struct {
	Catalog, TargetCatalog, TargetTag value
	Full                              flag
	Packages                          []setPackage

	Found *foundPackages `json:"-"`
}

// Search returns what was searched for in the catalog.
func (c setCatalog) Search() string {
	if c.Found == nil {
		return ""
	}
	return c.Found.Search
}

type setPackage struct {
	Name, MinVersion, MaxVersion, DefaultChannel value
	Channels                                     []setChannel
}

type setChart struct{ Name, Version, Path value }

// value is a text; what is written as true is one too.
type value string

// UnmarshalJSON implements json.Unmarshaler.
func (v *value) UnmarshalJSON(data []byte) error {
	switch string(data) {
	case "null":
		return nil
	case "true", "false":
		*v = value(data)
		return nil
	}
	return json.Unmarshal(data, (*string)(v))
}

// flag is true or not; a text is what the grammar refuses, and not true.
type flag bool

// UnmarshalJSON implements json.Unmarshaler.
func (f *flag) UnmarshalJSON(data []byte) error {
	*f = string(data) == "true"
	return nil
}

// Architectures lists those that releases have, each with whether the image set has it.
func (s setContent) Architectures() (all []checked) {
	for _, name := range []string{"amd64", "arm64", "ppc64le", "s390x", "multi"} {
		all = append(all, checked{name, slices.Contains(s.Mirror.Platform.Architectures, value(name))})
	}
	for _, name := range s.Mirror.Platform.Architectures {
		if !slices.ContainsFunc(all, func(c checked) bool { return c.Name == string(name) }) {
			all = append(all, checked{string(name), true})
		}
	}
	return all
}

// checked is one choice of several.
type checked struct {
	Name string
	Is   bool
}

// The names of fields in the form of the editor begin with what they are; the rest is a place in the image
// set. A field that a form can leave out, since nothing in it is checked, is named by a second one.
const (
	fieldText = "at:"   // a text
	fieldFlag = "flag:" // names a check box, which is on:PLACE
	fieldOn   = "on:"
	fieldList = "list:" // several texts, and an empty one
	fieldNew  = "new:"  // PLACE:KEY, of an element that a list gets unless all of its fields are empty
)

// editsOf returns what a form changes. Fields that are as they were change nothing.
func editsOf(form url.Values) (edits []api.ImageSetEdit) {
	added := map[string]map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(form)) {
		text := strings.TrimSpace(form.Get(name))
		if at, ok := strings.CutPrefix(name, fieldText); ok {
			edits = append(edits, api.ImageSetEdit{At: at, Set: jsonOf(text)})
		}
		if at, ok := strings.CutPrefix(name, fieldFlag); ok {
			edits = append(edits, api.ImageSetEdit{At: at, Set: jsonOf(form.Get(fieldOn+at) != "")})
		}
		if at, ok := strings.CutPrefix(name, fieldList); ok {
			edits = append(edits, api.ImageSetEdit{At: at, Set: listOf(form[name])})
		}
		if rest, ok := strings.CutPrefix(name, fieldNew); ok && text != "" {
			at, key, _ := strings.Cut(rest, ":")
			if added[at] == nil {
				added[at] = map[string]string{}
			}
			added[at][key] = text
		}
	}
	for _, at := range slices.Sorted(maps.Keys(added)) {
		edits = append(edits, api.ImageSetEdit{At: at, Add: elementOf(added[at])})
	}
	return edits
}

func jsonOf(v any) json.RawMessage {
	data, err := json.Marshal(v)
	if err != nil { // never of a text
		return json.RawMessage("null")
	}
	return data
}

// listOf returns what is not empty as a list, or null if all is.
func listOf(texts []string) json.RawMessage {
	texts = slices.DeleteFunc(slices.Clone(texts), func(s string) bool { return s == "" })
	if len(texts) == 0 {
		return json.RawMessage("null")
	}
	return jsonOf(texts)
}

// elementOf returns a new element with its keys in the order in which people write them. A package with a
// channel has its versions there.
func elementOf(fields map[string]string) json.RawMessage {
	object := func(keys ...string) json.RawMessage {
		var parts [][]byte
		for _, key := range keys {
			if fields[key] != "" {
				parts = append(parts, fmt.Appendf(nil, "%s:%s", jsonOf(key), jsonOf(fields[key])))
			}
		}
		return slices.Concat([]byte("{"), bytes.Join(parts, []byte(",")), []byte("}"))
	}
	versions := []string{"minVersion", "maxVersion"}
	if fields["channel"] == "" {
		return object(append([]string{"catalog", "name", "url", "version", "targetRepo", "targetTag"}, versions...)...)
	}
	name := fields["name"]
	fields["name"] = fields["channel"]
	channel := object(append([]string{"name"}, versions...)...)
	return fmt.Appendf(nil, `{"name":%s,"channels":[%s]}`, jsonOf(name), channel)
}
