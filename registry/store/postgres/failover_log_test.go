//go:build postgres

package postgres

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/plain"
	"github.com/mirror-appliance/appliance/registry/store/database"
)

// lines are those of a log, as a daemon writes them.
type lines struct {
	mu  sync.Mutex
	all []string
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, string(p))
	return len(p), nil
}

// take returns the lines since the last call.
func (l *lines) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := l.all
	l.all = nil
	return all
}

func (l *lines) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{ReplaceAttr: plain.Attr}))
}

// busy has all connections of a database open.
func (s *servers) busy(db *DB) {
	s.t.Helper()
	var open []*sql.Conn
	for range readers {
		c, err := db.Reader().Conn(s.ctx)
		must(s.t, err)
		open = append(open, c)
	}
	for _, c := range open {
		must(s.t, c.Close())
	}
	s.read(db)
}

// read reads until that works.
func (s *servers) read(db *DB) {
	s.t.Helper()
	for {
		_, err := database.Column[string](s.ctx, db.Reader(), `SELECT name FROM notes`)
		if err == nil {
			return
		}
		if !errors.As(err, new(*database.UnavailableError)) {
			s.t.Fatal(err)
		}
	}
}

// A fail-over in which the primary dies has a line of the new one, and none of an old one.
func TestFailOver_log(t *testing.T) {
	for name, several := range map[string]bool{"one daemon": false, "one of several": true} {
		t.Run(name, func(t *testing.T) {
			s := newServers(t)
			s.options.Several = several
			var log lines
			s.options.Log = log.logger()
			db := s.open()
			s.write(db, "before")
			s.busy(db)
			if got := log.take(); len(got) != 0 {
				t.Errorf("before: %q", got)
			}
			must(t, s.primary.Kill())
			must(t, s.standby.Promote(s.ctx))
			s.write(db, "after")
			s.busy(db)
			if several {
				must(t, db.Renew(s.ctx))
			}
			var got []string
			for _, line := range log.take() {
				if !strings.Contains(line, "could not renew the lease") { // if it was renewed in between
					got = append(got, line)
				}
			}
			if len(got) != 1 || !strings.Contains(got[0], "level=INFO msg=\"the database has a new primary\" host=/") || !strings.Contains(got[0], "timeline=2 before=1") {
				t.Errorf("the lines are %q", got)
			}
		})
	}
}

// An old primary that still answers is told of once, with its name, whichever host of the address it is.
func TestFailOver_logOfAnOldPrimary(t *testing.T) {
	s := newServers(t)
	s.options.Address = s.standby.Both(s.primary, s.name) // the primary is named last
	var log lines
	s.options.Log = log.logger()
	db := s.open()
	s.write(db, "before")
	s.busy(db)
	must(t, s.primary.Exec(s.ctx, `ALTER SYSTEM RESET synchronous_standby_names`, `SELECT pg_reload_conf()`))
	must(t, s.standby.Promote(s.ctx)) // while the primary lives
	db.reader.SetMaxIdleConns(0)      // the next read connects
	s.read(db)
	s.write(db, "after")
	s.read(db)
	got := log.take()
	dir := func(address string) string {
		_, rest, _ := strings.Cut(address, "host=")
		first, _, _ := strings.Cut(rest, ",")
		return first
	}
	old := dir(s.primary.Both(s.standby, s.name))
	if len(got) != 2 || !strings.Contains(got[0], "has a new primary") || !strings.Contains(got[1], "level=WARN msg=\"the connections to an old primary of the database are ended\" server=\"unix "+old) ||
		!strings.Contains(got[1], "it has timeline 1") || !strings.Contains(got[1], "pg_rewind") || strings.Contains(got[1], plainCut) {
		t.Errorf("the lines are %q", got)
	}
}

// plainCut is where a field is cut that is too long.
const plainCut = "..."

// An error names each host with its own reason, and is whole in a log.
func TestFailOver_errorsNameTheHosts(t *testing.T) {
	s := newServers(t)
	var log lines
	o := s.options
	o.Log = log.logger()
	must(t, s.primary.Halt())
	_, err := Open(s.ctx, o)
	var down *database.UnavailableError
	if !errors.As(err, &down) {
		t.Fatal(err)
	}
	for _, of := range []string{"no such file or directory", "the server is a standby", ",/"} {
		if !strings.Contains(err.Error(), of) {
			t.Errorf("the error is %v, without %q", err, of)
		}
	}
	if strings.ContainsAny(err.Error(), "\n`") || hint.Of(err) == "" {
		t.Errorf("the error is %q, hint %q", err, hint.Of(err))
	}
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	o.Starting = ctx
	opened := make(chan struct{})
	go func() {
		defer close(opened)
		if db, err := Open(s.ctx, o); err == nil {
			_ = db.Close()
		}
	}()
	got := log.take()
	for ; len(got) == 0; got = log.take() {
		time.Sleep(10 * time.Millisecond)
	}
	if strings.Contains(got[0], plainCut) || !strings.Contains(got[0], "waiting for the database") {
		t.Errorf("the line is %s", got[0])
	}
	cancel()
	<-opened
	must(t, s.primary.Begin(s.ctx))
}
