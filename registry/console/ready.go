package console

import (
	"errors"
	"io"
	"net/http"
	"regexp"
	"strings"

	"github.com/mirror-appliance/appliance/cluster/state"
	"github.com/mirror-appliance/appliance/registry/admin/api"
)

const readyPath = updatesPath + "/ready"

// shownReasons is how many reasons with one code a page has.
const shownReasons = 10

// readyPage asks for a verdict, and has the last one.
type readyPage struct {
	Asked    api.ReadyAsked // in the form
	Archs    []string       // choices
	Versions []string       // that are here, the newest first
	Error    *problem       // of the form
	Export   string
	Now      readyNow
}

// readyNow is the last verdict, and the one that is being made.
type readyNow struct {
	CSRF string
	api.ReadyState
}

// nodeArchs are the choices of architectures of nodes, as ready takes them.
func nodeArchs() []string { return []string{"amd64", "arm64", "ppc64le", "s390x", "multi"} }

func (v *visit) ready() error {
	q := v.r.URL.Query()
	if len(q) == 0 {
		return v.showReady(http.StatusOK, nil, nil)
	}
	return v.showReady(http.StatusOK, &api.ReadyAsked{To: q.Get("to"), From: q.Get("from"), Channel: q.Get("channel"),
		Architectures: q["arch"], Content: q.Get("content") != ""}, nil)
}

// showReady shows a form that is filled with what was asked or, if that is nil, what the newest verdict is about.
func (v *visit) showReady(status int, asked *api.ReadyAsked, failed *problem) error {
	now, err := v.readyNow()
	if err != nil {
		return err
	}
	if asked == nil {
		asked = &api.ReadyAsked{}
		switch {
		case now.Running != nil:
			asked = &now.Running.Asked
		case now.Last != nil:
			asked = &now.Last.Asked
		}
	}
	u, err := v.c.api.Updates(v.r.Context(), api.UpdatesRequest{})
	if err != nil {
		return err
	}
	p := readyPage{Asked: *asked, Archs: nodeArchs(), Error: failed, Now: now, Export: state.Export + " > cluster.json\n" + state.Extensions + " >> cluster.json"}
	for i := range u.Releases { // they are sorted
		if r := u.Releases[len(u.Releases)-1-i].Version; len(p.Versions) == 0 || p.Versions[len(p.Versions)-1] != r {
			p.Versions = append(p.Versions, r)
		}
	}
	return v.write(status, "updates-ready", "updates", "updates.ready", p)
}

func (v *visit) readyNow() (readyNow, error) {
	now, err := v.c.api.ReadyState(v.r.Context())
	return readyNow{v.session.CSRF, now}, err
}

func (v *visit) readyLive() error {
	return v.live("updates-ready", "verdict", func() (any, error) { return v.readyNow() })
}

// beginReady asks for a verdict. Of the file of a cluster no more than its facts goes on.
func (v *visit) beginReady() error {
	asked := api.ReadyAsked{To: v.field("to"), From: v.field("from"), Channel: v.field("channel"),
		Architectures: v.r.PostForm["arch"], Content: v.field("content") != ""}
	q := api.ReadyRequest{To: asked.To, From: asked.From, Channel: asked.Channel, Architectures: asked.Architectures, Content: asked.Content,
		Keys: []byte(v.field("keys"))}
	var err error
	if v.upload != nil {
		q.Cluster, err = v.facts()
	}
	if err == nil {
		err = v.c.api.BeginReady(v.r.Context(), q)
	}
	if err == nil {
		return v.done(readyPath, v.c.views.text("updates.ready.began"))
	}
	failed := problemOf(err)
	status := statusOf(err)
	if v.upload != nil && status == http.StatusInternalServerError {
		status = http.StatusBadRequest
	}
	return v.showReady(status, &asked, &failed)
}

// facts reads the file of a cluster.
func (v *visit) facts() (*state.Facts, error) {
	f, err := state.Read(v.upload)
	if errors.As(err, new(*http.MaxBytesError)) {
		return nil, v.refusal(http.StatusRequestEntityTooLarge, "updates.ready.large")
	}
	if err != nil {
		_, _ = io.Copy(io.Discard, v.upload) // a browser reads the answer once it has sent all
	}
	return f, err
}

func (v *visit) stopReady() error {
	return v.begun(readyPath, "updates.ready.stopped", v.c.api.StopReady(v.r.Context()))
}

// readyImageSet shows or sends the image set of what the last verdict lacks.
func (v *visit) readyImageSet() error {
	set, err := v.c.api.ReadyImageSet(v.r.Context())
	if err != nil {
		return err
	}
	if v.r.FormValue("download") != "" {
		return v.send("missing.yaml", set.Text)
	}
	return v.show("updates-ready-set", "updates", "updates.ready.set", set)
}

// reasons are those of a verdict that have one code.
type reasons struct {
	Code  string
	Shown []api.Reason
	More  int
}

// byCode returns reasons by their codes, in the order of the verdict.
func byCode(all []api.Reason) (groups []reasons) {
	at := map[string]int{}
	for _, r := range all {
		i, ok := at[r.Code]
		if !ok {
			i = len(groups)
			at[r.Code] = i
			groups = append(groups, reasons{Code: r.Code})
		}
		if g := &groups[i]; len(g.Shown) < shownReasons {
			g.Shown = append(g.Shown, r)
		} else {
			g.More++
		}
	}
	return groups
}

// wayOf returns the versions of updates that follow each other.
func wayOf(path []api.Hop) string {
	way := path[0].From
	for _, h := range path {
		way += " → " + h.To
	}
	return way
}

// curable reports whether an image set brings something of what is missing.
func curable(v api.Verdict) bool {
	for _, r := range v.Reasons {
		if r.Cure != nil && v.Answer == api.ReadyNo {
			return true
		}
	}
	return false
}

// word is what a command has without quotes.
var word = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z.,:@/_-]*$`)

// readyCommand returns the command that gives a verdict, "" if a part of it cannot be copied as it is.
func readyCommand(q api.ReadyAsked) string {
	command := "appliance ready"
	for _, f := range [][2]string{{"--from", q.From}, {"--to", q.To}, {"--channel", q.Channel}, {"--arch", strings.Join(q.Architectures, ",")}} {
		if f[1] == "" {
			continue
		}
		if !word.MatchString(f[1]) {
			return ""
		}
		command += " " + f[0] + " " + f[1]
	}
	if q.Cluster != "" {
		command += " --cluster-state cluster.json"
	}
	if q.Keys {
		command += " --release-key FILE"
	}
	if q.Content {
		command += " --content"
	}
	return command
}
