package installer

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/ansible-free/host"
)

func (b *box) upgrade(r Request) error {
	b.t.Helper()
	p, err := PlanUpgrade(b.t.Context(), r, b.deps)
	if err == nil {
		_, err = p.Apply(b.t.Context(), nil)
	}
	return err
}

// newer makes the program to install another one.
func (b *box) newer() {
	b.write("program", "#!/bin/sh\n# newer\n")
	b.chmod("program", 0o755)
}

func TestPlanUpgrade_refuses(t *testing.T) {
	b := newBox(t, false)
	if err := b.upgrade(b.request()); err == nil || !strings.Contains(err.Error(), "there is no appliance to upgrade") {
		t.Errorf("without an install: %v", err)
	}
	taken := newBox(t, false)
	taken.write("proc/net/tcp", takenPort)
	if err := taken.upgrade(taken.request()); err == nil || strings.Contains(err.Error(), "in use") {
		t.Errorf("without an install, it judges the port for one: %v", err)
	}
	b.install()
	b.deps.Schema = 11
	header := "SQLite format 3\x00" + strings.Repeat("\x00", 44) + "\x00\x00\x00\x0c" + strings.Repeat("\x00", 40)
	b.write("root/quay-install/sqlite-storage/appliance.db", header)
	if err := b.upgrade(b.request()); err == nil || !strings.Contains(err.Error(), "newer version (schema 12, this program knows 11)") {
		t.Errorf("a newer database: %v", err)
	}
	if _, err := PlanRollback(t.Context(), b.request(), b.deps); err == nil || !strings.Contains(err.Error(), "no earlier version to go back to") {
		t.Errorf("a rollback: %v", err)
	}
}

// What an upgrade needs while it is under way goes, and the replaced program stays until the uninstall.
func TestPlanUpgrade(t *testing.T) {
	eachMode(t, func(t *testing.T, b *box) {
		clean := b.snapshot()
		b.install()
		b.newer()
		clean["/program"] = b.snapshot()["/program"]
		r := b.request()
		r.Hostname, r.Port = "other.example.com", 9443
		secret := strings.TrimPrefix(b.deps.Home, "/") + "/quay-install/quay-config/pull-secret.json"
		b.write(secret, `{"auths":{"registry.example.com:8443":{"auth":"eA=="}}}`)
		if err := b.upgrade(r); err != nil {
			t.Fatal(err)
		}
		for path := range b.snapshot() {
			name := filepath.Base(path)
			if strings.Contains(name, "recover") || strings.HasSuffix(name, ".upgrade") || name == "upgrade" || name == "undo" {
				t.Errorf("it has left %s", path)
			}
		}
		conf := strings.TrimPrefix(b.deps.Home, "/") + "/quay-install/quay-config/config.yaml"
		if text := b.read(conf); !strings.Contains(text, "\nport: 9443\n") || !strings.Contains(text, "hostname: other.example.com\n") {
			t.Errorf("config.yaml:\n%s", text)
		}
		if got := b.read(secret); got != `{"auths":{"other.example.com:9443":{"auth":"eA=="}}}`+"\n" {
			t.Errorf("the pull secret is %s", got)
		}
		b.uninstall(true)
		same(t, "after the uninstall", b.snapshot(), clean)
	})
}

// What an upgrade takes for a while is there before it begins: sizes that no disk has are of holes.
func TestPlanUpgrade_space(t *testing.T) {
	t.Parallel()
	const huge = 1 << 43
	header := "SQLite format 3\x00" + strings.Repeat("\x00", 44) + "\x00\x00\x00\x0b" + strings.Repeat("\x00", 40)
	database := "root/quay-install/sqlite-storage/appliance.db"
	for name, tc := range map[string]struct {
		schema int
		large  string
		want   string
	}{
		"nothing that is large":          {12, "", ""},
		"the program":                    {12, "program", "copies of the program"},
		"a database that is migrated":    {12, database, "a copy of the database before it is migrated"},
		"a database that is not":         {11, database, ""},
		"the program of the way back":    {12, "usr/local/bin/appliance.previous", "those for the way back"},
		"a program that is not replaced": {12, "usr/local/bin/appliance.upgrade", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBox(t, false)
			b.install()
			b.newer()
			b.deps.Schema = tc.schema
			b.write(database, header)
			b.write("usr/local/bin/appliance.previous", "")
			b.write("usr/local/bin/appliance.upgrade", "")
			if tc.large != "" {
				if err := os.Truncate(b.path(tc.large), huge); err != nil {
					t.Fatal(err)
				}
			}
			_, err := PlanUpgrade(t.Context(), b.request(), b.deps)
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// The copy of a database comes back while no write was acknowledged, and then never.
func TestDatabase_Undo(t *testing.T) {
	for name, confirmed := range map[string]bool{"on trial": false, "confirmed": true} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t, false)
			b.write("d/appliance.db", "old")
			b.write("d/appliance.db.schema-3.backup", "older")
			b.write("d/upgrade", "")
			step := &database{host: b.deps.Host, Path: "/d/appliance.db", Mark: "/d/upgrade"}
			before, err := step.Check(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if changed, err := step.Undo(t.Context(), before); changed || err != nil {
				t.Errorf("without a migration: %v, %v", changed, err)
			}
			b.write("d/appliance.db.schema-4.backup", "old")
			b.write("d/appliance.db", "new")
			b.write("d/appliance.db-wal", "new")
			if confirmed {
				if _, err := b.deps.Host.Remove("/d/upgrade"); err != nil {
					t.Fatal(err)
				}
			}
			_, err = (&database{host: b.deps.Host, Path: step.Path, Mark: step.Mark}).Undo(t.Context(), before) // by another process
			want := "old"
			if confirmed {
				want = "new"
			}
			if got := b.read("d/appliance.db"); got != want || (err != nil) != confirmed {
				t.Errorf("the database is %s, %v", got, err)
			}
			if wal, err := b.deps.Host.Exists("/d/appliance.db-wal"); err != nil || wal != confirmed {
				t.Errorf("its log is there: %v, %v", wal, err)
			}
		})
	}
}

func TestSwapDatabase(t *testing.T) {
	b := newBox(t, false)
	b.write("d/db", "new")
	b.write("d/old", "old")
	b.write("d/db-wal", "x")
	if err := swapDatabase(b.deps.Host, "/d/db", "aside", "old"); err == nil || b.read("d/db") != "new" {
		t.Errorf("over a log: %v", err)
	}
	if _, err := b.deps.Host.Remove("/d/db-wal"); err != nil {
		t.Fatal(err)
	}
	step := &rewind{host: b.deps.Host, Path: "/d/db", Name: "old", Aside: "aside"}
	before := &host.Before{}
	if _, err := step.Apply(t.Context()); err != nil || b.read("d/db") != "old" {
		t.Error(err)
	}
	for range 2 {
		if _, err := step.Undo(t.Context(), before); err != nil || b.read("d/db") != "new" || b.read("d/old") != "old" {
			t.Error(errors.Join(err, errors.New(b.read("d/db"))))
		}
	}
}

// The database that a rollback puts aside goes by its own schema: the program that runs may be another one.
func TestRewind_Check(t *testing.T) {
	b := newBox(t, false)
	header := func(schema string) string {
		return "SQLite format 3\x00" + strings.Repeat("\x00", 44) + "\x00\x00\x00" + schema + strings.Repeat("\x00", 40)
	}
	b.write("d/db", header("\x0c"))
	step := &rewind{host: b.deps.Host, Path: "/d/db", Name: "db.schema-11.backup"}
	if before, err := step.Check(t.Context()); before == nil || err != nil || step.Aside != "db.schema-12.backup" {
		t.Errorf("%v, %v: it goes to %s", before, err, step.Aside)
	}
	b.write("d/db", header("\x0b"))
	if before, err := step.Check(t.Context()); before != nil || err != nil {
		t.Errorf("one that was not migrated: %v, %v", before, err)
	}
}
