package installer

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/mirror-appliance/appliance/ansible-free/host"
	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/systemd"
)

// PlanUninstall plans to take back what the record has, the last step first. Without RemoveContent
// blobs and database stay, and with them the user that owns them, the CA and the pull secret of the
// clusters that use them, and the record, for a later install or uninstall.
//
// An uninstall that fails half way is completed by another one: what leads to the rest is removed
// last.
func PlanUninstall(ctx context.Context, r Request, d Deps) (*Plan, error) {
	s, err := newSite(r, d)
	if err != nil {
		return nil, err
	}
	if s.unit, err = find(s.Deps, s.User); err != nil && !isNotInstalled(err) {
		return nil, err
	}
	if !s.look() || len(s.problems) > 0 {
		return nil, &PreflightError{Problems: s.problems}
	}
	s.resume(true)
	names, err := s.Host.Names(s.confDir())
	if err != nil && !notThere(err) {
		return nil, err
	}
	// Files without a configuration are the user's own: an install that was refused made
	// none, and one that was killed has its journal. An empty directory is left of an
	// uninstall that was killed.
	foreign := len(names) > 0 && notThere(s.contentIs)
	if s.unit == nil && (s.record == nil && (notThere(err) || foreign) || s.isQuay()) {
		return nil, notInstalled(s.unitFile(systemd.Service), s.QuayRoot)
	}
	if err := s.installedConfig(); err != nil {
		return nil, err
	}
	for _, d := range []struct{ flag, asked, have string }{
		{"--quayStorage", s.QuayStorage, s.cfg.Storage},
		{"--sqliteStorage", s.SqliteStorage, s.databaseDir()},
	} {
		if d.asked != "" && d.asked != d.have {
			s.problem(fmt.Sprintf("%s says %s, but the appliance in %s keeps it in %s",
				d.flag, d.asked, s.QuayRoot, d.have), "leave out "+d.flag+" to go on with that one")
		}
	}
	s.checkRights()
	plan, err := s.newPlan()
	if err != nil {
		return nil, err
	}
	if cfg, err := config.Parse(s.confPath(), s.content); err == nil && s.contentIs == nil {
		plan.Elsewhere = elsewhere(cfg)
	}
	if s.record == nil {
		s.record = s.guess()
	}
	plan.journal = new(host.Journal)
	plan.takeBack(s)
	return plan, nil
}

// installedConfig finds out where things are: by the record if there is one, otherwise by
// config.yaml, as far as it counts, otherwise they are where they are by default.
func (s *site) installedConfig() error {
	if s.contentIs != nil && !notThere(s.contentIs) && s.changer == nil {
		return fmt.Errorf("read the configuration: %w", s.contentIs)
	}
	switch {
	case s.changer != nil && s.record == nil:
		s.cfg = s.legacyConfig()
	case s.contentIs == nil && s.record == nil:
		cfg, err := config.Parse(s.confPath(), s.content)
		s.cfg = cfg
		return err
	default:
		s.cfg = s.newConfig("", "")
		if s.record != nil {
			s.warnOfStrays()
		}
	}
	return nil
}

// takeBack adds the inverse of the recorded steps.
func (p *Plan) takeBack(s *site) {
	content := s.leavings()
	kept := !s.RemoveContent && (len(p.Elsewhere) > 0 || slices.ContainsFunc(content.content(), func(path string) bool {
		ok, _ := s.Host.Exists(path)
		return ok
	}))
	gone := content.Rest
	if kept {
		gone = gone[1:] // nodes have the pull secret, whose user is in the database
	} else if s.RemoveContent {
		gone = append(content.content(), gone...)
	}
	gone = append(gone, s.leftBehind()...)
	var stop, rest, outer []host.Step
	program := false
	for _, e := range slices.Backward(s.record.entries) {
		if kept && s.staysWithContent(e) {
			continue
		}
		switch step := e.Step.(type) {
		case *start, *enable:
			stop, s.bus.needed = append(stop, &inverse{e}), true
			continue
		case *linger:
			s.bus.needed = true
		case *host.Dir:
			if within(s.confDir(), step.Path) { // or above it: what leads to the rest is taken back last
				outer = append(outer, &inverse{e})
				continue
			}
		case *host.File:
			program = program || step.Path == s.binary
		}
		rest = append(rest, &inverse{e})
		// The last of the units.
		if file, ok := e.Step.(*host.File); ok && file.Path == s.unitFile(systemd.Service) {
			rest, s.bus.needed = append(rest, &reload{bus: s.bus}), true
		}
	}
	p.add(s.leftOfUpgrade()...)
	p.add(stop...)
	for _, path := range gone {
		if s.Host.Removable(path) == nil {
			p.add(s.removal(path))
		}
	}
	p.add(rest...)
	if !kept {
		p.add(s.removal(s.journal.Dir), s.removal(recordPath(s.QuayRoot)))
		p.add(outer...)
	}
	if !program {
		p.Warnings = append(p.Warnings, Problem{Warning: true,
			What:   "the executable stays: it was there before the install",
			Remedy: "remove it yourself if you want to"})
	}
}

// removal is a file that is removed, or a directory with all that it holds.
func (s *site) removal(path string) host.Step {
	dir := &host.Dir{Host: s.Host, Path: path, Whole: true}
	return &inverse{host.Entry{Step: dir, Before: &host.Before{}}}
}

// staysWithContent reports whether a step is not taken back while the content is kept: the content
// goes on belonging to the service's user, and the clusters that use it trust the CA.
func (s *site) staysWithContent(e host.Entry) bool {
	switch step := e.Step.(type) {
	case *host.SystemUser, *label:
		return true
	case *host.Dir:
		return step.Path == s.caDir() || e.Before.Is != ""
	case *host.File:
		return step.Path == s.pullSecret() || step.Path != s.binary &&
			filepath.Dir(step.Path) != s.unitDir() && !within(step.Path, s.confDir())
	}
	return false
}

// inverse is a recorded step that is taken back.
type inverse struct{ host.Entry }

func (s *inverse) String() string {
	dir, ok := s.Step.(*host.Dir)
	if ok && s.Before.Is != "" {
		return "give " + dir.Path + " its owner and mode back"
	}
	return s.Step.(lasting).Taken()
}

func (s *inverse) waits() bool { _, ok := s.Step.(*start); return ok }

func (s *inverse) Check(context.Context) (*host.Before, error) { return s.Before, nil }

func (s *inverse) Apply(ctx context.Context) (bool, error) { return s.Step.Undo(ctx, s.Before) }

func (s *inverse) Undo(context.Context, *host.Before) (bool, error) { return false, nil }
