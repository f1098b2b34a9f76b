package installer

import (
	"context"
	"errors"
	"strings"

	"github.com/mirror-appliance/appliance/ansible-free/host"
	"github.com/mirror-appliance/appliance/registry/config"
)

// The runs whose journal has to be told from that of another install.
const (
	upgradeRun  = "upgrade"
	rollbackRun = "rollback"
)

// killedRun is an upgrade or a rollback that was killed.
type killedRun struct {
	is        string      // upgradeRun, rollbackRun, "" for none
	database  *host.Entry // of the *database; nil: it was killed before
	server    *server     // the last one, where the database is in PostgreSQL
	exchanged bool        // the program may be the new one
	confirmed bool        // the daemon may have written since
}

// killedRun reads the journal of a run that was killed, or of one that had ended and was not recorded. A
// move is neither.
func (s *site) killedRun() (k killedRun) {
	if moves, _ := s.moving(); moves != nil {
		return k // see Settle
	}
	mark := ""
	for i, e := range s.journal.Entries {
		switch step := e.Step.(type) {
		case *guard:
			k.is = step.Run
		case *database: // also of a version whose guard did not tell
			k.is, k.database, mark = upgradeRun, &s.journal.Entries[i], step.Mark
		case *server:
			k.server = step
		case *rewind:
			mark = s.cfgMark()
		case *host.File:
			k.exchanged = k.exchanged || step.Path == s.binary && k.is != ""
		}
	}
	if mark != "" {
		trial, err := s.Host.Exists(mark)
		k.confirmed = err == nil && !trial
	}
	return k
}

// cfgMark returns the path of the mark by config.yaml, "" if that cannot be read.
func (s *site) cfgMark() string {
	cfg, err := config.Parse(s.confPath(), s.content)
	if err != nil {
		return ""
	}
	return cfg.UpgradeMark()
}

// replacedByKilled has the record tell the way back from an upgrade that was killed after it had exchanged
// the program.
func (s *site) replacedByKilled(k killedRun) {
	if k.server != nil && k.is == upgradeRun && k.exchanged {
		s.record.Replaced = &replaced{Version: s.record.Appliance, Server: k.server.Was}
	}
	if k.database == nil || !k.exchanged {
		return
	}
	db := k.database.Step.(*database)
	db.old = strings.Fields(k.database.Before.Target)
	made, err := db.made(db.old)
	if err != nil {
		s.fault(err, "see whether the directory of the database can be read")
		return
	}
	s.record.Replaced = &replaced{Version: s.record.Appliance, Copy: made}
	if !k.confirmed {
		s.migrates = db // the daemon may migrate it yet
	}
}

// checkKilledRun refuses what would forget how to take a killed upgrade back.
func (s *site) checkKilledRun() {
	if k := s.killedRun(); k.is != "" && !k.confirmed && !s.journal.Done {
		s.problem("an "+upgradeRun+" or a "+rollbackRun+" was interrupted",
			"complete it with the command that was interrupted, or take it back: appliance upgrade --rollback")
	}
}

// planTakeBack returns a plan that takes back an upgrade or a rollback that was killed, nil if there is none.
func planTakeBack(ctx context.Context, r Request, d Deps) (*Plan, error) {
	s, err := newSite(r, d)
	if err != nil {
		return nil, err
	}
	if s.unit, err = find(s.Deps, s.User); err != nil || !s.look() || s.journal.Done {
		return nil, nil // which planning a rollback tells
	}
	if moves, _ := s.moving(); moves != nil {
		return s.planMoveBack(moves)
	}
	killed := s.killedRun()
	if killed.is == "" || killed.is == rollbackRun && killed.confirmed {
		return nil, nil
	}
	if s.cfg, err = config.Parse(s.confPath(), s.content); err != nil {
		return nil, err
	}
	if why := s.migratedServer(ctx); why != nil {
		s.fault(why, "")
	}
	p, err := s.newPlan()
	if err != nil {
		return nil, err
	}
	for _, e := range s.journal.Entries { // of more than one, where another upgrade has followed
		db, ok := e.Step.(*database)
		if !ok {
			continue
		}
		if made, err := db.made(strings.Fields(e.Before.Target)); err != nil {
			return nil, err
		} else if made != "" && killed.confirmed {
			p.Loses = "the upgrade was killed after it had migrated the database: what was pushed, deleted or changed since is lost"
		}
		db.consented = true
	}
	s.bus.needed, p.result.Address = true, s.cfg.Address()
	p.Again = killed.is == rollbackRun
	p.add(&takeBack{site: s, run: killed.is})
	return p, nil
}

// takeBack undoes the journal of an upgrade, or a rollback, that was killed.
type takeBack struct {
	action
	site *site
	run  string
}

func (s *takeBack) String() string { return "take back the " + s.run + " that was interrupted" }

func (s *takeBack) Apply(ctx context.Context) (bool, error) {
	if err := s.site.journal.Undo(ctx); err != nil {
		return true, err
	}
	last := &confirm{bus: s.site.bus, host: s.site.Host, paths: s.site.passing()}
	_, err := last.Apply(ctx)
	return true, errors.Join(err, s.site.journal.Discard(ctx))
}

// leftOfUpgrade removes what is there while an upgrade is under way: one that was killed has left it, and
// the record does not have it.
func (s *site) leftOfUpgrade() (steps []host.Step) {
	for _, path := range s.passing() {
		step := &host.Remove{Host: s.Host, Path: path}
		if before, err := step.Check(context.Background()); before == nil && err == nil {
			continue
		}
		file := &host.File{Host: s.Host, Path: path}
		steps = append(steps, &inverse{host.Entry{Step: file, Before: &host.Before{}}})
	}
	if len(steps) > 0 {
		s.bus.needed, steps = true, append(steps, &reload{bus: s.bus})
	}
	return steps
}
