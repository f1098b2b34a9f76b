package postgres

import (
	"context"
	"crypto/tls"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/mirror-appliance/appliance/internal/diskspace"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/pgurl"
	"github.com/mirror-appliance/appliance/registry/store/database"
)

// ownedError reports that another process has taken the database, or has it.
type ownedError struct {
	name    string
	lost    bool   // it was ours
	several bool   // this process has the database with others
	hosts   string // of the processes that have it, "" where that is not known
}

func (e *ownedError) Error() string {
	if e.lost {
		return "another appliance has taken the database " + e.name + " while the connection to it was lost"
	}
	if e.hosts != "" {
		return "the database " + e.name + " is in use by the appliance on " + e.hosts
	}
	return "the database " + e.name + " is in use by another appliance"
}

// Hint returns the next step.
func (e *ownedError) Hint() string {
	if e.lost {
		return "stop one of the two, then restart the other: one database serves one appliance at a time"
	}
	if e.several {
		return "stop the other appliance, or give it the same sharedKey in config.yaml as this one, and start it again: one without sharedKey, and each command that is to have the database alone, keeps all others out; see appliance docs several"
	}
	return "type a command at that host, while its daemon runs; what needs the database alone, also a daemon without sharedKey in config.yaml, needs all others stopped (appliance docs several); in PostgreSQL, SELECT pid, application_name, client_addr FROM pg_stat_activity tells where they run"
}

// Unwrap makes it a *database.LockedError.
func (e *ownedError) Unwrap() error { return &database.LockedError{Path: e.name} }

// conflict reports whether a transaction is to run again.
func conflict(err error) bool {
	code := codeOf(err)
	return code == "40001" || code == "40P01"
}

// lasting reports whether an error of a connection is one that waiting does not end.
func lasting(err error) bool {
	code := codeOf(err)
	return strings.HasPrefix(code, "28") || code == "3D000" || errors.As(err, new(*loginError)) || errors.As(err, new(*tls.CertificateVerificationError))
}

// codeOf returns the code of an error of the server, "" for others.
func codeOf(err error) string {
	var from *pgconn.PgError
	if errors.As(err, &from) {
		return from.Code
	}
	return ""
}

// typed returns an error of the driver as one of the database's types.
func (s *server) typed(ctx context.Context, err error) error {
	if err == nil || err == io.EOF || errors.Is(err, driver.ErrSkip) || errors.Is(err, driver.ErrBadConn) {
		return err
	}
	if errors.As(err, new(*database.UnavailableError)) || errors.As(err, new(*database.LockedError)) ||
		errors.As(err, new(*database.NotDatabaseError)) || errors.As(err, new(*database.CorruptError)) {
		return err // as this package made it
	}
	if ended := ctx.Err(); ended != nil {
		return fmt.Errorf("%w: %v", ended, err)
	}
	unavailable := func(next string) error {
		return &database.UnavailableError{Database: s.name, Next: next, Err: err}
	}
	var login *loginError
	if errors.As(err, &login) {
		return unavailable(login.next)
	}
	if errors.As(err, new(*tls.CertificateVerificationError)) {
		return unavailable("let sslrootcert= in `database:` of config.yaml name the certificate of the CA that signs the server's, and the host be a name in that certificate")
	}
	var superseded *database.SupersededError
	if errors.As(err, &superseded) {
		return unavailable(superseded.Hint())
	}
	var outdated *outdatedError
	if errors.As(err, &outdated) {
		return unavailable(outdatedHint)
	}
	if errors.As(err, new(*unsureError)) {
		return unavailable("try again; at the server a write waits until a synchronous standby has it: to let writes go on without one, change synchronous_standby_names")
	}
	code := codeOf(err)
	switch code {
	case "":
		if silent := s.watch.failure(); silent != nil {
			err = silent // and not that the connection was ended
		}
		return unavailable(s.unreachable())
	case "53100":
		return hint.New(&diskspace.FullError{Path: "PostgreSQL's disk of " + s.name, Err: err},
			"free space at the server of the database, whose disk is full")
	case "53300":
		return unavailable("raise max_connections of PostgreSQL, or the CONNECTION LIMIT of the user or the database, or see in pg_stat_activity which program has the connections; a daemon takes up to 8, and one of several up to 14")
	case "25006": // a standby, after a failover
		return unavailable("let `database:` in config.yaml name all hosts that may become the primary, and see whether one of them was promoted; the appliance finds it by itself")
	case leaseEnded:
		s.leaseEnded()
		return unavailable("try again: this daemon had no connection to the database for so long that others took over what it was doing")
	case "40001", "40P01":
		return unavailable("try again: the transaction ran at the same time as others")
	case "XX001", "XX002":
		return s.damaged(err)
	case "28P01", "28000":
		return unavailable("check the user in `database:` of config.yaml, the password (PGPASSWORD in the environment, else the file that passfile= or PGPASSFILE names), and pg_hba.conf of the server")
	case "3D000":
		return unavailable(createHint)
	case "42501":
		return hint.New(fmt.Errorf("the user of the database %s may not do this: %w", s.name, err),
			"let the user own the database: ALTER DATABASE … OWNER TO …")
	}
	if code == "25P03" || strings.HasPrefix(code, "57P") || strings.HasPrefix(code, "08") || strings.HasPrefix(code, "53") {
		return unavailable("see whether PostgreSQL is starting or stopping; requests work again when it does")
	}
	return fmt.Errorf("database %s: %w", s.name, err)
}

// unreachable is the next step while the server does not answer: only a daemon connects again.
func (s *server) unreachable() string {
	if s.options.Starting != nil {
		return pgurl.Again
	}
	return pgurl.Unreachable
}

// unsureError reports a commit with a warning: an administrator has ended its wait for a synchronous standby, and a
// fail-over would lose it.
type unsureError struct{ warning *pgconn.Notice }

func (e *unsureError) Error() string {
	return "a write is committed at the primary alone: " + e.warning.Message
}

// settingError reports a setting of the server with which the database is not used.
type settingError struct{ what, next string }

func (e *settingError) Error() string { return e.what }

// Hint returns the next step.
func (e *settingError) Hint() string { return e.next }

const createHint = `create it with the collation C: CREATE DATABASE appliance OWNER … TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'`

const damagedHint = "restore PostgreSQL's database from its own backup; mind what dmesg of its server says of the disk"

// DamageIn returns the part of err that reports damage of the database, or nil.
func (db *DB) DamageIn(err error) error {
	var corrupt *database.CorruptError
	if errors.As(err, &corrupt) {
		return corrupt.Err
	}
	return nil
}

// damaged records damage.
func (s *server) damaged(err error) error {
	e := &database.CorruptError{Path: s.name, Err: err, Next: damagedHint}
	if s.damage.CompareAndSwap(nil, e) {
		s.log.Error("the database is damaged", "database", s.name, "error", err, "remedy", e.Hint())
	}
	return e
}

// Damaged records damage that a reader of rows finds and PostgreSQL does not.
func (db *DB) Damaged(err error) error { return db.server.damaged(err) }

// Damage returns a *database.CorruptError if the database was found damaged since Open, and nil
// otherwise.
func (db *DB) Damage() error {
	if e := db.server.damage.Load(); e != nil {
		return e
	}
	return nil
}
