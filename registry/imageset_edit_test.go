package registry_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/client"
)

const emptySet = "kind: ImageSetConfiguration\napiVersion: mirror.openshift.io/v2alpha1\nmirror: {} # nothing yet\n"

func TestEditImageSet(t *testing.T) {
	r := start(t)
	e, err := r.admin.EditImageSet(t.Context(), api.ImageSetEdits{Text: emptySet, Edits: []api.ImageSetEdit{
		{At: "mirror.platform.channels", Add: json.RawMessage(`{"name":"stable-4.18"}`)}, {At: "mirror.platform.graph", Set: json.RawMessage(`true`)}}})
	must(t, err)
	if !strings.Contains(e.Text, "mirror:\n  # nothing yet\n  platform:\n    channels:\n      - name: stable-4.18\n    graph: true\n") || len(e.Problems)+len(e.Warnings) != 0 || e.Fixed != nil {
		t.Errorf("it is %+v", e)
	}
	if !strings.Contains(string(e.Content), `"platform":{"channels":[{"name":"stable-4.18"}],"graph":true}`) {
		t.Errorf("the content is %s", e.Content)
	}
	for _, tc := range []struct {
		text, problem string
		line          int
		fixed         bool
	}{
		{strings.Replace(emptySet, "{}", "{platform: {channels: [{name: a, minVersion: x}]}}", 1), "minVersion", 3, false},
		{strings.Replace(emptySet, "{}", "{colour: red}", 1), "mirror.colour: unknown key", 3, false},
		{"kind: <script>\n", "kind is", 1, false},
		{"kind: [\n", "not valid YAML", 1, true},
		{"", "the file is empty", 0, true},
		{strings.Repeat("#", 300<<10), "more than 256 KiB", 0, true},
		{strings.Replace(emptySet, "v2alpha1", "v1alpha2", 1), "", 0, true},
	} {
		e, err := r.admin.EditImageSet(t.Context(), api.ImageSetEdits{Text: tc.text})
		must(t, err)
		if e.Text != tc.text || (e.Fixed != nil) != tc.fixed || (e.Content == nil) != tc.fixed {
			t.Errorf("%q: %+v", tc.text, e)
		}
		has := func(p api.ImageSetProblem) bool { return strings.Contains(p.Problem, tc.problem) && p.Line == tc.line }
		if tc.problem == "" && len(e.Problems) > 0 || tc.problem != "" && !slices.ContainsFunc(e.Problems, has) {
			t.Errorf("%q: %+v", tc.text, e.Problems)
		}
	}
	_, err = r.admin.EditImageSet(t.Context(), api.ImageSetEdits{Text: emptySet, Edits: []api.ImageSetEdit{{At: "mirror", Add: json.RawMessage(`{}`)}}})
	refused(t, err, "change mirror: line 3 is not a list")
	_, err = r.admin.EditImageSet(t.Context(), api.ImageSetEdits{Text: emptySet, Edits: make([]api.ImageSetEdit, 10_001)})
	refused(t, err, "too many")
}

// refused fails unless err is the answer that a request is wrong, with a text.
func refused(t *testing.T, err error, text string) {
	t.Helper()
	var answer *client.Refused
	if !errors.As(err, &answer) || answer.Status != http.StatusBadRequest || !strings.Contains(err.Error(), text) {
		t.Errorf("it is answered with %v, not with %q", err, text)
	}
}
