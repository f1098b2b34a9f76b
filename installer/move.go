package installer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/mirror-appliance/appliance/ansible-free/host"
	"github.com/mirror-appliance/appliance/installer/relocate"
	"github.com/mirror-appliance/appliance/internal/durable"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/systemd"
)

// A move of the content copies while the registry serves, if it has to copy, and has the rest follow
// while the daemon is stopped. The socket stays open. What starts the daemon meanwhile, such as a
// connection, starts the unit that takes an upgrade back first (see ahead), and that waits while the
// command runs and the gate is there: no daemon finds half of the content. If the command was killed,
// that unit takes the move back. A move that is taken back after the daemon was started closes the gate
// again, for the same reason. Until the daemon is healthy at the new place, its writes wait, see
// PlanUpgrade, and the old place is whole or can be renamed back.

// relocation is a directory of the content that moves.
type relocation struct {
	From string `json:"from"`
	To   string `json:"to"`
	File string `json:"file,omitempty"` // of the database; "" for blobs
	Copy bool   `json:"copy,omitempty"` // to another file system

	size, there relocate.Size // of what moves, and of what a copy that was killed has left
}

func (r relocation) what() string {
	if r.File != "" {
		return "database"
	}
	return "images"
}

func (r relocation) flag() string {
	if r.File != "" {
		return "--sqliteStorage"
	}
	return "--quayStorage"
}

// names returns those of the names in a directory that move.
func (r relocation) names(names []string) []string {
	ours := storageNames()
	if r.File != "" {
		ours = databaseNames(r.File, names)
	}
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !slices.Contains(ours, name) })
}

func (r relocation) tree(h *host.Host) *relocate.Tree {
	return &relocate.Tree{Host: h, From: r.From, To: r.To, Ours: r.names}
}

// wantMove has the configuration name the directories that an upgrade asks for.
func (s *site) wantMove() {
	storage, database := cmp.Or(s.QuayStorage, s.cfg.Storage), s.cfg.Database
	if s.SqliteStorage != "" {
		database = filepath.Join(s.SqliteStorage, filepath.Base(database))
	}
	if !s.Upgrade || storage == s.cfg.Storage && database == s.cfg.Database {
		return
	}
	text, cfg, ok := config.Relocate(s.text, s.cfg, storage, database)
	switch {
	case s.changer != nil:
		s.problem("the service can change "+s.confPath(), "run appliance install first, which makes it root's")
		return
	case !ok:
		s.problem(fmt.Sprintf("storage or database in %s cannot be changed", s.confPath()),
			"write each on one line there, then run the command again")
		return
	}
	if storage != s.cfg.Storage {
		s.moves = append(s.moves, relocation{From: s.cfg.Storage, To: storage})
	}
	if database != s.cfg.Database {
		s.moves = append(s.moves, relocation{From: s.databaseDir(), To: filepath.Dir(database), File: filepath.Base(database)})
	}
	s.databaseBefore, s.cfg, s.text = s.cfg.Database, cfg, text
}

// placeOf returns the place where a directory moves.
func (s *site) placeOf(m relocation) place {
	if m.File != "" {
		return s.dirs.database
	}
	return s.dirs.storage
}

// lookAtMove finds out how each directory moves, and how much there is.
func (s *site) lookAtMove(ctx context.Context) {
	for i := range s.moves {
		m := &s.moves[i]
		if !s.has(m.From) || s.placeOf(*m).err != nil || len(s.links(*m)) > 0 {
			continue // told of the directories
		}
		renames, err := s.renames(*m)
		m.Copy = !renames
		if err == nil && m.Copy {
			if m.size, err = m.tree(s.Host).Measure(ctx, false); err == nil {
				m.there, err = m.tree(s.Host).Measure(ctx, true)
			}
		}
		if err != nil {
			s.fault(fmt.Errorf("look at what moves: %w", err), "see whether the directory is whole: appliance verify")
		}
	}
}

// renames reports whether a rename leads from one directory to the other: both are on one file system,
// under one mount point, and nothing that moves is a mount point itself.
func (s *site) renames(m relocation) (bool, error) {
	if s.Renames != nil {
		return s.Renames(m.From, m.To), nil
	}
	ground, err := existing(s.Host, m.To)
	if err != nil {
		return false, nil // which is told of the place
	}
	dir, err := s.Host.OpenRoot(m.From)
	if err != nil {
		return false, err
	}
	dir.Close()
	names, err := s.Host.Names(m.From)
	for _, name := range append(m.names(names), ".") {
		path := filepath.Join(m.From, name)
		if !sameDevice(s.Host, path, ground) || mountPoint(s.Host, path) != mountPoint(s.Host, ground) {
			return false, err
		}
	}
	return true, err
}

// ahead adds what a move does before the daemon stops.
func (b *builder) ahead() error {
	if len(b.moves) == 0 {
		return nil
	}
	have, err := b.Host.Sum(b.binary)
	if err != nil {
		return fmt.Errorf("read the installed program: %w", err)
	}
	ours, err := host.Local().Sum(b.Binary)
	if err != nil {
		return err
	}
	b.Splits = have != ours
	b.trees = make(map[string]*relocate.Tree)
	for _, m := range b.moves {
		b.trees[m.From] = m.tree(b.Host)
	}
	if slices.ContainsFunc(b.moves, func(m relocation) bool { return m.Copy }) {
		b.add(&copyAhead{bus: b.bus, host: b.Host, trees: b.trees, Moves: b.moves})
	}
	if err := b.directory(filepath.Dir(b.gateLink()), b.mode(0o755, 0o700), b.admin, keep); err != nil {
		return err
	}
	b.recovery(b.Binary, b.gateLink())
	b.add(b.rootFile(b.cfg.UpgradeMark(), nil, 0o644), b.rootFile(b.gate(), nil, 0o600), &reload{bus: b.bus})
	return nil
}

// gateLink has each start of the daemon start the unit that takes an upgrade back before.
func (s *site) gateLink() string {
	return filepath.Join(s.unitFile(systemd.Service+".wants"), systemd.Recover)
}

// gate is a file that is there while the daemon must not start.
func (s *site) gate() string { return filepath.Join(s.journal.Dir, "moving") }

// move adds the part of a move for which the daemon is stopped.
func (b *builder) move() []host.Step {
	if len(b.moves) == 0 {
		return nil
	}
	return []host.Step{&move{bus: b.bus, host: b.Host, trees: b.trees, Moves: b.moves, Mark: b.cfg.UpgradeMark(), Gate: b.gate(),
		Lock: b.databaseBefore + ".lock"}}
}

// intent has the journal tell from the first change on what moves.
type intent struct {
	Moves []relocation `json:"moves"`
}

func (s *intent) String() string { return "" }

// Check is as in host.Step.
func (s *intent) Check(context.Context) (*host.Before, error) { return &host.Before{}, nil }

func (s *intent) Apply(context.Context) (bool, error) { return false, nil }

func (s *intent) Undo(context.Context, *host.Before) (bool, error) { return false, nil }

// copyAhead copies to another file system while the daemon serves. Undoing it removes the copy.
type copyAhead struct {
	bus   *bus
	host  *host.Host
	trees map[string]*relocate.Tree
	say   func(string)
	Moves []relocation `json:"moves"`
}

func (s *copyAhead) String() string {
	var parts []string
	for _, m := range s.Moves {
		if m.Copy {
			parts = append(parts, fmt.Sprintf("the %s from %s to %s (%s)", m.what(), m.From, m.To, humanize.Bytes(uint64(m.size.Bytes))))
		}
	}
	return "copy " + strings.Join(parts, ", and ") + ", while the registry serves"
}

func (s *copyAhead) waits() bool { return true }

func (s *copyAhead) tell(say func(string)) { s.say = say }

// Check tells whether the daemon runs, as guard does.
func (s *copyAhead) Check(ctx context.Context) (*host.Before, error) {
	return (&guard{bus: s.bus, journal: new(host.Journal)}).Check(ctx)
}

func (s *copyAhead) Apply(ctx context.Context) (bool, error) {
	for _, m := range s.Moves {
		if !m.Copy {
			continue
		}
		tree := s.trees[m.From]
		tree.Progress = progressOf(m, s.say)
		if err := tree.Copy(ctx); err != nil {
			return true, full(err, m)
		}
		tree.Progress = nil
		if damaged := tree.Damaged(); len(damaged) > 0 && s.say != nil {
			s.say(fmt.Sprintf("%d damaged images were copied as they are, such as %s; later: appliance scrub", len(damaged), damaged[0]))
		}
	}
	return true, nil
}

// progressOf tells from time to time how much is copied.
func progressOf(m relocation, say func(string)) func(relocate.Size) {
	const every = 5 * time.Second
	last := time.Now()
	return func(done relocate.Size) {
		if say == nil || time.Since(last) < every {
			return
		}
		last = time.Now()
		say(fmt.Sprintf("copied %s of %s to %s", humanize.Bytes(uint64(done.Bytes)), humanize.Bytes(uint64(max(m.size.Bytes, done.Bytes))), m.To))
	}
}

// Undo has the daemon serve again, which by then has its configuration of before, then removes the copy.
func (s *copyAhead) Undo(ctx context.Context, before *host.Before) (bool, error) {
	changed, err := (&guard{bus: s.bus}).Undo(ctx, before)
	for _, m := range s.Moves {
		if m.Copy {
			changed, err = true, errors.Join(err, m.tree(s.host).Remove(ctx, m.To))
		}
	}
	return changed, err
}

// move stops the daemon, and brings the rest to the new place.
type move struct {
	bus   *bus
	host  *host.Host
	trees map[string]*relocate.Tree
	Moves []relocation `json:"moves"`
	Mark  string       `json:"mark"` // while it is there, no write was acknowledged
	Gate  string       `json:"gate"` // while it is there, the daemon does not start
	Lock  string       `json:"lock"` // of the database, at the old place
}

func (s *move) String() string {
	var parts []string
	for _, m := range s.Moves {
		verb := "rename the %s from %s to %s"
		if m.Copy {
			verb = "copy what changed of the %s since from %s to %s"
		}
		parts = append(parts, fmt.Sprintf(verb, m.what(), m.From, m.To))
	}
	return "stop " + systemd.Service + ", " + strings.Join(parts, ", ")
}

func (s *move) Check(context.Context) (*host.Before, error) { return &host.Before{}, nil }

func (s *move) Apply(ctx context.Context) (bool, error) {
	if err := s.bus.Stop(ctx, systemd.Service); err != nil {
		return true, err
	}
	lock, err := s.lock()
	if err != nil {
		return true, err
	}
	defer lock.Close()
	for _, m := range s.Moves {
		if m.Copy {
			err = s.trees[m.From].Copy(ctx)
		} else {
			err = s.trees[m.From].Rename()
		}
		if err != nil {
			return true, full(err, m)
		}
	}
	_, err = s.host.Remove(s.Gate)
	return true, err
}

// lock keeps commands that work without the daemon away from the database.
func (s *move) lock() (interface{ Close() error }, error) {
	f, err := s.host.Open(s.Lock)
	if notThere(err) {
		return new(closer), nil
	}
	if err != nil {
		return nil, err
	}
	if err := durable.Lock(f, durable.Exclusive); errors.Is(err, durable.ErrLocked) {
		return nil, errors.Join(hint.New(errors.New("another command uses the registry's database"),
			"wait until it has ended, then run the command again"), f.Close())
	}
	return f, nil
}

type closer struct{}

func (closer) Close() error { return nil }

// closeGate has what starts the daemon wait, until the step that made the gate is undone: what the
// command that takes a move back has stopped does not start over half of the content.
func closeGate(h *host.Host, gate string) error {
	dir, err := h.Stat(filepath.Dir(gate))
	if err != nil {
		return err
	}
	return h.Write(gate, strings.NewReader(""), 0o600, dir.Owner)
}

// Undo renames back what was renamed. What was copied is whole where it was.
func (s *move) Undo(ctx context.Context, _ *host.Before) (changed bool, err error) {
	for _, m := range s.Moves {
		tree := m.tree(s.host)
		if there, err := tree.Renamed(); m.Copy || err != nil || !there {
			if err != nil {
				return changed, err
			}
			continue
		}
		if !s.bus.booting {
			if err := closeGate(s.host, s.Gate); err != nil {
				return changed, err
			}
			if err := s.bus.Stop(ctx, systemd.Service); err != nil {
				return changed, err
			}
		}
		back, err := tree.RenameBack()
		if changed = changed || back; err != nil {
			return changed, err
		}
	}
	return changed, nil
}

// full adds to an error of a full disk what to do.
func full(err error, m relocation) error {
	if isFull(err) {
		return hint.New(err, "make room there, or choose a larger file system for "+m.flag()+": df -h "+m.To)
	}
	return err
}

// retirement shows what becomes of the old place. The end of the plan does it, see clearOld.
type retirement struct {
	action
	site *site
}

func (s *retirement) String() string {
	var parts []string
	for _, m := range s.site.moves {
		if m.Copy {
			parts = append(parts, "remove the "+m.what()+" from "+m.From)
		}
	}
	return strings.Join(append(parts, "remove the old directories that install has made, if they are empty"), "; ")
}

func (s *retirement) Apply(context.Context) (bool, error) { return false, nil }
