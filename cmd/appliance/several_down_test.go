//go:build several

package main_test

import (
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
