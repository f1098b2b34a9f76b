package console

import (
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/client"
)

// imageSet is an image set of the configuration, with what its forms need.
type imageSet struct {
	api.MirrorState
	CSRF string
}

// Name returns the name of the file, without the directory.
func (s imageSet) Name() string { return path.Base(s.ImageSet) }

// Interval returns the interval without what is zero of it, such as 12h.
func (s imageSet) Interval() string {
	text := time.Duration(s.Every).String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(text, zero) {
			text = text[:len(text)-2]
		}
	}
	return text
}

// Took returns how long the last run took.
func (s imageSet) Took() string { return s.Last.Ended.Sub(s.Last.Began).Round(time.Second).String() }

// syncPage lists the image sets.
type syncPage struct {
	Sets []imageSet
}

func (v *visit) imageSets() (syncPage, error) {
	all, err := v.c.api.Mirrors(v.r.Context())
	p := syncPage{}
	for _, s := range all {
		p.Sets = append(p.Sets, imageSet{s, v.session.CSRF})
	}
	return p, err
}

func (v *visit) sync() error {
	p, err := v.imageSets()
	if err != nil {
		return err
	}
	return v.show("sync", "sync", "sync.title", p)
}

func (v *visit) syncLive() error {
	return v.live("sync", "sets", func() (any, error) { return v.imageSets() })
}

// file returns the image set that a page or a form names.
func (v *visit) file() string { return v.r.FormValue("file") }

// imageSet returns that image set.
func (v *visit) imageSet() (imageSet, error) {
	p, err := v.imageSets()
	if err != nil {
		return imageSet{}, err
	}
	i := slices.IndexFunc(p.Sets, func(s imageSet) bool { return s.ImageSet == v.file() })
	if i < 0 {
		return imageSet{}, &client.Refused{Status: http.StatusNotFound, Refusal: api.Refusal{
			Problem: v.c.views.text("sync.unknown", v.file()), Hint: v.c.views.text("sync.unknown.hint")}}
	}
	return p.Sets[i], nil
}

// setPage is one image set.
type setPage struct {
	imageSet
	Text   string
	Unread *problem // in place of the text
}

// Self returns the image set alone, as the part that moves has it.
func (p setPage) Self() imageSet { return p.imageSet }

func (v *visit) syncSet() error {
	s, err := v.imageSet()
	if err != nil {
		return err
	}
	p := setPage{imageSet: s}
	text, err := v.c.api.ImageSet(v.r.Context(), s.ImageSet)
	if p.Text = text.Text; err != nil {
		failed := problemOf(err)
		p.Unread = &failed
	}
	return v.show("sync-set", "sync", s.Name(), p)
}

func (v *visit) syncSetLive() error {
	return v.live("sync-set", "run", func() (any, error) { return v.imageSet() })
}

func (v *visit) runSync() error {
	if err := v.c.api.BeginMirror(v.r.Context(), v.file()); err != nil {
		return err
	}
	return v.done(address("/sync/set", "file", v.file()), v.c.views.text("sync.began"))
}

func (v *visit) stopSync() error {
	q := api.MirrorStop{ImageSet: v.file(), Plan: v.field("plan") != ""}
	if err := v.c.api.StopMirror(v.r.Context(), q); err != nil {
		return err
	}
	page := "/sync/set"
	if q.Plan {
		page = "/sync/plan"
	}
	return v.done(address(page, "file", q.ImageSet), v.c.views.text("sync.stopped"))
}

// planPage is the last plan of an image set.
type planPage struct {
	imageSet
	planned
}

// planned is a last plan.
type planned struct{ Plan api.MirrorPlanState }

// Planned returns the plan alone, as the part that has its result takes it.
func (p planned) Planned() planned { return p }

// Lists returns the differences, each with the keys of its texts and how many images it has.
func (p planned) Lists() []planList {
	d := p.Plan.Last.Drift
	return []planList{{"missing", d.Missing, d.Sums.Missing}, {"changed", d.Changed, d.Sums.Changed}, {"unasked", d.Unasked, d.Sums.Unasked}}
}

// planList is a list of differences.
type planList struct {
	Key    string
	Images []api.MirrorImage
	Of     int
}

func (v *visit) plan() (planPage, error) {
	s, err := v.imageSet()
	if err != nil {
		return planPage{}, err
	}
	plan, err := v.c.api.MirrorPlan(v.r.Context(), s.ImageSet)
	return planPage{s, planned{plan}}, err
}

func (v *visit) syncPlan() error {
	p, err := v.plan()
	if err != nil {
		return err
	}
	return v.show("sync-plan", "sync", v.c.views.text("sync.plan.title", p.Name()), p)
}

func (v *visit) syncPlanLive() error {
	return v.live("sync-plan", "planned", func() (any, error) { return v.plan() })
}

func (v *visit) makeSyncPlan() error {
	if err := v.c.api.BeginMirrorPlan(v.r.Context(), v.file()); err != nil {
		return err
	}
	return v.done(address("/sync/plan", "file", v.file()), v.c.views.text("sync.plan.began"))
}

// rows is how many rows a part of a list has.
const rows = 100

// reportPage is the report of the last run of an image set.
type reportPage struct {
	imageSet
	listed
	Report   api.MirrorReport
	From, To int
}

func (v *visit) syncReport() error {
	s, err := v.imageSet()
	if err != nil {
		return err
	}
	after := v.after()
	r, err := v.c.api.MirrorReport(v.r.Context(), api.MirrorReportRequest{ImageSet: s.ImageSet, After: after, Limit: rows})
	if err != nil {
		return err
	}
	p := reportPage{imageSet: s, Report: r, From: after + 1, To: after + len(r.Images)}
	if after > 0 {
		p.First = address("/sync/report", "file", s.ImageSet)
	}
	if p.To < r.Mirrored {
		p.Next = address("/sync/report", "file", s.ImageSet, "after", strconv.Itoa(p.To))
	}
	return v.show("sync-report", "sync", v.c.views.text("sync.report.title", s.Name()), p)
}

// after returns how many rows of a list come before the part that the address asks for.
func (v *visit) after() int {
	n, _ := strconv.Atoi(v.r.FormValue("after")) // what is no number is the beginning
	return max(n, 0)
}
