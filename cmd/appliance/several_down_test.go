//go:build several

package main_test

import (
	"net/url"
	"strings"
	"testing"
)

// Commands tell of a daemon whose database does not answer.
func TestSeveral_databaseIsDown(t *testing.T) {
	f := newTogether(t, 2)
	must(t, f.rows.Halt())
	d := f.daemons[1]
	code, stdout, stderr := outcome(t, d.command("status"))
	if code != 0 || stderr != "" {
		t.Errorf("status: exit code %d\n%s", code, stderr)
	}
	server, _, _ := strings.Cut(d.cfg.DatabaseName(), "?")
	contains(t, stdout, "healthy       no: auth database; see below\n", "version       ", "certificate   until ", "held          not known\n", "last gc       not known\n",
		"trouble: the database postgres://appliance@", " is not available: ", "hint: ", "pg_isready", "connects again by itself")
	code, stdout, _ = outcome(t, d.command("doctor"))
	if code != 1 || strings.Contains(stdout, "restore") || strings.Contains(stdout, "no collection") {
		t.Errorf("doctor: exit code %d\n%s", code, stdout)
	}
	contains(t, stdout, "FAILED   database    "+server, "pg_isready", "FAILED   health      auth: users cannot be looked up without the database")
	must(t, f.rows.Begin(t.Context()))
	for _, d := range f.daemons {
		d.stop(t)
	}
}

// A daemon that reaches only the old primary of PostgreSQL tells once that it is one, whatever of it has found that.
func TestSeveral_oldPrimary(t *testing.T) {
	f := newTogether(t, 1)
	old := f.daemons[0]
	at, err := url.Parse(f.server)
	must(t, err)
	name := strings.TrimPrefix(at.Path, "/")
	standby, err := f.rows.Standby(t.Context())
	must(t, err)
	t.Cleanup(func() { must(t, standby.Stop()) })
	must(t, f.rows.Until(t.Context(), `SELECT coalesce(bool_and(replay_lsn = pg_current_wal_lsn()), false) FROM pg_stat_replication`))
	must(t, standby.Promote(t.Context()))
	f.server = standby.Both(standby, name)
	now := f.host(t, true)
	now.start(t)
	eventuallyHolds(t, "the daemon at the old primary tells that the database and the certificate are not to be had", func() bool {
		status, err := old.admin.Status(t.Context())
		must(t, err)
		return !status.Healthy && strings.Contains(old.said.String(), "the certificate that the daemons share is not followed")
	})
	code, stdout, stderr := outcome(t, old.command("status"))
	if code != 0 || stderr != "" || strings.Count(stdout, "old primary with timeline 1") != 1 || strings.Count(stdout, "trouble: ") != 1 || strings.Count(stdout, "hint: ") != 1 {
		t.Errorf("status: exit code %d\n%s%s", code, stdout, stderr)
	}
	contains(t, stdout, "healthy       no: auth database; see below\n", "pg_rewind")
	code, stdout, _ = outcome(t, old.command("doctor"))
	if code != 1 || strings.Count(stdout, "old primary with timeline 1") != 1 {
		t.Errorf("doctor: exit code %d\n%s", code, stdout)
	}
	for line := range strings.Lines(old.said.String()) {
		if strings.Contains(line, "what other daemons of this store have decided cannot be read") && strings.Count(line, "old primary with timeline 1") != 1 {
			t.Errorf("the log has %s", line)
		}
	}
	now.stop(t)
	old.kill() // since it cannot close its database
}
