package installer

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
)

// another makes the program to install one of that name.
func (b *box) another(name string) {
	b.write("program", "#!/bin/sh\n# "+name+"\n")
	b.chmod("program", 0o755)
}

func (b *box) program() string { return b.read(strings.TrimPrefix(b.deps.binary(b.user), "/")) }

func (b *box) rollback() error {
	b.t.Helper()
	for {
		p, err := PlanRollback(b.t.Context(), b.request(), b.deps)
		if err != nil {
			return err
		}
		if _, err := p.Apply(b.t.Context(), nil); err != nil || !p.Again {
			return err
		}
	}
}

// killAtEachStep has upgrade to a third version killed at each step that has a journal, and then do.
func (b *box) killAtEachStep(rollback bool, do func(where string, before map[string]string)) {
	b.t.Helper()
	b.install()
	b.another("second")
	if err := b.upgrade(b.request()); err != nil {
		b.t.Fatal(err)
	}
	b.another("third")
	before := b.snapshot()
	plan := func() *Plan {
		toPlan := PlanUpgrade
		if rollback {
			toPlan = PlanRollback
		}
		p, err := toPlan(b.t.Context(), b.request(), b.deps)
		if err != nil {
			b.t.Fatal(err)
		}
		return p
	}
	began := false
	for n, step := range plan().steps {
		if _, ok := step.(*confirm); ok {
			return
		}
		_, is := step.(*begin)
		if began = began || is; !began {
			continue
		}
		b.kill(plan(), n+1)
		do(fmt.Sprintf("killed after step %d (%s)", n, step), before)
	}
}

// An upgrade that was killed is taken back by a rollback, whatever step it had come to: not the upgrade
// before it.
func TestPlanRollback_ofAKilledUpgrade(t *testing.T) {
	eachMode(t, func(t *testing.T, b *box) {
		for _, pid := range []uint32{0, uint32(os.Getpid())} { // the daemon runs what is installed, or not
			b.sm.pid = pid
			b.another("first")
			b.killAtEachStep(false, func(where string, before map[string]string) {
				if err := b.rollback(); err != nil {
					t.Fatalf("%s: %v", where, err)
				}
				same(t, where, b.snapshot(), before)
			})
			b.uninstall(true)
		}
	})
}

// A rollback that was killed is completed by another one, and does not go forward again.
func TestPlanRollback_ofAKilledRollback(t *testing.T) {
	eachMode(t, func(t *testing.T, b *box) {
		first := b.read("program")
		b.killAtEachStep(true, func(where string, before map[string]string) {
			if err := b.rollback(); err != nil || b.program() != first {
				t.Fatalf("%s: %q, %v", where, b.program(), err)
			}
			b.another("second")
			if err := b.upgrade(b.request()); err != nil {
				t.Fatal(err)
			}
		})
	})
}

// After an upgrade that was killed and then completed there is a way back.
func TestPlanUpgrade_completesAKilledOne(t *testing.T) {
	b := newBox(t, false)
	b.killAtEachStep(false, func(where string, before map[string]string) {
		if err := b.upgrade(b.request()); err != nil {
			t.Fatalf("%s: %v", where, err)
		}
		if err := b.rollback(); err != nil || !strings.Contains(b.program(), "second") {
			t.Fatalf("%s: then a rollback leads to %q, %v", where, b.program(), err)
		}
		b.uninstall(true)
		b.another("second")
		b.install() // which has no way back
		b.another("third")
	})
}

// An upgrade that was killed, and then fails, is taken back as a whole.
func TestPlanUpgrade_failsAfterAKilledOne(t *testing.T) {
	b := newBox(t, false)
	b.killAtEachStep(false, func(where string, before map[string]string) {
		p, err := PlanUpgrade(t.Context(), b.request(), b.deps)
		if err != nil {
			t.Fatalf("%s: %v", where, err)
		}
		for i, step := range p.steps {
			if _, ok := step.(*health); ok {
				p.steps[i] = failing{step}
			}
		}
		_, err = p.Apply(t.Context(), nil)
		var failure *applyError
		if !errors.As(err, &failure) || failure.UndoErr != nil {
			t.Fatalf("%s: %v", where, err)
		}
		same(t, where, b.snapshot(), before)
	})
}

// An uninstall leaves nothing of an upgrade that was killed: its unit would run at the next boot.
func TestUninstall_ofAKilledUpgrade(t *testing.T) {
	eachMode(t, func(t *testing.T, b *box) {
		clean := b.snapshot()
		b.install()
		b.another("second")
		clean["/program"] = b.snapshot()["/program"]
		p := b.plan(b.request())
		for n, step := range p.steps {
			if step.String() == "copy "+b.path("program")+" to "+b.deps.binary(b.user) {
				b.kill(p, n)
				break
			}
		}
		b.uninstall(true)
		same(t, "after the uninstall", b.snapshot(), clean)
	})
}

// What would forget how to take a killed upgrade back is refused.
func TestPlanTrust_afterAKilledUpgrade(t *testing.T) {
	b := newBox(t, false)
	b.killAtEachStep(false, func(where string, before map[string]string) {
		if _, err := PlanTrust(t.Context(), b.request(), b.deps, false); err == nil || !strings.Contains(err.Error(), "was interrupted") {
			t.Errorf("%s: trust: %v", where, err)
		}
		if err := b.rollback(); err != nil {
			t.Fatal(err)
		}
	})
}
