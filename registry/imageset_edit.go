package registry

import (
	"fmt"

	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/registry/admin"
	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// maxEdits bounds the changes of one request: each field of the form of a large image set is one.
const maxEdits = 10_000

// Edit implements admin.Mirrors. A text of version 1 has keys of another grammar, and is changed by hand.
func (m mirrors) Edit(q api.ImageSetEdits) (api.EditedImageSet, error) {
	if len(q.Edits) > maxEdits {
		return api.EditedImageSet{}, admin.BadImageSet(fmt.Errorf("%d changes are too many for one request", len(q.Edits)))
	}
	var edits []imageset.Edit
	for _, e := range q.Edits {
		edits = append(edits, imageset.Edit{At: e.At, Set: e.Set, Add: e.Add, Remove: e.Remove})
	}
	text := []byte(q.Text)
	if len(edits) > 0 {
		changed, err := imageset.Apply(text, edits)
		if err != nil {
			return api.EditedImageSet{}, admin.BadImageSet(err)
		}
		text = changed
	}
	a := api.EditedImageSet{Text: string(text), Problems: []api.ImageSetProblem{}, Warnings: []string{}}
	content, err := imageset.Content(text)
	if a.Content = content; err != nil {
		a.Fixed = troubleOf(err)
		if len(text) > imageset.MaxEdited {
			a.Problems = problemsOf(err)
			return a, nil
		}
	}
	set, err := imageset.ParseEither("image set", text)
	if err == nil {
		err = mirror.CheckStorage(set)
	}
	if err != nil {
		a.Problems = problemsOf(err)
		return a, nil
	}
	if set.V1 {
		a.Content, a.Fixed = nil, &api.Trouble{Problem: "the image set is one of oc-mirror v1, whose keys have no form here",
			Hint: "change the text itself, or write it anew as mirror.openshift.io/v2alpha1"}
	}
	a.Warnings = append(a.Warnings, set.Warnings...)
	return a, nil
}

// problemsOf returns what is wrong by an error of an image set.
func problemsOf(err error) []api.ImageSetProblem {
	all := []api.ImageSetProblem{}
	for _, p := range imageset.Problems(err) {
		all = append(all, api.ImageSetProblem{Line: p.Line, Problem: p.Text(), Hint: p.Hint})
	}
	if len(all) == 0 {
		t := troubleOf(err)
		all = append(all, api.ImageSetProblem{Problem: t.Problem, Hint: t.Hint})
	}
	return all
}
