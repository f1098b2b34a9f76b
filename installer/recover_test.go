package installer

import (
	"context"
	"testing"
	"time"
)

// The unit that takes a move back waits while the command runs and the daemon must not start.
func TestRecover_waits(t *testing.T) {
	b := newBox(t, false)
	b.install()
	r := b.request()
	r.QuayStorage = "/srv/a"
	p, err := PlanUpgrade(t.Context(), r, b.deps)
	if err != nil {
		t.Fatal(err)
	}
	recovered := make(chan error, 1)
	at := p.steps[len(p.steps)-1]
	for i, step := range p.steps {
		if m, ok := step.(*move); ok {
			at = m
			p.steps[i] = during{m, func() {
				go func() {
					recovered <- Recover(context.WithoutCancel(t.Context()), Request{}, b.deps, func(line string) { t.Error(line) })
				}()
				select {
				case err := <-recovered:
					t.Errorf("it did not wait: %v", err)
				case <-time.After(200 * time.Millisecond):
				}
			}}
		}
	}
	if _, err := p.Apply(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-recovered:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Errorf("it waits on after %s", at)
	}
}

// The unit has nothing to take back where the journal has gone, and removes itself.
func TestRecover_withoutAJournal(t *testing.T) {
	b := newBox(t, false)
	b.install()
	before := b.snapshot()
	b.write("etc/systemd/system/appliance-recover.service", "")
	b.write("usr/local/bin/appliance.upgrade", "")
	if err := Recover(t.Context(), Request{}, b.deps, func(line string) { t.Error(line) }); err != nil {
		t.Fatal(err)
	}
	same(t, "after it", b.snapshot(), before)
}

// during has something happen before a step is applied.
type during struct {
	*move
	do func()
}

func (s during) Apply(ctx context.Context) (bool, error) {
	s.do()
	return s.move.Apply(ctx)
}
