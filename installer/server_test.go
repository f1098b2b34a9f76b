package installer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/systemd"
)

const (
	onPostgres = "postgres://app@db.example.com:5432/app?sslmode=verify-full"
	inS3       = "s3://images?endpoint=https://s3.example.com"
)

// common is a database in PostgreSQL as the host of a test has it. Programs are told by a word of theirs.
type common struct {
	box     *box
	have    Schema
	knows   map[string]Schema // by the word
	unwell  string            // the word of a program whose daemon does not become healthy
	keeps   bool              // and does not come to migrate either
	daemons []string          // of other hosts
	fails   error             // it cannot be looked at
	stopped bool              // this host's daemon does not have it
	looked  int
}

var (
	schemaOne = Schema{Version: 14, Own: 3, Made: "one"}
	schemaTwo = Schema{Version: 15, Own: 3, Made: "two"}
)

// secondOnServer returns a host with its database in PostgreSQL, whose program is to be upgraded to a second one.
func secondOnServer(t *testing.T) (*box, *common) {
	t.Helper()
	b := newBox(t, false)
	b.another("first")
	b.install()
	c := b.onServer()
	b.another("second")
	return b, c
}

// onServer moves the content of an installed appliance to PostgreSQL and S3, as docs/several.md says.
func (b *box) onServer() *common {
	b.t.Helper()
	b.edit("\ndatabase: ", "\ndatabase: "+onPostgres+" #")
	b.edit("\nstorage: ", "\nstorage: "+inS3+" #")
	b.edit("\nsharedKey: \"\"", "\nsharedKey: /etc/appliance/shared-key")
	b.write("etc/appliance/shared-key", "key")
	b.sm.pid = uint32(os.Getpid())
	c := &common{box: b, have: schemaOne, knows: map[string]Schema{"first": schemaOne}}
	b.deps.LookAtServer = c.look
	b.deps.Health = c.health
	return c
}

// ledTo checks what a run has led to: a program, and an error that has a text, or with "" none.
func (b *box) ledTo(program string, err error, text string) {
	b.t.Helper()
	if (err == nil) != (text == "") || err != nil && !strings.Contains(err.Error(), text) {
		b.t.Errorf("the error is %v, want %q", err, text)
	}
	if !strings.Contains(b.program(), program) {
		b.t.Errorf("it leads to %q, want %q", b.program(), program)
	}
}

func (c *common) of(program string) Schema {
	for word, schema := range c.knows {
		if strings.Contains(program, word) {
			return schema
		}
	}
	return schemaOne
}

func (c *common) look(context.Context, string) (Server, error) {
	c.looked++
	own, err := os.Hostname()
	if err != nil || c.fails != nil {
		return Server{}, errors.Join(err, c.fails)
	}
	at := Server{Have: c.have, Known: c.of(c.box.read("program")), Daemons: slices.Clone(c.daemons)}
	if !c.stopped {
		at.Daemons = append(at.Daemons, fmt.Sprintf("%s (process %d)", own, os.Getpid()))
	}
	return at, nil
}

// health is that of the daemon, which migrates the database when it starts.
func (c *common) health(context.Context, *config.Config) error {
	program := c.box.sm.runs[systemd.Service]
	unwell := c.unwell != "" && strings.Contains(program, c.unwell)
	switch knows := c.of(program); {
	case !c.box.sm.active[systemd.Service]:
		return errors.New("connection refused")
	case knows.lacks(c.have):
		c.box.sm.restarts++ // it ends, and systemd starts it again
		return errors.New("the database was written by a newer version")
	case !unwell || !c.keeps:
		c.have = knows
	}
	if unwell {
		c.box.sm.restarts++
		return errors.New("it is unwell")
	}
	return nil
}

// An upgrade replaces the program and leaves the database and what is left of the old content alone; a rollback goes back.
func TestPlanUpgrade_onAServer(t *testing.T) {
	eachMode(t, func(t *testing.T, b *box) {
		clean := b.snapshot()
		b.another("first")
		b.install()
		c := b.onServer()
		before := b.snapshot()
		b.another("second")
		c.knows["second"] = Schema{Version: 14, Own: 3, Made: "two"}
		if err := b.upgrade(b.request()); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(b.program(), "second") || c.have != c.knows["second"] {
			t.Errorf("it has left %q, and the database with %v", b.program(), c.have)
		}
		after := b.snapshot()
		for path, was := range before {
			if strings.Contains(path, "-storage") && after[path] != was {
				t.Errorf("%s was %s and is %s", path, was, after[path])
			}
		}
		for path := range after {
			if strings.Contains(path, "s3:") || strings.Contains(path, "recover") || strings.HasSuffix(path, "/undo") || strings.HasSuffix(path, "/run/upgrade") {
				t.Errorf("it has left %s", path)
			}
		}
		c.daemons = []string{"b.example.com (process 7)"}
		if err := b.rollback(); err == nil || !strings.Contains(err.Error(), "b.example.com (process 7)") {
			t.Errorf("a rollback while another daemon runs: %v", err)
		}
		c.daemons = nil
		b.ledTo("first", b.rollback(), "")
		b.ledTo("second", b.rollback(), "")
		p, err := PlanUninstall(t.Context(), Request{User: b.user, RemoveContent: true}, b.deps)
		if err != nil {
			t.Fatal(err)
		}
		if want := []string{"the database postgres://app@db.example.com:5432/app", "the bucket " + inS3}; !slices.Equal(p.Elsewhere, want) {
			t.Errorf("an uninstall leaves %q", p.Elsewhere)
		}
		for _, w := range p.Warnings {
			t.Errorf("an uninstall warns of %q", w.What)
		}
		b.uninstall(true)
		clean["/program"], clean["/etc/appliance"], clean["/etc/appliance/shared-key"] = b.snapshot()["/program"], before["/etc/appliance"], before["/etc/appliance/shared-key"]
		same(t, "after the uninstall", b.snapshot(), clean)
	})
}

// The CA and the login of nodes stay with the content that is elsewhere.
func TestUninstall_keepsWithAServer(t *testing.T) {
	b := newBox(t, false)
	b.install()
	b.onServer()
	for _, name := range []string{"quay-storage", "sqlite-storage"} {
		if err := os.RemoveAll(b.path("root/quay-install/" + name)); err != nil {
			t.Fatal(err)
		}
	}
	b.uninstall(false)
	for _, name := range []string{"quay-rootCA/rootCA-key.pem", "quay-config/pull-secret.json"} {
		if !exists(b.path("root/quay-install/" + name)) {
			t.Errorf("%s has gone", name)
		}
	}
}

// A plan that migrates the database warns that an older program cannot use it afterwards.
func TestPlanUpgrade_migratesAServer(t *testing.T) {
	b, c := secondOnServer(t)
	c.knows["second"] = schemaTwo
	p, err := PlanUpgrade(t.Context(), b.request(), b.deps)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := p.Pending(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if text := strings.Join(lines, "\n"); !strings.Contains(text, "migrate the database postgres://app@db.example.com:5432/app, which is not copied") || strings.Contains(text, "recover") {
		t.Errorf("the plan:\n%s", text)
	}
	found := false
	for _, w := range p.Warnings {
		found = found || strings.Contains(w.What, "schema 14.3 to 15.3) and not copied: an older program cannot use it") &&
			strings.Contains(w.Remedy, "pg_dump -Fc -f appliance.dump -d '"+onPostgres+"'")
	}
	if !found {
		t.Errorf("it warns of %v", p.Warnings)
	}
	if err := b.upgrade(b.request()); err != nil || c.have != schemaTwo {
		t.Fatalf("%v: the database has %v", err, c.have)
	}
	b.ledTo("second", b.rollback(), "was migrated since (schema 14.3 to 15.3)")
	c.have, c.stopped = schemaOne, true // by pg_restore
	b.ledTo("first", b.rollback(), "")
	c.stopped = false
	if p, err := PlanRollback(t.Context(), b.request(), b.deps); err != nil || !warns(p, "schema 14.3) is not known") {
		t.Errorf("%v: a way forth to a version that did not run warns of %v", err, p)
	}
}

// A version that needs no other tables comes back while daemons of other hosts have the database.
func TestPlanRollback_besideOthersOnAServer(t *testing.T) {
	b, c := secondOnServer(t)
	c.knows["second"], c.daemons = schemaOne, []string{"b.example.com (process 7)"}
	b.ledTo("second", b.upgrade(b.request()), "")
	b.ledTo("first", b.rollback(), "")
	b.edit("sharedKey: /etc/appliance/shared-key", "sharedKey: \"\"") // so that one daemon has it alone
	b.ledTo("first", b.rollback(), "daemons of another version than that of before have the database")
}

func warns(p *Plan, of string) bool {
	return slices.ContainsFunc(p.Warnings, func(w Problem) bool { return strings.Contains(w.What, of) })
}

// The second host is upgraded after the first has migrated the database, with its daemon stopped, and goes back after a restore.
func TestPlanRollback_ofTheSecondHostOnAServer(t *testing.T) {
	b, c := secondOnServer(t)
	c.knows["second"], c.have, c.stopped, c.daemons = schemaTwo, schemaTwo, true, []string{"a.example.com (process 7)"}
	if err := b.upgrade(b.request()); err != nil {
		t.Fatal(err)
	}
	c.stopped = false
	b.ledTo("second", b.rollback(), "taken back")
	c.have, c.stopped = schemaOne, true // by pg_restore, and the first host serves that
	p, err := PlanRollback(t.Context(), b.request(), b.deps)
	if err != nil || !warns(p, "schema 14.3) is not known") {
		t.Fatalf("%v: it warns of %v", err, p)
	}
	b.ledTo("first", b.rollback(), "")
}

// What is in the way is told before anything is changed, and nothing is.
func TestPlanUpgrade_refusesOnAServer(t *testing.T) {
	t.Parallel()
	other := []string{"b.example.com (process 7)"}
	for name, tc := range map[string]struct {
		prepare     func(b *box, c *common, r *Request)
		want, to_do string
	}{
		"a newer database": {func(b *box, c *common, r *Request) { c.have = Schema{Version: 16, Own: 3} },
			"was migrated by a newer version (schema 16.3, this program knows 15.3)", "with that version or a newer one"},
		"newer tables of the engine": {func(b *box, c *common, r *Request) { c.have = Schema{Version: 15, Own: 4} },
			"was migrated by a newer version (schema 15.4, this program knows 15.3)", ""},
		"older daemons": {func(b *box, c *common, r *Request) { c.daemons = other },
			"daemons of another version have it: b.example.com (process 7)", "systemctl stop appliance.socket appliance"},
		"older daemons, and other functions": {func(b *box, c *common, r *Request) {
			c.daemons, c.knows["second"] = other, Schema{Version: 14, Own: 3, Made: "two"}
		}, "daemons of another version have it", "pg_dump"},
		"other daemons without a key": {func(b *box, c *common, r *Request) {
			c.daemons, c.have = other, schemaTwo
			b.edit("sharedKey: /etc/appliance/shared-key", "sharedKey: \"\"")
		}, "is in use by the appliance on b.example.com (process 7), and config.yaml has no sharedKey", "appliance docs several"},
		"no answer":             {func(b *box, c *common, r *Request) { c.fails = errors.New("it does not answer") }, "look at the database before anything is changed: it does not answer", "appliance doctor"},
		"a directory of images": {func(b *box, c *common, r *Request) { r.QuayStorage = "/srv/images" }, "--quayStorage says /srv/images, and the images are in the bucket " + inS3, "appliance store copy"},
		"a directory of the database": {func(b *box, c *common, r *Request) { r.SqliteStorage = "/srv/db" },
			"--sqliteStorage says /srv/db, and the database is postgres://app@db.example.com:5432/app", "appliance store copy"},
		"newer daemons": {func(b *box, c *common, r *Request) { c.daemons, c.have = other, schemaTwo }, "", ""},
	} {
		for verb, plan := range map[string]func(context.Context, Request, Deps) (*Plan, error){"upgrade": PlanUpgrade, "install": PlanInstall} {
			t.Run(name+" by "+verb, func(t *testing.T) {
				t.Parallel()
				b, c := secondOnServer(t)
				c.knows["second"] = schemaTwo
				r := b.request()
				tc.prepare(b, c, &r)
				before := b.snapshot()
				_, err := plan(t.Context(), r, b.deps)
				if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
					t.Fatalf("got %v", err)
				}
				var refused *PreflightError
				if errors.As(err, &refused) && !strings.Contains(refused.Problems[0].Remedy, tc.to_do) {
					t.Errorf("the remedy is %q", refused.Problems[0].Remedy)
				}
				same(t, "after it", b.snapshot(), before)
			})
		}
	}
}

// A daemon that does not become healthy is taken back as long as the database is as it was, and stays once that was migrated.
func TestPlanUpgrade_failsOnAServer(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		knows  Schema
		keeps  bool // the daemon ends before it migrates
		cannot bool // and then the database does not answer
		stays  string
	}{
		"the same tables":                     {Schema{Version: 14, Own: 3, Made: "two"}, false, false, ""},
		"the same tables, and no answer":      {Schema{Version: 14, Own: 3, Made: "two"}, false, true, ""},
		"tables that it has not migrated yet": {schemaTwo, true, false, ""},
		"tables that it has migrated":         {schemaTwo, false, false, "it has migrated the database postgres://app@db.example.com:5432/app (schema 14.3 to 15.3)"},
		"tables, and no answer":               {schemaTwo, false, true, "whether it has migrated the database postgres://app@db.example.com:5432/app cannot be seen"},
	} {
		t.Run(name, func(t *testing.T) {
			eachMode(t, func(t *testing.T, b *box) {
				b.another("first")
				b.install()
				c := b.onServer()
				b.another("second")
				before := b.snapshot()
				c.knows["second"], c.unwell, c.keeps = tc.knows, "second", tc.keeps
				if tc.cannot {
					health := b.deps.Health
					b.deps.Health = func(ctx context.Context, cfg *config.Config) error {
						err := health(ctx, cfg)
						if c.unwell != "" {
							c.fails = errors.New("it does not answer")
						}
						return err
					}
				}
				err := b.upgrade(b.request())
				if err == nil || !strings.Contains(err.Error(), "it is unwell") {
					t.Fatal(err)
				}
				if tc.stays == "" {
					same(t, "after it", b.snapshot(), before)
					return
				}
				if !strings.Contains(err.Error(), tc.stays) || strings.Contains(err.Error(), "taken back") || !strings.Contains(b.program(), "second") {
					t.Errorf("it has left %q, %v", b.program(), err)
				}
				var hinted interface{ Hint() string }
				if !errors.As(err, &hinted) || !strings.Contains(hinted.Hint(), "pg_restore --no-owner -d '"+onPostgres+"' appliance.dump") {
					t.Errorf("the hint is not the way back: %v", err)
				}
				c.unwell, c.fails = "", nil
				if err := b.upgrade(b.request()); err != nil { // which has nothing to do but to wait for health
					t.Errorf("the same command again: %v", err)
				}
				if err := b.rollback(); err == nil || !strings.Contains(err.Error(), "was migrated since") {
					t.Errorf("a rollback: %v", err)
				}
				c.have = schemaOne
				b.ledTo("first", b.rollback(), "")
			})
		})
	}
}

// An install over an installed one mends what is damaged, without a look at the database.
func TestPlanInstall_onAServer(t *testing.T) {
	b := newBox(t, false)
	b.another("first")
	b.install()
	c := b.onServer()
	b.write("root/secret/pgpass", "")
	b.write("root/s3/credentials", "")
	b.edit(onPostgres, onPostgres+"&passfile=/root/secret/pgpass")
	b.sm.pid = 0
	b.edit("storageCredentials: \"\"", "storageCredentials: /root/s3/credentials")
	if err := os.Remove(b.path("etc/systemd/system/appliance.service")); err != nil {
		t.Fatal(err)
	}
	b.install()
	if unit := b.read("etc/systemd/system/appliance.service"); !strings.Contains(unit, "/root/secret") || !strings.Contains(unit, "/root/s3") || strings.Contains(unit, "s3:") {
		t.Errorf("the unit is\n%s", unit)
	}
	if c.looked > 0 {
		t.Error("it has looked at the database")
	}
	if lines, err := b.plan(b.request()).Pending(t.Context()); err != nil || len(lines) > 0 {
		t.Errorf("another one would do %q, %v", lines, err)
	}
}

// What is in a directory of this host moves, also where the other half is elsewhere.
func TestPlanUpgrade_movesTheHalfThatIsHere(t *testing.T) {
	for name, tc := range map[string]struct {
		old, with string
		move      Request
		moved     string
		left      string
	}{
		"the images":   {"\ndatabase: ", "\ndatabase: " + onPostgres + " #", Request{QuayStorage: "/srv/images"}, "srv/images/sha256/ab/abcd", "root/quay-install/quay-storage/sha256"},
		"the database": {"\nstorage: ", "\nstorage: " + inS3 + " #", Request{SqliteStorage: "/srv/db"}, "srv/db/appliance.db", "root/quay-install/sqlite-storage/appliance.db"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, renames := range []bool{true, false} {
				b := newBox(t, false)
				b.deps.Renames = func(string, string) bool { return renames }
				b.install()
				b.edit(tc.old, tc.with)
				r := b.request()
				r.QuayStorage, r.SqliteStorage = tc.move.QuayStorage, tc.move.SqliteStorage
				if err := b.upgrade(r); err != nil {
					t.Fatal(err)
				}
				if !exists(b.path(tc.moved)) || exists(b.path(tc.left)) {
					t.Errorf("rename %v: %s: %v, %s: %v", renames, tc.moved, exists(b.path(tc.moved)), tc.left, exists(b.path(tc.left)))
				}
				b.uninstall(true)
				if exists(b.path(tc.moved)) {
					t.Errorf("rename %v: an uninstall leaves %s", renames, tc.moved)
				}
			}
		})
	}
}
