package installer

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/ansible-free/host"
	"github.com/mirror-appliance/appliance/systemd"
)

// An upgrade that was killed is completed by the same command, and taken back while the database is as it was.
func TestPlanUpgrade_killedOnAServer(t *testing.T) {
	t.Parallel()
	for name, knows := range map[string]Schema{"the same tables": {Version: 14, Own: 3, Made: "two"}, "other tables": schemaTwo} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			steps := 0
			for n := 1; n == 1 || n < steps; n++ {
				b, c := secondOnServer(t)
				c.knows["second"] = knows
				before := b.snapshot()
				p, err := PlanUpgrade(t.Context(), b.request(), b.deps)
				if err != nil {
					t.Fatal(err)
				}
				steps = slices.IndexFunc(p.steps, func(s host.Step) bool { _, is := s.(*confirm); return is })
				where := p.steps[n].String()
				b.kill(p, n)
				atBoot := exists(b.path("etc/systemd/system/multi-user.target.wants/" + systemd.Recover))
				if migrates := !knows.sameTables(schemaOne); atBoot && migrates {
					t.Errorf("%s: the next boot would take it back, and the database may be migrated", where)
				}
				migrated := !c.have.sameTables(schemaOne)
				err = b.rollback()
				switch {
				case migrated && (err == nil || !strings.Contains(err.Error(), "it has migrated the database")):
					t.Errorf("%s: a rollback: %v", where, err)
				case !migrated && err != nil && !strings.Contains(err.Error(), "no earlier version to go back to"):
					t.Errorf("%s: a rollback: %v", where, err)
				case !migrated:
					same(t, where, b.snapshot(), before)
				}
				if err := b.upgrade(b.request()); err != nil || !strings.Contains(b.program(), "second") || exists(b.path("root/quay-install/quay-config/undo")) {
					t.Errorf("%s: then an upgrade leads to %q, %v", where, b.program(), err)
				}
			}
		})
	}
}

// What was migrated by a killed run, or after one, is not taken back by the next one that fails.
func TestPlanUpgrade_failsAfterAKilledOneOnAServer(t *testing.T) {
	for name, tc := range map[string]struct {
		second Schema
		next   string // program after the killed one
	}{
		"the killed one has migrated":         {schemaTwo, "second"},
		"one that follows it has":             {Schema{Version: 14, Own: 3, Made: "two"}, "third"},
		"the killed one, and another follows": {schemaTwo, "third"},
	} {
		t.Run(name, func(t *testing.T) {
			b, c := secondOnServer(t)
			c.knows["second"], c.knows["third"] = tc.second, schemaTwo
			p, err := PlanUpgrade(t.Context(), b.request(), b.deps)
			if err != nil {
				t.Fatal(err)
			}
			b.kill(p, slices.IndexFunc(p.steps, func(s host.Step) bool { _, is := s.(*health); return is })+1)
			if c.have != tc.second {
				t.Fatalf("the database has %v", c.have)
			}
			b.another(tc.next)
			c.unwell = tc.next
			b.ledTo(tc.next, b.upgrade(b.request()), "the new program stays: it has migrated")
			if exists(b.path("etc/systemd/system/multi-user.target.wants/" + systemd.Recover)) {
				t.Error("the next boot would take it back")
			}
			if tc.next == "second" {
				return
			}
			err = b.rollback() // to the killed one, which knows what it has served
			if can := tc.second.sameTables(schemaTwo); can != (err == nil) || can != strings.Contains(b.program(), "second") {
				t.Errorf("a rollback leads to %q, %v", b.program(), err)
			}
		})
	}
}

// What fails before the program is exchanged is taken back, also while nothing tells of the database.
func TestPlanUpgrade_failsBeforeTheExchangeOnAServer(t *testing.T) {
	b, c := secondOnServer(t)
	c.knows["second"] = schemaTwo
	before := b.snapshot()
	p, err := PlanUpgrade(t.Context(), b.request(), b.deps)
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(p.steps, func(s host.Step) bool { _, is := s.(*server); return is }) + 1 // the copy of the program
	p.steps[at] = failing{p.steps[at]}
	c.fails = errors.New("it does not answer")
	var failure *applyError
	if _, err := p.Apply(t.Context(), nil); !errors.As(err, &failure) || failure.UndoErr != nil {
		t.Fatal(err)
	}
	same(t, "after it", b.snapshot(), before)
}

// A program that never served is no less the one of before, and knows tables that the database has only by now.
func TestPlanRollback_toAKilledUpgradeOnAServer(t *testing.T) {
	b, c := secondOnServer(t)
	c.knows["second"], c.knows["third"] = schemaTwo, Schema{Version: 15, Own: 3, Made: "three"}
	p, err := PlanUpgrade(t.Context(), b.request(), b.deps)
	if err != nil {
		t.Fatal(err)
	}
	b.kill(p, slices.IndexFunc(p.steps, func(s host.Step) bool { _, is := s.(*start); return is }))
	b.another("third")
	if err := b.upgrade(b.request()); err != nil || c.have != c.knows["third"] {
		t.Fatalf("%v: the database has %v", err, c.have)
	}
	b.ledTo("second", b.rollback(), "")
}

// A program that was never put in its place is not the one of before.
func TestPlanRollback_afterAnUpgradeThatWasKilledEarlyOnAServer(t *testing.T) {
	b, c := secondOnServer(t)
	c.knows["second"], c.knows["third"] = schemaTwo, schemaTwo
	p, err := PlanUpgrade(t.Context(), b.request(), b.deps)
	if err != nil {
		t.Fatal(err)
	}
	b.kill(p, slices.IndexFunc(p.steps, func(s host.Step) bool { _, is := s.(*server); return is })+1)
	if !strings.Contains(b.program(), "first") {
		t.Fatalf("it was killed late, with %q", b.program())
	}
	b.another("third")
	b.ledTo("third", b.upgrade(b.request()), "")
	b.ledTo("third", b.rollback(), "was migrated since (schema 14.3 to 15.3)")
}

// The next boot does not take back a run that follows one which has migrated the database.
func TestPlanUpgrade_killedAgainOnAServer(t *testing.T) {
	b, c := secondOnServer(t)
	c.knows["second"], c.knows["third"] = schemaTwo, schemaTwo
	for _, program := range []string{"second", "third"} {
		b.another(program)
		p, err := PlanUpgrade(t.Context(), b.request(), b.deps)
		if err != nil {
			t.Fatal(err)
		}
		b.kill(p, slices.IndexFunc(p.steps, func(s host.Step) bool { _, is := s.(*health); return is })+1)
		if c.have != schemaTwo || !strings.Contains(b.program(), program) {
			t.Fatalf("it was killed with %q, and the database has %v", b.program(), c.have)
		}
		if exists(b.path("etc/systemd/system/multi-user.target.wants/" + systemd.Recover)) {
			t.Errorf("the next boot would take back %s", program)
		}
	}
}
