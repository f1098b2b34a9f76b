package installer

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/mirror-appliance/appliance/ansible-free/host"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/retry"
	"github.com/mirror-appliance/appliance/registry/config"
)

// moving returns the move of a journal, and whether it had come to the part for which the daemon is
// stopped.
func (s *site) moving() (moves []relocation, stopped bool) {
	if s.journal == nil {
		return nil, false
	}
	for _, e := range s.journal.Entries {
		switch step := e.Step.(type) {
		case *intent:
			moves = step.Moves
		case *move:
			stopped = true
		case *host.File:
			stopped = stopped || step.Path == s.gate()
		}
	}
	return moves, stopped && moves != nil
}

// decided reports whether the daemon has begun to take writes at the new place: a move that was killed
// is then completed, and not taken back.
func (s *site) decided() bool {
	mark, started := "", false
	for _, e := range s.journal.Entries {
		switch step := e.Step.(type) {
		case *move:
			mark = step.Mark
		case *start:
			started = mark != ""
		}
	}
	if !started {
		return false
	}
	trial, err := s.Host.Exists(mark)
	return err == nil && !trial
}

// resumeMove judges a move that was killed: the same command goes on with the copy.
func (s *site) resumeMove(moves []relocation, stopped bool) {
	goesOn := s.Upgrade && !s.rollback && !stopped
	command := "appliance upgrade"
	for _, m := range moves {
		asked := s.QuayStorage
		if m.File != "" {
			asked = s.SqliteStorage
		}
		goesOn = goesOn && asked == m.To
		command += " " + m.flag() + " " + m.To
	}
	if !goesOn {
		s.problem("a move of "+movesText(moves)+" was interrupted",
			"complete it: "+command+"; or take it back: appliance upgrade --rollback")
	}
}

func movesText(moves []relocation) string {
	var parts []string
	for _, m := range moves {
		parts = append(parts, fmt.Sprintf("the %s from %s to %s", m.what(), m.From, m.To))
	}
	return strings.Join(parts, " and ")
}

// Settle ends a move that was killed while the daemon was stopped, or on trial: it is taken back, or
// completed if pushes may have come since. A copy for which the daemon was not stopped stays for the
// same command to go on with, unless all is true. progress gets a line for what it did.
func Settle(ctx context.Context, r Request, d Deps, all bool, progress func(string)) error {
	s, err := newSite(r, d)
	if err != nil {
		return err
	}
	if s.unit, err = find(s.Deps, s.User); err != nil || !s.look() {
		return nil // which the plan tells
	}
	moves, stopped := s.moving()
	if len(moves) == 0 || s.journal.Done || !stopped && !all {
		return nil
	}
	if ok, err := s.journal.Claim(); err != nil || !ok {
		return errors.Join(err, errTakenBack(ok))
	}
	return s.settle(ctx, progress)
}

func errTakenBack(claimed bool) error {
	if claimed {
		return nil
	}
	return hint.New(errors.New("a move that was interrupted is being taken back"), "wait a moment, then run the command again")
}

// settle completes or takes back what the journal, which is claimed, has.
func (s *site) settle(ctx context.Context, progress func(string)) error {
	s.bus.needed = true
	if err := s.readConfig(); err != nil {
		return err
	}
	if s.bus.serviceManager == nil {
		if err := s.bus.open(ctx); err != nil {
			return err
		}
		defer s.bus.close()
	}
	moves, _ := s.moving()
	var err error
	if s.decided() {
		progress("completing the move of " + movesText(moves))
		err = s.completed(ctx, moves)
	} else {
		progress("taking back the move of " + movesText(moves) + ", which was interrupted")
		err = s.journal.Undo(ctx)
	}
	if err != nil {
		return err
	}
	last := &confirm{bus: s.bus, host: s.Host, paths: s.passing()}
	_, err = last.Apply(ctx)
	return errors.Join(err, s.journal.Discard(ctx))
}

func (s *site) readConfig() (err error) {
	s.content, s.contentIs = s.Host.ReadFile(s.confPath())
	if s.contentIs != nil {
		return s.contentIs
	}
	s.cfg, err = config.Parse(s.confPath(), s.content)
	return err
}

// completed records a move whose command was killed, and what is left to remove.
func (s *site) completed(ctx context.Context, moves []relocation) error {
	if err := s.journal.Finish(); err != nil {
		return err
	}
	s.left(moves)
	return s.writeRecord(ctx, nil)
}

// left notes what is left of moves that are complete.
func (s *site) left(moves []relocation) {
	if s.record == nil && len(moves) > 0 {
		s.record = new(record)
	}
	if s.record != nil {
		s.record.Leaves = append(s.record.Leaves, moves...)
	}
}

// awaitMove waits while another process moves content, and reports whether there is something to take
// back: that process was killed.
func (s *site) awaitMove(ctx context.Context) (bool, error) {
	for {
		ok, err := s.journal.Claim()
		if notThere(err) { // it has ended meanwhile, and what was read before does not count
			s.journal.Entries, s.journal.Done = nil, true
			return true, nil
		}
		if ok || err != nil {
			return ok, err
		}
		if closed, err := s.Host.Exists(s.gate()); err != nil || !closed {
			return false, err
		}
		if err := retry.Sleep(ctx, 20*time.Millisecond); err != nil {
			return false, err
		}
	}
}

// clearOld removes what moved from the places where it was, and of the directories those that install has
// made. Others get owner and mode of before back.
func (s *site) clearOld(ctx context.Context) error {
	r, err := s.readRecord()
	if r == nil || err != nil || len(r.Leaves) == 0 {
		return err
	}
	s.record = r
	inUse := []string{s.QuayRoot, s.cfg.Storage, s.databaseDir()}
	for _, m := range r.Leaves {
		if slices.Contains(inUse, m.From) { // it has moved back since
			continue
		}
		if m.Copy {
			if err := m.tree(s.Host).Remove(ctx, m.From); err != nil {
				return hint.New(fmt.Errorf("remove the %s from %s: %w", m.what(), m.From, err),
					"the registry serves from "+m.To+"; remove the rest by: appliance install")
			}
		}
		if err := s.leaveDirs(ctx, m.From, inUse); err != nil {
			return err
		}
	}
	r.Leaves = nil
	text, err := r.text(s)
	if err != nil {
		return err
	}
	return s.replaceRecord(ctx, text)
}

// leaveDirs takes back what install did to a directory, and to those above it that it has made.
func (s *site) leaveDirs(ctx context.Context, from string, inUse []string) error {
	var stay []host.Entry
	for _, e := range slices.Backward(s.record.entries) {
		dir, ok := e.Step.(*host.Dir)
		needed := ok && slices.ContainsFunc(inUse, func(path string) bool { return within(path, dir.Path) })
		if !ok || needed || !within(from, dir.Path) || dir.Path != from && e.Before.Is != "" {
			stay = append(stay, e)
			continue
		}
		if _, err := dir.Undo(ctx, e.Before); err != nil {
			return err
		}
		if e.Before.Is == "" && s.has(dir.Path) { // it holds something else
			stay = append(stay, e)
		}
	}
	slices.Reverse(stay)
	s.record.entries = stay
	return nil
}

// leftBehind are the paths that moves have left at the old places.
func (s *site) leftBehind() (paths []string) {
	for _, m := range s.record.Leaves {
		if m.From == s.cfg.Storage || m.From == s.databaseDir() {
			continue
		}
		names, _ := s.Host.Names(m.From)
		for _, name := range m.names(names) {
			paths = append(paths, filepath.Join(m.From, name))
		}
	}
	return paths
}

// planMoveBack plans to take back a move that was killed.
func (s *site) planMoveBack(moves []relocation) (*Plan, error) {
	if s.decided() {
		s.problem("the move of "+movesText(moves)+" is complete, and pushes may have come since",
			"move back: appliance upgrade "+moves[0].flag()+" "+moves[0].From)
	}
	if err := s.readConfig(); err != nil {
		return nil, err
	}
	p, err := s.newPlan()
	if err != nil {
		return nil, err
	}
	s.bus.needed, p.result.Address = true, s.cfg.Address()
	p.add(&moveBack{site: s, moves: moves})
	return p, nil
}

// moveBack takes back a move that was killed.
type moveBack struct {
	action
	site  *site
	moves []relocation
}

func (s *moveBack) String() string { return "take back the move of " + movesText(s.moves) }

func (s *moveBack) Apply(ctx context.Context) (bool, error) {
	if ok, err := s.site.journal.Claim(); err != nil || !ok {
		return false, errors.Join(err, errTakenBack(ok))
	}
	return true, s.site.settle(ctx, func(string) {})
}
