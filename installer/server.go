package installer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/mirror-appliance/appliance/ansible-free/host"
	"github.com/mirror-appliance/appliance/internal/hint"
)

// An upgrade with the database in PostgreSQL copies no database: other hosts may write to it meanwhile.
// As long as the new program has not migrated it, the program of before can come back, and no write is
// lost by that: so none has to wait either, and there is no mark. Once it is migrated, the program of
// before cannot use it, and the new one stays, whatever becomes of it.

// Server is a database in PostgreSQL as a program sees it.
type Server struct {
	Have    Schema   // of the database
	Known   Schema   // of the program that runs
	Daemons []string // HOST (process N) of all that have the database open, this host's too
}

// Schema is what a database in PostgreSQL has been made by.
type Schema struct {
	Version int    `json:"version"`        // of the tables that every engine has
	Own     int    `json:"own"`            // of those that PostgreSQL alone has
	Made    string `json:"made,omitempty"` // names the functions and triggers, which each version of the program makes anew
}

func (s Schema) String() string { return fmt.Sprintf("%d.%d", s.Version, s.Own) }

// sameTables reports whether a program that knows one schema can use a database with the other.
func (s Schema) sameTables(other Schema) bool {
	return s.Version == other.Version && s.Own == other.Own
}

// lacks reports whether a program that knows other has tables that a database with s lacks.
func (s Schema) lacks(other Schema) bool { return s.Version < other.Version || s.Own < other.Own }

// server stands for the database in a journal. It changes nothing, and has what was there before.
type server struct {
	Name string  `json:"name"`
	From Schema  `json:"from"`
	To   Schema  `json:"to"`            // of the program that is to serve
	Was  *Schema `json:"was,omitempty"` // of the one that is replaced; nil: it does not run, and so its schema is not known
}

func (s *server) String() string {
	if s.migrates() {
		return "have the new program migrate the database " + s.Name + ", which is not copied"
	}
	return "leave the database " + s.Name + " as it is: it has the tables of the program, and is not copied"
}

func (s *server) migrates() bool { return s.From.lacks(s.To) }

func (s *server) Check(context.Context) (*host.Before, error) { return &host.Before{}, nil }

func (s *server) Apply(context.Context) (bool, error) { return false, nil }

func (s *server) Undo(context.Context, *host.Before) (bool, error) { return false, nil }

// lookAtServer has the database looked at if another program is to serve.
func (s *site) lookAtServer(ctx context.Context) {
	if s.cfg == nil || !s.onServer() || len(s.fatal()) > 0 {
		return
	}
	if other, err := s.exchanges(); !other || err != nil {
		return // planning the steps tells an error
	}
	looked, err := s.LookAtServer(ctx, s.confPath())
	if err != nil {
		s.fault(fmt.Errorf("look at the database before anything is changed: %w", err), "see what the daemon says: appliance doctor")
		return
	}
	s.looked = &looked
}

// others returns the daemons that have the database, besides that of this host's service.
func (s *site) others() (names []string) {
	own, err := os.Hostname()
	if err == nil {
		own = fmt.Sprintf("%s (process %d)", own, s.pid)
	}
	return slices.DeleteFunc(slices.Clone(s.looked.Daemons), func(name string) bool { return name == own })
}

// checkServer judges whether the program can have the database, and what that means for others.
func (s *site) checkServer() {
	d := s.looked
	if d == nil {
		return
	}
	name, others := s.cfg.DatabaseName(), s.others()
	switch {
	case s.rollback: // see checkRollback
	case d.Known.lacks(d.Have):
		s.problem(fmt.Sprintf("the database %s was migrated by a newer version (schema %s, this program knows %s)", name, d.Have, d.Known),
			"upgrade with that version or a newer one")
	case len(others) > 0 && !s.cfg.Shared():
		s.problem(fmt.Sprintf("the database %s is in use by the appliance on %s, and config.yaml has no sharedKey", name, strings.Join(others, ", ")),
			"stop that one, or give all of them a key: appliance docs several")
	case len(others) > 0 && d.Have != d.Known:
		s.problem(fmt.Sprintf("this version changes the database %s, and daemons of another version have it: %s", name, strings.Join(others, ", ")),
			s.stopOthers())
	case d.Have.lacks(d.Known):
		s.warn(fmt.Sprintf("the database %s is migrated (schema %s to %s) and not copied: an older program cannot use it then", name, d.Have, d.Known),
			"copy it before: "+s.dump()+"; appliance docs database tells the way back")
	}
}

func (s *site) stopOthers() string {
	return "copy it: " + s.dump() + "; stop the others (on each host: systemctl stop appliance.socket appliance), upgrade this host, then upgrade them: appliance docs several"
}

// dump returns the command that copies the database.
func (s *site) dump() string {
	return hint.Words("pg_dump", "-Fc", "-f", "appliance.dump", "-d", s.cfg.DatabaseServer())
}

// restore returns the way back from a database that was migrated.
func (s *site) restore() string {
	return "to go back, stop all daemons of the database, restore a dump of before into an empty one (" +
		hint.Words("pg_restore", "--no-owner", "-d", s.cfg.DatabaseServer(), "appliance.dump") + "), then: appliance upgrade --rollback"
}

// checkServerRollback judges whether the program of before can use the database.
func (s *site) checkServerRollback(was *Schema) {
	d := s.looked
	if d == nil {
		return // why is a problem already, or nothing is exchanged
	}
	name, others := s.cfg.DatabaseName(), s.others()
	switch {
	case was == nil: // other hosts may have migrated the database before it was replaced
		s.warn(fmt.Sprintf("whether the version of before can use the database %s (schema %s) is not known: it did not run when it was replaced", name, d.Have),
			"go on: if it cannot, it does not become healthy, and the program of now comes back")
	case !d.Have.sameTables(*was):
		s.problem(fmt.Sprintf("the database %s was migrated since (schema %s to %s), and the version of before cannot use it", name, was, d.Have),
			s.restore())
	case len(others) > 0 && (d.Have != *was || !s.cfg.Shared()):
		s.problem(fmt.Sprintf("daemons of another version than that of before have the database %s: %s", name, strings.Join(others, ", ")),
			"stop them (on each host: systemctl stop appliance.socket appliance), then go back on each")
	}
}

// upgradeOnServer adds what an upgrade or a rollback does before the new program, where the database is in
// PostgreSQL.
func (b *builder) upgradeOnServer(program string) error {
	step := &server{Name: b.cfg.DatabaseName(), From: b.looked.Have, To: b.looked.Known}
	if b.rollback {
		step.To = step.From
	}
	killed := b.servers()
	switch {
	case len(killed) > 0 && b.exchanged():
		step.Was = &killed[len(killed)-1].To
	case len(b.others()) < len(b.looked.Daemons): // this host's daemon serves it
		step.Was = &step.From
	}
	// At boot the database may not answer yet, and the program of before must not come back once it is migrated.
	if migrate(append(killed, step)) {
		b.add(&host.Remove{Host: b.Host, Path: b.recoverLink()})
	} else if err := b.recoverAtBoot(program); err != nil {
		return err
	}
	b.add(step)
	if b.rollback {
		b.goBack()
		b.record.Replaced.Server = step.Was
		return nil
	}
	b.guard.Run = upgradeRun // a plain install of another version
	b.record.Replaced = &replaced{Version: b.record.Appliance, Server: step.Was}
	b.add(b.copyOf(b.Host.Path(b.binary), b.previous()))
	return nil
}

// servers returns what the journal has of the database: that of a run that was killed, and of those that completed it,
// perhaps with other programs.
func (s *site) servers() (all []*server) {
	for _, e := range s.journal.Entries {
		if step, ok := e.Step.(*server); ok {
			all = append(all, step)
		}
	}
	return all
}

// migrate reports whether one of the programs of several runs migrates the database as the first found it.
func migrate(runs []*server) bool {
	return slices.ContainsFunc(runs, func(run *server) bool { return runs[0].From.lacks(run.To) })
}

// migratedServer returns an error that tells that the new program stays, since the database was migrated
// for it, or may have been.
func (s *site) migratedServer(ctx context.Context) error {
	runs := s.servers()
	if !migrate(runs) || !s.exchanged() {
		return nil
	}
	before := runs[0]
	now, err := s.LookAtServer(ctx, s.confPath())
	switch {
	case err != nil:
		err = fmt.Errorf("the new program stays: whether it has migrated the database %s cannot be seen: %w", before.Name, err)
	case now.Have.sameTables(before.From):
		return nil
	default:
		err = fmt.Errorf("the new program stays: it has migrated the database %s (schema %s to %s), which the one of before cannot use",
			before.Name, before.From, now.Have)
	}
	return hint.New(err, "when the cause is removed, run the same command again; "+s.restore())
}

// exchanged reports whether a journal has come to the new program, which systemd may have started since.
func (s *site) exchanged() bool {
	return slices.ContainsFunc(s.journal.Entries, func(e host.Entry) bool {
		file, ok := e.Step.(*host.File)
		return ok && file.Path == s.binary
	})
}

// stay completes an upgrade whose daemon is not healthy and whose database was migrated: why is the reason.
func (p *Plan) stay(ctx context.Context, why error) error {
	last := &confirm{bus: p.site.bus, host: p.site.Host, paths: p.site.passing()}
	_, err := last.Apply(ctx)
	return errors.Join(why, p.journal.Finish(), p.site.writeRecord(ctx, p.steps), err, p.journal.Discard(ctx))
}
