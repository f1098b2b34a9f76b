package mirror

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/mirror-appliance/appliance/internal/durable"
	"github.com/mirror-appliance/appliance/mirror/resources"
)

// Report is what a run did.
type Report struct {
	Started  time.Time `json:"started"`
	Registry string    `json:"registry"`
	// Mirrored are the images that are at their destination, verified.
	Mirrored []*Image  `json:"mirrored"`
	Failures []Failure `json:"failures"`
	Warnings []string  `json:"warnings,omitempty"`
	Planned  int       `json:"planned"`

	// Files that WriteResults wrote.
	Resources []string `json:"resources,omitempty"`
	ErrorFile string   `json:"errorFile,omitempty"`
	File      string   `json:"-"`
}

func (e *Engine) report(p *Plan, started time.Time, failures []Failure) *Report {
	r := &Report{
		Started: started, Registry: e.o.Registry, Mirrored: []*Image{}, Failures: failures, Warnings: p.Warnings,
		Planned: len(p.Images) + len(p.Failures),
	}
	failed := map[*Image]bool{}
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

func classOf(t Type) int {
	switch t {
	case TypeRelease, TypeReleaseContent:
		return exitRelease
	case TypeGeneric:
		return exitAdditional
	}
	return exitGeneric
}

// Count says how many images of some types were planned, and how many of them are mirrored.
func (r *Report) Count(types ...Type) (mirrored, planned int) {
	of := func(t Type) bool {
		for _, want := range types {
			if t == want {
				return true
			}
		}
		return false
	}
	for _, i := range r.Mirrored {
		if of(i.Type) {
			mirrored++
		}
	}
	planned = mirrored
	for _, f := range r.Failures {
		if of(f.Image.Type) {
			planned++
		}
	}
	return mirrored, planned
}

// workdir is a path in the working directory.
func (e *Engine) workdir(path ...string) string {
	return filepath.Join(append([]string{e.o.Workspace, "working-dir"}, path...)...)
}

// prepareWorkspace finds out whether results can be written, before there are any: hours later it helps nobody.
func (e *Engine) prepareWorkspace() error {
	dir := e.workdir()
	err := os.MkdirAll(dir, 0o755)
	if err == nil {
		err = tryToWrite(dir)
	}
	if err != nil {
		return &Error{err: fmt.Errorf("write to the workspace: %w", err), hint: "name a directory that you may write to: --workspace file://DIR"}
	}
	return nil
}

func tryToWrite(dir string) error {
	f, err := os.CreateTemp(dir, ".try-")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// WriteResults writes, for a run that was executed, the cluster resources of what was mirrored, the list of failures
// if there are any, and the report itself.
func (e *Engine) WriteResults(r *Report) error {
	stamp := r.Started.UTC().Format("20060102_150405")
	var err error
	if len(r.Mirrored) > 0 {
		r.Resources, err = resources.Write(e.workdir("cluster-resources"), e.resources(r), resources.Options{Created: r.Started, Version: e.o.Version})
		if err != nil {
			return err
		}
	}
	if len(r.Failures) > 0 {
		file := e.workdir("logs", "mirroring_errors_"+stamp+".txt")
		if err := writeFile(file, errorLines(r.Failures)); err != nil {
			return err
		}
		r.ErrorFile = file
	}
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	file := e.workdir("logs", "report_"+stamp+".json")
	if err := writeFile(file, append(data, '\n')); err != nil {
		return err
	}
	r.File = file
	return nil
}

// errorLines are oc-mirror's, one an image. What failed only because something else did is not among them.
func errorLines(failures []Failure) []byte {
	var b strings.Builder
	for _, f := range failures {
		if !f.Consequence() {
			fmt.Fprintf(&b, "error mirroring image %s error: %s\n", f.Image.Origin, f.Error)
		}
	}
	return []byte(b.String())
}

// Consequence says that the image itself is there, and only what it is a part of is not complete.
func (f Failure) Consequence() bool { return errors.As(f.err, new(*incompleteError)) }

// Err is the failure's cause.
func (f Failure) Err() error { return f.err }

func (e *Engine) resources(r *Report) []resources.Image {
	var all []resources.Image
	for _, i := range r.Mirrored {
		ri := resources.Image{
			Category: resources.Generic, Source: i.source.Name(), Destination: e.o.Registry + "/" + i.Repository,
			ByDigest: i.source.Digest != "", ByTag: i.source.Tag != "",
		}
		switch i.Type {
		case TypeRelease:
			// A cluster asks for its release by digest when it updates and by tag when it is installed.
			ri.Category, ri.ByDigest, ri.ByTag = resources.Release, true, true
		case TypeReleaseContent:
			ri.Category = resources.Release
		}
		all = append(all, ri)
	}
	return all
}

// WriteMapping writes dry-run/mapping.txt, one line an image, as oc-mirror does, and returns its path.
func (e *Engine) WriteMapping(p *Plan) (string, error) {
	var b strings.Builder
	for _, i := range p.Images {
		fmt.Fprintf(&b, "docker://%s=docker://%s\n", i.Source(), e.destination(i))
	}
	if err := os.RemoveAll(e.workdir("dry-run")); err != nil { // what an earlier one left, also oc-mirror's missing.txt
		return "", fmt.Errorf("write to the workspace: %w", err)
	}
	path := e.workdir("dry-run", "mapping.txt")
	return path, writeFile(path, []byte(b.String()))
}

// writeFile writes a file and the directories above it. A reader never sees half of it, and two writers do not disturb
// each other. The directory is not synced: a workspace may be on a network share that cannot.
func writeFile(path string, data []byte) error {
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil {
		err = replace(path, data)
	}
	if err != nil {
		return fmt.Errorf("write to the workspace: %w", err)
	}
	return nil
}

func replace(path string, data []byte) error {
	tmp, err := os.OpenFile(path+"."+rand.Text()+".tmp", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	return durable.Replace(path, tmp, data)
}
