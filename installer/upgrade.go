package installer

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mirror-appliance/appliance/ansible-free/host"
	"github.com/mirror-appliance/appliance/internal/durable"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/systemd"
)

// PlanUpgrade looks at the host and plans to have the running program, Request.Binary, serve in the
// place of the one that is installed. Hostname and port change if the request names others; all else
// stays. Errors are those of PlanInstall.
//
// While the new version is on trial the daemon has writes wait, see registry: until it is healthy, the
// database of before may come back. It was copied by the daemon before it migrated. After a power cut
// a unit of its own takes the upgrade back before the daemon starts.
func PlanUpgrade(ctx context.Context, r Request, d Deps) (*Plan, error) {
	r.Upgrade = true
	return PlanInstall(ctx, r, d)
}

// PlanRollback plans to have the program that the last upgrade replaced serve again. If the database was
// migrated since, the copy of before comes back, and Plan.Loses has the loss to consent to. An upgrade that
// was killed is taken back as a whole. So is a rollback that was killed: Plan.Again then has it planned anew.
func PlanRollback(ctx context.Context, r Request, d Deps) (*Plan, error) {
	if p, err := planTakeBack(ctx, r, d); p != nil || err != nil {
		return p, err
	}
	r.Upgrade, r.rollback = true, true
	return PlanInstall(ctx, r, d)
}

// replaced is what an upgrade replaced.
type replaced struct {
	Version string `json:"version"`
	Copy    string `json:"copy,omitempty"` // file name of the database's copy of then, if it was migrated

	Server *Schema `json:"server,omitempty"` // of the database in PostgreSQL that it served; nil: it served none
}

const previousSuffix = ".previous"

// The files that there are while an upgrade is under way: what takes it back after a power cut, and the
// daemon's mark. previous stays.
func (s *site) previous() string    { return s.binary + previousSuffix }
func (s *site) recoverer() string   { return s.binary + ".upgrade" }
func (s *site) recoverUnit() string { return s.unitFile(systemd.Recover) }
func (s *site) recoverLink() string { return filepath.Join(s.recoverWants(), systemd.Recover) }
func (s *site) passing() []string {
	all := []string{s.gateLink(), s.gate(), s.recoverLink(), s.recoverUnit(), s.recoverer()}
	if s.cfg != nil {
		all = append(all, s.cfg.UpgradeMark())
	}
	return all
}

// recoverWants is the directory of what starts at boot.
func (s *site) recoverWants() string {
	if s.User {
		return s.unitFile("default.target.wants")
	}
	return s.unitFile("multi-user.target.wants")
}

// isPassing reports whether a step is about such a file.
func (s *site) isPassing(e host.Entry) bool {
	switch step := e.Step.(type) {
	case *host.File:
		return slices.Contains(s.passing(), step.Path)
	case *host.Link:
		return slices.Contains(s.passing(), step.Path)
	case *host.Dir:
		return step.Path == filepath.Dir(s.gateLink())
	}
	return false
}

// checkUpgrade judges whether there is something to upgrade, and whether this program knows the
// database.
func (s *site) checkUpgrade() {
	if !s.Upgrade {
		return
	}
	if s.unit == nil {
		s.problem("there is no appliance to upgrade: "+s.unitFile(systemd.Service)+" does not exist",
			"install it: appliance install; or run the command as the user who installed it (root: with sudo, or with --become over -H)")
		return
	}
	if s.cfg == nil {
		return
	}
	if s.rollback {
		s.checkRollback()
		return
	}
	if s.onServer() {
		return // see checkServer
	}
	have, err := schemaOf(s.Host, cmp.Or(s.databaseBefore, s.cfg.Database))
	switch {
	case notThere(err):
	case err != nil:
		s.fault(err, "see whether the database is whole: appliance verify")
	case have > s.Schema:
		s.problem(fmt.Sprintf("the database %s was written by a newer version (schema %d, this program knows %d)",
			s.cfg.Database, have, s.Schema), "upgrade with that version or a newer one, or go back: appliance upgrade --rollback")
	}
}

// checkRollback judges whether there is a way back.
func (s *site) checkRollback() {
	if ok, err := s.Host.Exists(s.previous()); err != nil || !ok || s.record == nil || s.record.Replaced == nil {
		s.problem("there is no earlier version to go back to: no upgrade has left "+s.previous(),
			"get that version's program, and try: appliance upgrade")
		return
	}
	if s.onServer() {
		s.checkServerRollback(s.record.Replaced.Server)
		return
	}
	if s.record.Replaced.Server != nil {
		s.problem("the version of before has served a database in PostgreSQL, and may not know this one",
			"put its program in the place of "+s.binary+" yourself, with the daemon stopped, if it does")
		return
	}
	if s.rewinds = s.record.Replaced.Copy; s.rewinds == "" {
		return
	}
	info, err := s.Host.Stat(filepath.Join(s.databaseDir(), s.rewinds))
	if err != nil {
		s.fault(fmt.Errorf("the database was migrated, and its copy of before cannot be read: %w", err),
			"bring back a backup of that version: appliance restore")
		return
	}
	s.loses = "the database was migrated: what was pushed, deleted or changed since " +
		info.Time.Format("2006-01-02 15:04:05") + " is lost"
}

// schemaOf reads the schema version out of the header of an SQLite database
// (https://www.sqlite.org/fileformat.html, section 1.3). A migration that is only in the WAL so far is
// not seen.
func schemaOf(h *host.Host, path string) (version int, err error) {
	f, err := h.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	head := make([]byte, 64)
	_, err = io.ReadFull(f, head)
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF): // SQLite takes it for a new one
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("read %s: %w", path, err)
	case string(head[:15]) != "SQLite format 3":
		return 0, nil // which the daemon refuses
	}
	return int(binary.BigEndian.Uint32(head[60:])), nil
}

// upgrade adds what comes before the new program, if it is another one.
func (b *builder) upgrade() error {
	if other, err := b.exchanges(); err != nil || !other {
		return err
	}
	program := b.Binary // which is to be this version or a newer one
	if b.rollback {
		program = b.Host.Path(b.binary)
	}
	if b.onServer() {
		return b.upgradeOnServer(program)
	}
	if err := b.recoverAtBoot(program); err != nil {
		return err
	}
	b.add(b.rootFile(b.cfg.UpgradeMark(), nil, 0o644))
	if b.rollback {
		b.goBack()
		return nil
	}
	b.guard.Run = upgradeRun // a plain install of another version
	b.migrates = &database{host: b.Host, Path: b.cfg.Database, Mark: b.cfg.UpgradeMark()}
	b.record.Replaced = &replaced{Version: b.record.Appliance}
	b.add(b.copyOf(b.Host.Path(b.binary), b.previous()), b.migrates)
	return nil
}

// recoverAtBoot has the next boot take back what follows, unless it is confirmed before.
func (b *builder) recoverAtBoot(program string) error {
	if err := b.directory(b.recoverWants(), b.mode(0o755, 0o700), b.admin, keep); err != nil {
		return err
	}
	b.recovery(program, b.recoverLink())
	return nil
}

// recovery adds the unit that takes back what was interrupted, with its program, and the link by which
// systemd starts it.
func (b *builder) recovery(program, link string) {
	unit := systemd.RecoverUnit(systemd.RecoverOptions{Program: b.recoverer(), QuayRoot: b.QuayRoot})
	b.add(b.copyOf(program, b.recoverer()), b.rootFile(b.recoverUnit(), unit, 0o644),
		&host.Link{Host: b.Host, Path: link, Target: b.recoverUnit()})
}

// copyOf is a copy of a program.
func (s *site) copyOf(from, to string) *host.File {
	return &host.File{Host: s.Host, Source: from, Path: to, Mode: 0o755, Owner: s.admin}
}

// goBack adds what a rollback does before the units: the program, and the database if it was migrated.
func (b *builder) goBack() {
	b.record.Replaced, b.guard.Run = &replaced{Version: b.Version}, rollbackRun
	b.add(b.copyOf(b.Host.Path(b.previous()), b.binary), b.copyOf(b.Host.Path(b.recoverer()), b.previous()))
	if b.rewinds != "" {
		b.rewound = &rewind{host: b.Host, Path: b.cfg.Database, Name: b.rewinds}
		b.add(&stop{bus: b.bus}, b.rewound)
	}
}

// stop has no daemon use the database.
type stop struct {
	action
	bus *bus
}

func (s *stop) String() string { return "stop " + systemd.Socket + " and " + systemd.Service }

func (s *stop) Apply(ctx context.Context) (bool, error) {
	return true, s.bus.Stop(ctx, systemd.Socket, systemd.Service)
}

// rewind puts a copy in the place of the database, which is put aside.
type rewind struct {
	host  *host.Host
	Path  string `json:"path"`
	Name  string `json:"name"`
	Aside string `json:"aside"` // Check sets it
}

func (s *rewind) String() string { return "put back the database " + s.Name }

// Check names the database that goes by its own schema, which the program that runs need not know.
func (s *rewind) Check(context.Context) (*host.Before, error) {
	schema, err := schemaOf(s.host, s.Path)
	if err != nil && !notThere(err) {
		return nil, err
	}
	if s.Aside = copyName(s.Path, schema); s.Aside == s.Name {
		return nil, nil // it has the schema of before
	}
	return &host.Before{Is: "database"}, nil
}

func (s *rewind) Apply(context.Context) (bool, error) {
	return true, swapDatabase(s.host, s.Path, s.Aside, s.Name)
}

func (s *rewind) Undo(context.Context, *host.Before) (bool, error) {
	aside, err := s.host.Exists(filepath.Join(filepath.Dir(s.Path), s.Aside))
	if err != nil || !aside {
		return false, err
	}
	return true, swapDatabase(s.host, s.Path, s.Name, s.Aside)
}

// swapDatabase puts a database that no daemon has open aside, and another in its place. One that is not
// there was put aside before.
func swapDatabase(h *host.Host, path, aside, name string) error {
	dir, err := h.OpenRoot(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	base := filepath.Base(path)
	if _, err := dir.Stat(base + "-wal"); err == nil {
		return hint.New(fmt.Errorf("%s-wal is still there: the daemon did not end in good order", path),
			"start it again, and repeat the command: systemctl start appliance")
	}
	for _, move := range [][2]string{{base, aside}, {name, base}} {
		if err := durable.IgnoreMissing(dir.Rename(move[0], move[1])); err != nil {
			return err
		}
	}
	return durable.SyncRoot(dir)
}

// confirm removes what is needed while an upgrade is under way. From then on the daemon writes.
type confirm struct {
	action
	bus   *bus
	host  *host.Host
	paths []string
}

func (s *confirm) String() string { return "" }

func (s *confirm) Apply(ctx context.Context) (changed bool, err error) {
	for _, path := range s.paths {
		removed, err := s.host.Remove(path)
		if changed = changed || removed; err != nil {
			return changed, err
		}
		if dir := filepath.Dir(path); removed && strings.HasSuffix(dir, systemd.Service+".wants") {
			if names, err := s.host.Names(dir); err == nil && len(names) == 0 { // else it was there before
				if _, err := s.host.Remove(dir); err != nil {
					return changed, err
				}
			}
		}
	}
	if changed {
		err = s.bus.Reload(ctx)
	}
	return changed, err
}

// database does nothing until it is undone: then the copy that the new version made before it migrated
// the database comes back.
type database struct {
	host *host.Host
	old  []string // copies of before
	// consented says that what was acknowledged since may be lost.
	consented bool
	Path      string `json:"path"`
	Mark      string `json:"mark"` // while it is there, no write was acknowledged
}

func (s *database) String() string { return "" }

// Check tells the copies that earlier migrations left.
func (s *database) Check(context.Context) (before *host.Before, err error) {
	s.old, err = s.copies()
	return &host.Before{Is: "database", Target: strings.Join(s.old, " ")}, err
}

func (s *database) Apply(context.Context) (bool, error) { return false, nil }

func (s *database) Undo(_ context.Context, before *host.Before) (bool, error) {
	name, err := s.made(strings.Fields(before.Target))
	if err != nil || name == "" {
		return false, err // it was not migrated
	}
	if trial, err := s.host.Exists(s.Mark); !s.consented && (err != nil || !trial) {
		return false, errors.Join(err, hint.New(
			fmt.Errorf("the database was migrated, and may have new images: it stays, and the copy of before is %s", name),
			"upgrade again, with a version that works; or go back without these images: appliance upgrade --rollback"))
	}
	return true, putDatabase(s.host, s.Path, name)
}

// made returns the name of the copy that is not among the old ones, "" if there is none.
func (s *database) made(old []string) (string, error) {
	copies, err := s.copies()
	for _, c := range copies {
		if !slices.Contains(old, c) {
			name, _, _ := strings.Cut(c, "?")
			return name, err
		}
	}
	return "", err
}

// copyName returns the name of the copy that the daemon makes of a database before it migrates it.
func copyName(path string, schema int) string {
	return fmt.Sprintf("%s.schema-%d.backup", filepath.Base(path), schema)
}

// copies lists the copies, each with its time.
func (s *database) copies() (all []string, err error) {
	dir := filepath.Dir(s.Path)
	names, err := s.host.Names(dir)
	for _, name := range names {
		var schema int
		if _, err := fmt.Sscanf(strings.TrimPrefix(name, filepath.Base(s.Path)), ".schema-%d.backup", &schema); err != nil || name != copyName(s.Path, schema) {
			continue
		}
		info, err := s.host.Stat(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		all = append(all, fmt.Sprintf("%s?%d", name, info.Time.UnixNano()))
	}
	return all, err
}

// putDatabase puts a copy, a file of the same directory, in the place of a database that no daemon has
// open.
func putDatabase(h *host.Host, path, name string) error {
	dir, err := h.OpenRoot(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	base := filepath.Base(path)
	for _, suffix := range []string{"-wal", "-shm"} { // of the database that goes; the copy has none
		if err := durable.IgnoreMissing(dir.Remove(base + suffix)); err != nil {
			return err
		}
	}
	if err := dir.Rename(name, base); err != nil {
		return err
	}
	return durable.SyncRoot(dir)
}

// Recover takes back an upgrade, or the beginning of an adoption, that a power cut has interrupted. It is
// for the unit that runs before the daemon. Of an adoption it stops the units of the appliance and begins
// to start those of the mirror-registry; of an upgrade it starts and stops none. progress gets a line for
// each thing that it did.
func Recover(ctx context.Context, r Request, d Deps, progress func(string)) error {
	s, err := newSite(r, d)
	if err != nil {
		return err
	}
	s.bus.booting, s.bus.needed = true, true
	if s.unit, err = find(s.Deps, s.User); err != nil && !isNotInstalled(err) { // yet, in an adoption
		return err
	}
	s.look()
	if _, err := s.newPlan(); err != nil {
		return err
	}
	if killed, err := s.awaitMove(ctx); err != nil || !killed {
		return err
	}
	if moves, _ := s.moving(); moves != nil && !s.journal.Done {
		return s.settle(ctx, progress)
	}
	if cfg, err := config.Parse(s.confPath(), s.content); err == nil { // else the undo knows where the mark is
		s.cfg = cfg
	}
	if err := s.bus.open(ctx); err != nil {
		return err
	}
	defer s.bus.close()
	if len(s.journal.Entries) > 0 && !s.journal.Done {
		progress("taking back what was interrupted")
		if s.adopting() { // the units may go, which systemd has begun to start
			if err := s.bus.Stop(ctx, systemd.Socket, systemd.Service); err != nil {
				return err
			}
		}
		if err := s.journal.Undo(ctx); err != nil {
			return err
		}
	}
	last := &confirm{bus: s.bus, host: s.Host, paths: s.passing()}
	_, err = last.Apply(ctx)
	return errors.Join(err, s.journal.Discard(ctx))
}
