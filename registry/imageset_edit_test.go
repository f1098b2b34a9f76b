package registry_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

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

// A text is planned without being in place, and leaves nothing behind.
func TestDraft(t *testing.T) {
	source := newSample(t)
	r, file := startWithSet(t, source, "samples/docker:v1")
	if p, err := r.admin.DraftPlan(t.Context()); err != nil || p.Last != nil || p.Running != nil {
		t.Fatalf("before: %+v %v", p, err)
	}
	text := strings.Replace(emptySet, "{}", "{additionalImages: [{name: '"+source+"/samples/oci:v1'}, {name: '"+source+"/samples/absent:v1'}]}", 1)
	long := text + strings.Repeat("# comment\n", 20_000)
	for _, q := range []api.DraftRequest{{Text: text}, {Text: long, ImageSet: file}} {
		p, err := r.admin.PlanDraft(t.Context(), q, nil)
		must(t, err)
		if p.Size.Images != 1 || p.Size.Missing == 0 || p.Failed != 1 || p.Drift.Sums.Missing != 1 || p.Drift.Missing[0].Destination != "samples/oci:v1" {
			t.Errorf("the plan is %+v", p)
		}
		if last, err := r.admin.DraftPlan(t.Context()); err != nil || last.Last == nil || last.Text != digest.FromString(q.Text) || last.Running != nil {
			t.Errorf("the last plan is %+v %v", last, err)
		}
	}
	must(t, r.admin.BeginDraft(t.Context(), api.DraftRequest{Text: text}))
	until(t, "the plan", func() bool {
		p, err := r.admin.DraftPlan(t.Context())
		return err == nil && p.Running == nil && p.Text == digest.FromString(text)
	})
	must(t, r.admin.StopDraft(t.Context())) // it has ended already
	if _, err := os.Stat(r.cfg.Database + ".draft"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory of the plans: %v", err)
	}
	if s := r.mirrorOf(t, file); s.Last != nil {
		t.Errorf("a plan was taken for a run: %+v", s.Last)
	}
	_, err := r.admin.PlanDraft(t.Context(), api.DraftRequest{Text: "kind: x\n"}, nil)
	refused(t, err, "kind is")
	_, err = r.admin.PlanDraft(t.Context(), api.DraftRequest{Text: text, ImageSet: "/etc/passwd"}, nil)
	refused(t, err, "names no image set")
}

// A user of the console does not read files of the host by a plan, unless root has put their names in place.
func TestDraft_pathsOfTheHost(t *testing.T) {
	r, file := startWithSet(t, newSample(t), "samples/docker:v1")
	for _, mirror := range []string{"{additionalImages: [{name: 'oci:///etc'}]}", "{operators: [{catalog: 'dir:///etc'}]}", "{operators: [{catalog: 'oci:///etc'}]}", "{helm: {local: [{name: a, path: /etc/passwd}]}}",
		"{operators: [{catalog: 'quay.io/a/b:v1', targetCatalogSourceTemplate: /etc/passwd}]}"} {
		text := strings.Replace(emptySet, "{}", mirror, 1)
		for _, of := range []string{"", file} {
			_, err := r.admin.PlanDraft(t.Context(), api.DraftRequest{Text: text, ImageSet: of}, nil)
			refused(t, err, "is a path of the host")
		}
	}
	text := strings.Replace(emptySet, "{}", "{additionalImages: [{name: 'oci:///none'}]}", 1)
	must(t, os.WriteFile(file, []byte(text), 0o600))
	if p, err := r.admin.PlanDraft(t.Context(), api.DraftRequest{Text: text, ImageSet: file}, nil); err != nil || p.Failed != 1 {
		t.Errorf("what is in place: %+v %v", p, err)
	}
}
