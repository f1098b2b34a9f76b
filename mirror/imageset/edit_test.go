package imageset_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/mirror/imageset"
)

const edited = `# What the plant needs.
kind: ImageSetConfiguration
apiVersion: mirror.openshift.io/v2alpha1

mirror:
  # Releases, see the plan of the year.
  platform:
    architectures: [amd64, arm64] # both halls
    channels:
      # Hall 1
      - name: stable-4.18
        minVersion: "4.18.1" # as installed
        maxVersion: 4.18.5

      # Hall 2
      - name: stable-4.17
    graph: true

  operators:
    - catalog: registry.redhat.io/redhat/redhat-operator-index:v4.18
      packages:
        - name: web-terminal
        # needed by the auditors
        - name: compliance-operator
          channels:
            - name: stable # the only one
  # Ours
  additionalImages:
    - name: registry.redhat.io/ubi9/ubi:latest
# The end.
`

func set(at, value string) imageset.Edit { return imageset.Edit{At: at, Set: json.RawMessage(value)} }
func add(at, value string) imageset.Edit { return imageset.Edit{At: at, Add: json.RawMessage(value)} }
func remove(at string) imageset.Edit     { return imageset.Edit{At: at, Remove: true} }

// Each edit changes its lines, and no other byte.
func TestApply(t *testing.T) {
	for name, tc := range map[string]struct {
		edit     imageset.Edit
		from, to string
	}{
		"a value stays quoted":     {set("mirror.platform.channels[0].minVersion", `"4.18.2"`), `"4.18.1" #`, `"4.18.2" #`},
		"a new key":                {set("mirror.platform.channels[1].shortestPath", `true`), "name: stable-4.17\n", "name: stable-4.17\n        shortestPath: true\n"},
		"a key without a value":    {set("mirror.platform.channels[0].maxVersion", `""`), "        maxVersion: 4.18.5\n", ""},
		"a key that is false":      {set("mirror.platform.graph", `false`), "    graph: true\n", ""},
		"a list of texts":          {set("mirror.platform.architectures", `["amd64"]`), "[amd64, arm64]", "[amd64]"},
		"a text like a number":     {set("mirror.platform.channels[0].maxVersion", `"4.18"`), "maxVersion: 4.18.5", `maxVersion: "4.18"`},
		"a channel more":           {add("mirror.platform.channels", `{"name":"stable-4.16","minVersion":"4.16.9"}`), "name: stable-4.17\n", "name: stable-4.17\n      - name: stable-4.16\n        minVersion: 4.16.9\n"},
		"a channel less":           {remove("mirror.platform.channels[1]"), "\n      # Hall 2\n      - name: stable-4.17\n", ""},
		"the first channel less":   {remove("mirror.platform.channels[0]"), "      # Hall 1\n      - name: stable-4.18\n        minVersion: \"4.18.1\" # as installed\n        maxVersion: 4.18.5\n\n", ""},
		"a package more":           {add("mirror.operators[0].packages", `{"name":"nfd"}`), "stable # the only one\n", "stable # the only one\n        - name: nfd\n"},
		"a package less":           {remove("mirror.operators[0].packages[0]"), "        - name: web-terminal\n", ""},
		"the last package":         {remove("mirror.operators[0].packages[1].channels[0]"), "          channels:\n            - name: stable # the only one\n", ""},
		"a catalog more":           {add("mirror.operators", `{"catalog":"quay.io/org/index:v1"}`), "stable # the only one\n", "stable # the only one\n    - catalog: quay.io/org/index:v1\n"},
		"an image more":            {add("mirror.additionalImages", `{"name":"quay.io/a/b:1"}`), "ubi:latest\n", "ubi:latest\n    - name: quay.io/a/b:1\n"},
		"the last image":           {remove("mirror.additionalImages[0]"), "  # Ours\n  additionalImages:\n    - name: registry.redhat.io/ubi9/ubi:latest\n", ""},
		"a section more":           {add("mirror.blockedImages", `{"name":".*debug.*"}`), "ubi:latest\n", "ubi:latest\n  blockedImages:\n    - name: .*debug.*\n"},
		"a chart of a new list":    {add("mirror.helm.repositories", `{"name":"c","url":"https://charts.test","charts":[{"name":"app"}]}`), "ubi:latest\n", "ubi:latest\n  helm:\n    repositories:\n      - name: c\n        url: https://charts.test\n        charts:\n          - name: app\n"},
		"what is not there":        {remove("mirror.helm"), "", ""},
		"the same value":           {set("mirror.platform.channels[0].minVersion", `"4.18.1"`), "", ""},
		"nothing where nothing is": {set("mirror.helm.local", `null`), "", ""},
		"a key in another case":    {set("Mirror.Platform.Graph", `true`), "", ""},
		"the size of archives":     {set("archiveSize", `4`), "# The end.\n", "# The end.\n\narchiveSize: 4\n"},
		"what is hostile":          {set("mirror.additionalImages[0].name", `"a: [b\n# <script>"`), "name: registry.redhat.io/ubi9/ubi:latest\n", "name: |-\n        a: [b\n        # <script>\n"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := imageset.Apply([]byte(edited), []imageset.Edit{tc.edit})
			if err != nil {
				t.Fatal(err)
			}
			want := edited
			if tc.from != "" {
				want = strings.Replace(edited, tc.from, tc.to, 1)
			}
			if string(got) != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// Texts are written in the style that they have.
func TestApply_style(t *testing.T) {
	for name, tc := range map[string]struct {
		edit     imageset.Edit
		from, to string
	}{
		"nothing yet":          {add("mirror.platform.channels", `{"name":"stable-4.18"}`), "mirror: {}\n", "mirror:\n  platform:\n    channels:\n      - name: stable-4.18\n"},
		"a comment behind":     {add("mirror.operators", `{"catalog":"a/b:1"}`), "mirror:\n  operators: [] # none\n", "mirror:\n  operators:\n    # none\n    - catalog: a/b:1\n"},
		"no value":             {set("mirror.platform.graph", `true`), "mirror:\n", "mirror:\n  platform:\n    graph: true\n"},
		"a list in its column": {add("mirror.additionalImages", `{"name":"b/c:1"}`), "mirror:\n  additionalImages:\n  - name: a/b:1\n", "mirror:\n  additionalImages:\n  - name: a/b:1\n  - name: b/c:1\n"},
		"four blanks":          {set("mirror.platform.graph", `true`), "mirror:\n    platform:\n        architectures: [amd64]\n", "mirror:\n    platform:\n        architectures: [amd64]\n        graph: true\n"},
		"in braces":            {add("mirror.additionalImages", `{"name":"b/c:1"}`), "mirror: {additionalImages: [{name: 'a/b:1'}]}\n", "mirror: {additionalImages: [{name: 'a/b:1'}, {name: 'b/c:1'}]}\n"},
		"the last of all":      {remove("mirror.platform.channels[0]"), "mirror:\n  platform:\n    channels:\n    - name: x\n", "mirror: {}\n"},
		"the last of a part":   {remove("mirror.operators[0].packages[0]"), "mirror:\n  operators:\n  - packages: [{name: a}]\n", "mirror:\n  operators:\n  - {}\n"},
		"a block of text":      {set("mirror.platform.graph", `true`), "mirror:\n  samples:\n    - name: |\n        one\n\n        two\n", "mirror:\n  samples:\n    - name: |\n        one\n\n        two\n  platform:\n    graph: true\n"},
		"lines of Windows":     {set("archiveSize", `4`), "mirror: {} # no\r\n\r\n", "mirror: {} # no\narchiveSize: 4\n"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := imageset.Apply([]byte(tc.from), []imageset.Edit{tc.edit})
			if err != nil || string(got) != tc.to {
				t.Errorf("%v, got\n%s\nwant\n%s", err, got, tc.to)
			}
		})
	}
}

// What cannot be changed, or is not a change, is refused with the reason.
func TestApply_refused(t *testing.T) {
	ok := "mirror:\n  platform: {graph: true}\n"
	for name, tc := range map[string]struct {
		text string
		edit imageset.Edit
		want string
	}{
		"no YAML":              {"mirror: [", remove("mirror"), "not valid YAML"},
		"nothing":              {"", remove("mirror"), "the file is empty"},
		"two documents":        {ok + "---\na: 1\n", remove("mirror"), "second YAML document"},
		"a list":               {"- a\n", remove("mirror"), "not keys and values"},
		"an alias":             {"a: &x {b: 1}\nmirror: *x\n", remove("mirror"), "aliases"},
		"what is merged":       {"a: &x {b: 1}\nmirror:\n  <<: *x\n", remove("mirror"), "aliases"},
		"a bomb":               {bomb(), remove("mirror"), "too large"},
		"what contains itself": {"mirror: &x [*x]\n", remove("mirror"), "contains itself"},
		"depth":                {"mirror: " + strings.Repeat("[", 5000) + strings.Repeat("]", 5000), remove("mirror"), "nested deeper"},
		"too much depth":       {"mirror: " + strings.Repeat("[", 50000) + strings.Repeat("]", 50000), remove("mirror"), "not valid YAML"},
		"too much":             {"mirror: " + strings.Repeat("a", imageset.MaxEdited), remove("mirror"), "256 KiB"},
		"no place":             {ok, remove("mirror..platform"), "not the place of a key"},
		"another place":        {ok, remove("mirror.platform[-1]"), "not the place of a key"},
		"an endless place":     {ok, remove("a" + strings.Repeat("[0]", 100)), "not the place of a key"},
		"not a list":           {ok, add("mirror.platform", `{}`), "not a list"},
		"not a mapping":        {ok, set("mirror.platform.graph.x", `"y"`), "written otherwise"},
		"a place beyond":       {"mirror: {operators: [a]}\n", remove("mirror.operators[1]"), "only 1 elements"},
		"no change":            {ok, imageset.Edit{At: "mirror"}, "not one change"},
		"two changes":          {ok, imageset.Edit{At: "mirror", Remove: true, Set: json.RawMessage(`1`)}, "not one change"},
		"no JSON":              {ok, set("mirror.x", `{"a":`), "not JSON"},
		"more than JSON":       {ok, set("mirror.x", `1 2`), "more than one"},
		"deep JSON":            {ok, set("mirror.x", strings.Repeat("[", 5000)+strings.Repeat("]", 5000)), "too deep"},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := imageset.Apply([]byte(tc.text), []imageset.Edit{tc.edit}); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v, got %.200s", err, got)
			}
		})
	}
}

// bomb is a text of a few lines that means billions of nodes.
func bomb() string {
	text := "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
	for i := 1; i < 10; i++ {
		text += fmt.Sprintf("a%d: &a%d [*a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d]\n", i, i, i-1, i-1, i-1, i-1, i-1, i-1, i-1, i-1)
	}
	return text + "mirror: *a9\n"
}

func TestContent(t *testing.T) {
	got, err := imageset.Content([]byte("mirror:\n  platform: {graph: yes, release: 4.10, x: true}\n  helm:\n  operators: [{catalog: <a>}]\n"))
	want := `{"mirror":{"helm":null,"operators":[{"catalog":"\u003ca\u003e"}],"platform":{"graph":"yes","release":"4.10","x":true}}}`
	if err != nil || string(got) != want {
		t.Errorf("%v %s", err, got)
	}
}

// FuzzApply shows that a text after a change means what it meant, but for the change, and that nothing panics.
func FuzzApply(f *testing.F) {
	for _, value := range []string{`"x"`, `true`, `null`, `["a","b"]`, `{"name":"a: b","channels":[{"name":"1.10"}]}`, `"a\nb\n"`, `"\u0085\ufeff #"`} {
		f.Add([]byte(edited), "mirror.platform.channels[0].name", value, uint8(0))
		f.Add([]byte(edited), "mirror.operators[0].packages", value, uint8(1))
		f.Add([]byte("mirror: {operators: [{packages: [a, b]}]} # c\n\n# d\n"), "mirror.operators[0].packages[1]", value, uint8(2))
	}
	f.Fuzz(func(t *testing.T, text []byte, at, value string, what uint8) {
		before, err := imageset.Content(text)
		if err != nil {
			return
		}
		e := []imageset.Edit{set(at, value), add(at, value), remove(at)}[what%3]
		got, err := imageset.Apply(text, []imageset.Edit{e})
		if err != nil {
			return
		}
		after, err := imageset.Content(got)
		if err != nil {
			t.Fatalf("%q is no text: %v", got, err)
		}
		same(t, e, before, after, got)
		if again, err := imageset.Apply(got, []imageset.Edit{set("archiveSize", `7`)}); err == nil {
			if third, err := imageset.Apply(again, []imageset.Edit{set("archiveSize", `7`)}); err != nil || string(third) != string(again) {
				t.Errorf("the same again changes it: %v\n%s\n%s", err, again, third)
			}
		}
	})
}

// same fails unless two contents are the same beside what an edit changes: the first key of its path, and below mirror the second.
func same(t *testing.T, e imageset.Edit, before, after json.RawMessage, text []byte) {
	t.Helper()
	var was, is map[string]any
	if json.Unmarshal(before, &was) != nil || json.Unmarshal(after, &is) != nil {
		t.Fatal("the content is no mapping")
	}
	path := strings.Split(strings.Split(e.At, "[")[0], ".")
	for depth, key := range path {
		for name, value := range was {
			if strings.EqualFold(name, key) {
				continue
			}
			if !reflect.DeepEqual(value, is[name]) {
				t.Errorf("%s of %+v became %v\n%s", name, e, is[name], text)
			}
		}
		if depth+1 == len(path) {
			break
		}
		next := func(m map[string]any) (map[string]any, bool) {
			for name, value := range m {
				if strings.EqualFold(name, key) {
					below, ok := value.(map[string]any)
					return below, ok
				}
			}
			return nil, false
		}
		a, ok := next(was)
		b, also := next(is)
		if !ok || !also {
			break
		}
		was, is = a, b
	}
}
