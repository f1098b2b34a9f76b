package console

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"mime"
	"net/http"
	"path"
	"slices"
	"strings"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

const editPath = "/sync/edit"

// emptySet is what the editor begins with.
const emptySet = "kind: ImageSetConfiguration\napiVersion: mirror.openshift.io/v2alpha1\nmirror: {}\n"

// editPage is the editor of an image set: its parts and its text, of which the browser has all.
type editPage struct {
	CSRF, File, Address string
	api.EditedImageSet
	Set      setContent // the content
	HasForm  bool
	Shown    string // of which text the form was made
	Error    *problem
	Notice   string
	Problems []editProblem // in the place of those of EditedImageSet
	Without  bool          // logins were left out of the text
	Planned  *draftPlan    // nil: none is shown
}

// editProblem is what is wrong, with the line that has it.
type editProblem struct {
	api.ImageSetProblem
	Source string
}

// draftPlan is the last plan of a text.
type draftPlan struct {
	planned
	Of    string // the text of the page
	Other bool   // it is of another one
}

// Name returns the name of the file to download.
func (p editPage) Name() string {
	if p.File != "" {
		return path.Base(p.File)
	}
	return "image-set.yaml"
}

// Rows returns how high the text is shown.
func (p editPage) Rows() int { return min(60, max(20, strings.Count(p.Text, "\n")+2)) }

func (v *visit) editSet() error {
	text := emptySet
	if v.file() != "" {
		if _, err := v.imageSet(); err != nil {
			return err
		}
		f, err := v.c.api.ImageSet(v.r.Context(), v.file())
		if err != nil {
			return err
		}
		text = f.Text
	}
	p, err := v.edited(text, nil)
	if err == nil {
		err = v.choose(&p, "", "")
	}
	if err != nil {
		return err
	}
	return v.showEditor(p)
}

// changeSet answers a button of the editor, or its text when that has changed.
func (v *visit) changeSet() error {
	text := strings.ReplaceAll(v.r.PostForm.Get("text"), "\r\n", "\n")
	do, at, _ := strings.Cut(v.field("do"), " ")
	var edits []api.ImageSetEdit
	if slices.Contains([]string{"apply", "remove", "pick", "from", "to", "minor", "versions"}, do) {
		edits = editsOf(v.r.PostForm)
	}
	if do == "remove" {
		edits = append(edits, api.ImageSetEdit{At: at, Remove: true})
	}
	if do == "pick" {
		edits = append(edits, picked(at)...)
	}
	if do == "from" || do == "to" {
		edits = append(edits, v.chosen(do, at)...)
	}
	stale := len(edits) > 0 && v.field("shown") != digestOf(text)
	if stale {
		edits = nil
	}
	p, err := v.edited(text, edits)
	if statusOf(err) == http.StatusBadRequest && edits != nil {
		refused := problemOf(err)
		p, err = v.edited(text, nil)
		p.Error = &refused
	}
	switch {
	case err != nil:
		return err
	case do == "download":
		return v.download(p.Name(), []byte(p.Text))
	case stale:
		p.Notice = v.c.views.text("edit.stale")
	}
	if err := v.planText(do, &p); err != nil {
		return err
	}
	if err := v.choose(&p, do, at); err != nil {
		return err
	}
	return v.showEditor(p)
}

// planText begins or ends the plan of the text, and shows it on the page once it was asked for.
func (v *visit) planText(do string, p *editPage) (err error) {
	switch {
	case do == "stop":
		err = v.c.api.StopDraft(v.r.Context())
	case do == "plan" && len(p.Problems) > 0:
		p.Notice = v.c.views.text("edit.plan.wrong")
	case do == "plan":
		err = v.c.api.BeginDraft(v.r.Context(), api.DraftRequest{Text: p.Text, ImageSet: p.File})
	}
	if err != nil {
		refused := problemOf(err)
		p.Error = &refused
	}
	if do == "plan" || do == "stop" || v.field("planned") != "" {
		p.Planned, err = v.draftPlan(p.Shown)
		return err
	}
	return nil
}

// draftPlan returns the last plan of a text.
func (v *visit) draftPlan(of string) (*draftPlan, error) {
	state, err := v.c.api.DraftPlan(v.r.Context())
	other := !strings.HasPrefix(string(state.Text), "sha256:"+of)
	return &draftPlan{planned{state.MirrorPlanState}, of, other && state.Running == nil}, err
}

func (v *visit) draftLive() error {
	return v.live("sync-edit", "draft", func() (any, error) { return v.draftPlan(v.r.FormValue("of")) })
}

// download sends a file for a browser to save.
func (v *visit) download(name string, data []byte) error {
	v.w.Header().Set("Content-Type", "application/octet-stream")
	v.w.Header().Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": name}))
	v.w.WriteHeader(http.StatusOK)
	_, _ = v.w.Write(data) // the client notices an error
	return nil
}

func (v *visit) showEditor(p editPage) error {
	title := "edit.title"
	if p.File != "" {
		title = v.c.views.text("edit.of", p.Name())
	}
	return v.show("sync-edit", "sync", title, p)
}

// edited returns the page of a text after changes.
func (v *visit) edited(text string, edits []api.ImageSetEdit) (editPage, error) {
	p := editPage{CSRF: v.session.CSRF, File: v.file(), Address: v.c.Address}
	var err error
	if p.EditedImageSet, err = v.c.api.EditImageSet(v.r.Context(), api.ImageSetEdits{Text: text, Edits: edits}); err != nil {
		return p, err
	}
	p.Shown, p.Without = digestOf(p.Text), strings.Contains(p.Text, "…")
	lines := strings.Split(p.Text, "\n")
	for _, one := range p.EditedImageSet.Problems {
		e := editProblem{ImageSetProblem: one}
		if one.Line > 0 && one.Line <= len(lines) {
			e.Source = lines[one.Line-1]
		}
		p.Problems = append(p.Problems, e)
	}
	p.HasForm = p.Content != nil && json.Unmarshal(p.Content, &p.Set) == nil
	return p, nil
}

// digestOf tells texts apart.
func digestOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:8])
}
