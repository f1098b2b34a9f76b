package yamlkeys_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/mirror-appliance/appliance/internal/yamlkeys"
)

type document struct {
	name  string
	every time.Duration
	on    bool
	count int64
	words []string
	parts parts
}

type (
	parts []part
	part  struct{ name string }
)

func (p *parts) DecodeNode(d *yamlkeys.Decoder, n *yaml.Node, path string) {
	d.Sequence(n, path, "begin each part with '- name: …'", func(n *yaml.Node, path string) {
		var v part
		d.Mapping(n, path, []yamlkeys.Key{{Name: "name", Value: &v.name, Required: true}})
		*p = append(*p, v)
	})
}

func (d *document) keys() []yamlkeys.Key {
	return []yamlkeys.Key{
		{Name: "name", Value: &d.name, Required: true},
		{Name: "every", Value: &d.every},
		{Name: "on", Value: &d.on},
		{Name: "count", Value: &d.count},
		{Name: "words", Value: &d.words},
		{Name: "parts", Value: &d.parts},
	}
}

func decode(text string, lenient bool) (document, yamlkeys.Decoder) {
	d := yamlkeys.Decoder{Lenient: lenient}
	var got document
	if root := d.Document([]byte(text), "write one"); root != nil {
		d.Mapping(root, "", got.keys())
	}
	return got, d
}

func told(problems []yamlkeys.Problem) string {
	var all []string
	for _, p := range problems {
		all = append(all, fmt.Sprintf("%d: %s", p.Line, p.Text()))
	}
	return strings.Join(all, "\n")
}

func TestDecoder_all(t *testing.T) {
	got, d := decode("name: a\nevery: 5m\non: true\ncount: 3\nwords: [a, b]\nparts:\n- name: p\n- &q {name: q}\n- *q\n", false)
	if len(d.Problems) > 0 || fmt.Sprint(got) != "{a 300000000000 true 3 [a b] [{p} {q} {q}]}" {
		t.Errorf("%v, %s", got, told(d.Problems))
	}
	if d.LineOf("parts[1].name") != 8 || d.LineOf("parts[0].nowhere") != 7 || d.LineOf("nowhere") != 0 {
		t.Errorf("lines %v", d.Lines)
	}
}

// One mistake does not hide another.
func TestDecoder_problems(t *testing.T) {
	_, d := decode("every: often\non: maybe\ncount: [1]\nwords: a\nparts:\n- nam: p\n- 7\nevery: 1m\n", false)
	want := `1: every: a duration is wanted here, not "often"
2: on: true or false is wanted here, not "maybe"
3: count: a number is wanted here, not a list
4: words: a list is wanted here, not "a"
6: parts[0].nam: unknown key
6: parts[0].name: missing
7: parts[1]: keys and values are wanted here, not "7"
8: every: given twice, first in line 1
1: name: missing`
	if got := told(d.Problems); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	for _, p := range d.Problems {
		if p.Hint == "" {
			t.Errorf("%s has no hint", p.Text())
		}
	}
}

// Strict decoding refuses what may be a slip; lenient decoding reads it as Kubernetes does.
func TestDecoder_lenient(t *testing.T) {
	for text, want := range map[string]document{
		"Name: a\n":                        {name: "a"},
		"name: 1.10\n":                     {name: "1.10"},
		"name: a\non: True\ncount:\n":      {name: "a", on: true},
		"<<: {name: b, on: true}\nname: a": {name: "a", on: true},
		"<<: [{name: a}, {name: b}]":       {name: "a"},
		"name: a\n---\nx: y\n":             {name: "a"},
	} {
		if got, d := decode(text, true); len(d.Problems) > 0 || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%q: %v, %s", text, got, told(d.Problems))
		}
		if !strings.Contains(text, "True") {
			if _, d := decode(text, false); len(d.Problems) == 0 {
				t.Errorf("%q is accepted strictly", text)
			}
		}
	}
}

func TestDecoder_Document(t *testing.T) {
	bomb := "a0: &a0 x\n"
	for i := 1; i < 30; i++ {
		bomb += fmt.Sprintf("a%d: &a%d [*a%d, *a%d]\n", i, i, i-1, i-1)
	}
	for text, want := range map[string]string{
		"":                       "0: the file is empty",
		"\xef\xbb\xbfname: a\n":  "1: the file begins with a byte order mark",
		"\xff\xfen\x00":          "1: the file is UTF-16",
		"name: a\n b: c\n":       "2: not valid YAML",
		"name: a\n---\nname: b":  "2: a second YAML document",
		bomb:                     "0: not valid YAML: its aliases",
		"name: &a\n  name: *a\n": "1: not valid YAML: what is called &a there contains itself",
	} {
		if _, d := decode(text, false); !strings.HasPrefix(told(d.Problems), want) {
			t.Errorf("%.30q: %s, want %s", text, told(d.Problems), want)
		}
	}
}

// TestFields_ofAStruct decodes by the names, kinds and tags of fields.
func TestFields_ofAStruct(t *testing.T) {
	type word string
	type inner struct {
		MinVersion string
		OS         word `yaml:"os"`
	}
	var got struct {
		Full  bool
		Size  int64
		Words []string
		One   inner
		Many  []inner
	}
	d := yamlkeys.Decoder{}
	text := "full: true\nsize: 3\nwords: [a]\none: {minVersion: x, os: y}\nmany: [{os: z}, {}]\n"
	d.Mapping(d.Document([]byte(text), ""), "", yamlkeys.Fields(&got))
	if len(d.Problems) > 0 || fmt.Sprint(got) != "{true 3 [a] {x y} [{ z} { }]}" {
		t.Errorf("%v, %s", got, told(d.Problems))
	}
	d.Mapping(d.Document([]byte("many: {}\nbig: 1\n"), ""), "", yamlkeys.Fields(&got))
	want := "1: many: a list is wanted here, not keys and values\n2: big: unknown key"
	if told(d.Problems) != want || d.Problems[0].Hint != "begin each element with '- minVersion: …'" ||
		d.Problems[1].Hint != "known keys here: full, size, words, one, many" {
		t.Errorf("%+v", d.Problems)
	}
}

// TestWrite_isReadBack writes texts that are not texts in YAML without quotes, and leaves out what is empty.
func TestWrite_isReadBack(t *testing.T) {
	type inner struct {
		MinVersion string
		OS         string `yaml:"os"`
		Kept       string `yaml:"-"`
	}
	type outer struct {
		Full  bool
		Size  int64
		Words []string
		One   inner
		Many  []inner
		None  []inner
	}
	want := outer{true, 3, []string{"true", "4.18", "a: b", "*x"}, inner{"~", "#", ""}, []inner{{OS: "z"}, {}}, nil}
	from := want
	from.One.Kept = "x"
	text, err := yaml.Marshal(yamlkeys.Write(from))
	if err != nil || strings.Contains(string(text), "none") {
		t.Fatalf("%v\n%s", err, text)
	}
	var got outer
	d := yamlkeys.Decoder{}
	d.Mapping(d.Document(text, ""), "", yamlkeys.Fields(&got))
	if len(d.Problems) > 0 || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %s of\n%s", got, told(d.Problems), text)
	}
}
