package mirror

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/mirror-appliance/appliance/mirror/metadata"
	"github.com/mirror-appliance/appliance/mirror/plan"
)

// Report is what a run did.
type Report struct {
	Started  time.Time `json:"started"`
	Registry string    `json:"registry"`
	ImageSet string    `json:"imageSet"` // the name of its file
	// ImageSetPath is where that was, Prefix the path below the registry.
	ImageSetPath string `json:"imageSetPath,omitempty"`
	Prefix       string `json:"prefix,omitempty"`
	// Mirrored are the images that are at their destination, verified.
	Mirrored []*plan.Image  `json:"mirrored"`
	Failures []plan.Failure `json:"failures"`
	Blocked  []*plan.Image  `json:"blocked,omitempty"` // that blockedImages leaves out
	Warnings []string       `json:"warnings,omitempty"`
	Planned  int            `json:"planned"`

	// FollowedDependencies reports that operators which others require were mirrored by option.
	FollowedDependencies bool `json:"followedDependencies,omitempty"`
	// Pruned is what was deleted after the run; nil: it was not to be.
	Pruned *Deleted `json:"pruned,omitempty"`

	// The files of the results; empty for those that could not be written.
	Resources []string `json:"resources,omitempty"`
	// ResourcesV1 are the same resources in the format of version 1. A cluster needs one of the two sets.
	ResourcesV1 []string `json:"resourcesV1,omitempty"`
	ErrorFile   string   `json:"errorFile,omitempty"`
	Pinned      []string `json:"pinned,omitempty"` // configurations
	File        string   `json:"-"`
	stamp       string   // is in their names

	// Next is what is to be remembered of a mirror of version 1, once nothing failed: see Options.Past.
	Next *metadata.Metadata `json:"-"`
}

func (e *engine) report(p *plan.Plan, started time.Time, failures []plan.Failure) *Report {
	r := &Report{
		Started: started, Registry: e.o.Registry, ImageSet: e.o.Config.Set(), ImageSetPath: e.o.Config.Path, Prefix: e.o.Prefix,
		Mirrored: []*plan.Image{}, Failures: failures, Blocked: p.Blocked, Warnings: p.Warnings,
		Planned: p.Planned(), stamp: e.stamp(started), FollowedDependencies: e.o.FollowDependencies,
	}
	failed := map[*plan.Image]bool{}
	for _, f := range failures {
		failed[f.Image] = true
	}
	for _, image := range p.Images {
		if !failed[image] {
			r.Mirrored = append(r.Mirrored, image)
		}
	}
	return r
}

// Result counts the images of the classes with one label.
type Result struct {
	Label             string
	Mirrored, Planned int
}

// Results returns a result for each label with images, in the order of the classes.
func (r *Report) Results() []Result {
	mirrored, planned := map[string]int{}, map[string]int{}
	for _, image := range r.Mirrored {
		mirrored[image.Type.Class().Label]++
		planned[image.Type.Class().Label]++
	}
	for _, f := range r.Failures {
		if f.Signatures {
			continue
		}
		planned[f.Image.Type.Class().Label]++
	}
	var all []Result
	for _, c := range plan.Classes() {
		if n := planned[c.Label]; n > 0 {
			all = append(all, Result{c.Label, mirrored[c.Label], n})
			delete(planned, c.Label) // types share labels
		}
	}
	return all
}

// stampForm is the form of the time in the names of reports.
const stampForm = "20060102_150405"

// stamp returns the time in the names of a run's files, with a number if another run began in that second.
func (e *engine) stamp(started time.Time) string {
	first := started.UTC().Format(stampForm)
	stamp := first
	for n := 2; ; n++ {
		if _, err := e.workspace.Read(reportName(stamp)); errors.Is(err, fs.ErrNotExist) || n > 1000 {
			return stamp
		}
		stamp = fmt.Sprintf("%s_%d", first, n)
	}
}

func reportName(stamp string) string { return "logs/report_" + stamp + ".json" }

// writeResults writes cluster resources, the list of failures if there are any, and the report.
func (e *engine) writeResults(r *Report) error {
	if err := e.pin(r); err != nil {
		return err
	}
	if len(r.Mirrored) > 0 && !e.o.ToArchive {
		if err := errors.Join(e.writeResources(r), e.writePublished(r)); err != nil {
			return err
		}
		if e.o.Config.V1 {
			if err := e.writeResultsV1(r); err != nil {
				return err
			}
		}
	}
	if len(r.Failures) > 0 {
		name := "logs/mirroring_errors_" + r.stamp + ".txt"
		if err := e.workspace.Write(name, errorLines(r.Failures)); err != nil {
			return err
		}
		r.ErrorFile = e.workspace.path(name)
	}
	return e.writeReport(r)
}

func (e *engine) writeReport(r *Report) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	name := reportName(r.stamp)
	if err := e.workspace.Write(name, append(data, '\n')); err != nil {
		return err
	}
	r.File = e.workspace.path(name)
	return nil
}

// writeResources writes the resources of what the workspace has mirrored, and the list of that.
func (e *engine) writeResources(r *Report) error {
	all := e.mirroredWith(r.Mirrored)
	files, err := e.render(e.wanted(all, r.Mirrored), r.Started)
	if err == nil {
		r.Resources, err = e.workspace.replace("cluster-resources", files)
	}
	if err != nil {
		return err
	}
	return e.writeMirrored(all)
}

// wanted returns those of the mirrored images that resources are written for.
func (e *engine) wanted(all mirrored, ofRun []*plan.Image) mirrored {
	if !e.o.OnlyThisRun {
		return all
	}
	return all.only(e, ofRun)
}

// errorLines are oc-mirror's, one for each image that failed by itself, with its bundles.
func errorLines(failures []plan.Failure) []byte {
	var b strings.Builder
	for _, f := range failures {
		if !f.Consequence {
			of := ""
			if names, packages := bundleNames(f.Image); len(names) > 0 {
				of = fmt.Sprintf("(Operator bundles: %v - Operators: %v) ", names, packages)
			}
			fmt.Fprintf(&b, "error mirroring image %s %serror: %s\n", f.Image.Origin, of, f.Error)
		}
	}
	return []byte(b.String())
}
