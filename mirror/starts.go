package mirror

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/plan"
)

// starts are the versions that channels begin with of which only the head is asked for. The head of the
// first run is remembered: clusters that have it must get from there to the heads of later runs.
type starts struct {
	// Operators are by the unique name of a catalog, the package and the channel.
	Operators map[string]map[string]map[string]string `json:"operators,omitempty"`
	Channels  map[string]string                       `json:"channels,omitempty"` // of releases
}

// startsFile has those of the runs of a workspace, and archivedStarts, in an archive, those that it was
// made with.
const (
	startsFile     = "upgrade-paths.json"
	archivedStarts = "hold-release/" + startsFile
)

// recalled returns what earlier runs began with; of an archive, what it was made with.
func (e *engine) recalled() (s starts, err error) {
	name, from := startsFile, documents(e.workspace)
	switch {
	case e.o.Documents != nil:
		name, from = archivedStarts, e.o.Documents
	case e.o.Past != nil:
		return startsOf(e.o.Past), nil
	case !e.o.KeepUpgradePaths:
		return s, nil
	}
	raw, err := from.Read(name)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, &s)
	}
	if err != nil {
		err = hint.New(fmt.Errorf("read what the upgrade paths begin with: %s: %w", e.workspace.path(name), err),
			"restore the file, or remove it to begin with the heads of today")
	}
	return s, err
}

// recall has the collectors plan with what earlier runs began with.
func (e *engine) recall() error {
	s, err := e.recalled()
	if err != nil || len(s.Operators)+len(s.Channels) == 0 {
		return err
	}
	config := *e.o.Config
	config.Mirror.Operators = slices.Clone(config.Mirror.Operators)
	for n := range config.Mirror.Operators {
		o := &config.Mirror.Operators[n]
		o.Starts = s.Operators[o.UniqueName()]
	}
	config.Mirror.Platform.Channels = slices.Clone(config.Mirror.Platform.Channels)
	for n := range config.Mirror.Platform.Channels {
		c := &config.Mirror.Platform.Channels[n]
		if c.IsHead() {
			c.Start = s.Channels[c.Name]
		}
	}
	e.use(&config)
	return nil
}

// checkPrune returns an error if it is not known what may be deleted.
func (e *engine) checkPrune() error {
	if e.o.Config.IsStream() {
		return hint.New(errors.New("the image set is from standard input: what the one before it from there asked for would be deleted"),
			"write it to a file, by whose name it is known: -c FILE")
	}
	if err := e.checkDependencies(); err != nil {
		return err
	}
	return e.checkPaths()
}

// checkDependencies returns an error if images would be deleted that the run before brought since other
// operators require them.
func (e *engine) checkDependencies() error {
	if e.o.FollowDependencies {
		return nil
	}
	runs, err := e.runs()
	if err != nil {
		return err
	}
	last := slices.IndexFunc(runs, func(r *setRun) bool {
		return r.ImageSet == e.o.Config.Set() && r.Prefix == e.o.Prefix && !otherFile(r.ImageSetPath, e.o.Config.Path)
	})
	if last < 0 || !runs[last].FollowedDependencies {
		return nil
	}
	return hint.New(errors.New("the last run of this image set also mirrored the operators that others require, whose images would be deleted"),
		"add --follow-dependencies; or mirror once without it and without pruning, if no cluster needs them any more")
}

// checkPaths returns an error if images of the paths that the workspace remembers would be deleted, since
// this run does not mirror from where they begin.
func (e *engine) checkPaths() error {
	if e.o.KeepUpgradePaths || e.o.Documents != nil || e.o.Past != nil {
		return nil
	}
	raw, err := e.workspace.Read(startsFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var s starts
	if err == nil {
		err = json.Unmarshal(raw, &s)
	}
	paths := err != nil
	for _, o := range e.o.Config.Mirror.Operators {
		paths = paths || len(s.Operators[o.UniqueName()]) > 0
	}
	for _, c := range e.o.Config.Mirror.Platform.Channels {
		paths = paths || c.IsHead() && s.Channels[c.Name] != ""
	}
	if !paths {
		return nil
	}
	return hint.New(fmt.Errorf("runs before this one kept upgrade paths (%s), whose images would be deleted", e.workspace.path(startsFile)),
		"add --keep-upgrade-paths; or remove that file, if no cluster needs the paths any more")
}

// use has the run mirror another configuration.
func (e *engine) use(config *imageset.Config) { e.o.Config, e.catalogs.Config = config, config }

// remember writes what a run began with. What it did not ask for stays: another image set of the
// workspace may.
func (e *engine) remember(r *Report) error {
	if !e.o.KeepUpgradePaths || e.o.Documents != nil || e.o.Past != nil {
		return nil
	}
	all, err := e.recalled()
	if err != nil {
		return err
	}
	return e.writeStarts(startsFile, all.with(e.begun(r)))
}

// begun returns what a run began with, without catalogs and channels that have failed.
func (e *engine) begun(r *Report) starts {
	all := starts{}.with(e.starts)
	for _, f := range r.Failures {
		delete(all.Channels, f.Image.Channel)
		for _, o := range e.o.Config.Mirror.Operators {
			if f.Image.Type == plan.OperatorCatalog && f.Image.Origin == o.Catalog {
				delete(all.Operators, o.UniqueName())
			}
		}
	}
	return all
}

// startsForArchive writes what an archive begins with, before it takes the documents of the workspace.
func (e *engine) startsForArchive() error {
	if !e.o.ToArchive {
		return nil
	}
	var s starts
	if e.o.KeepUpgradePaths || e.o.Past != nil {
		s = e.starts
	} else if _, err := e.workspace.Read(archivedStarts); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return e.writeStarts(archivedStarts, s)
}

func (e *engine) writeStarts(name string, s starts) error {
	raw, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return e.workspace.Write(name, append(raw, '\n'))
}

// with returns these starts with those of later ones that have one.
func (s starts) with(later starts) starts {
	all := starts{Operators: map[string]map[string]map[string]string{}, Channels: map[string]string{}}
	for _, from := range []starts{s, later} {
		maps.Copy(all.Channels, from.Channels)
		for catalog, packages := range from.Operators {
			if all.Operators[catalog] == nil {
				all.Operators[catalog] = map[string]map[string]string{}
			}
			maps.Copy(all.Operators[catalog], packages)
		}
	}
	return all
}
