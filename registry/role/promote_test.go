package role_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/role"
)

func TestFamily_Promote(t *testing.T) {
	first, second := newAppliance(t), newAppliance(t)
	second.follows(first)
	first.mustBe(role.Primary)
	second.mustBe(role.Follower)
	done, err := second.promote(false)
	must(t, err)
	first.mustBe(role.Superseded)
	second.mustBe(role.Primary)
	if done.Family.Generation != 2 || done.Family.Primary != second.address() || len(done.Family.Untold) > 0 {
		t.Errorf("after it: %+v", done.Family)
	}
	err = first.Check(t.Context())
	if err == nil || !strings.Contains(err.Error(), second.address()) || !strings.Contains(hint.Of(err), "appliance follow https://"+second.address()+" --credentials FILE --ca FILE") {
		t.Errorf("the former one refuses with %v, hint %s", err, hint.Of(err))
	}
	t.Run("a repeated one changes nothing", func(t *testing.T) {
		again, err := second.promote(false)
		must(t, err)
		if !again.Already || again.Family.Generation != 2 {
			t.Errorf("again: %+v", again)
		}
	})
	t.Run("the former one follows, and is promoted back", func(t *testing.T) {
		first.follows(second)
		first.mustBe(role.Follower)
		_, err := first.promote(false)
		must(t, err)
		first.mustBe(role.Primary)
		second.mustBe(role.Superseded)
		if g := first.State().Known.Generation; g != 3 {
			t.Errorf("generation %d", g)
		}
	})
}

// What the first has acknowledged, the follower has when it takes changes.
func TestFamily_Promote_losesNothing(t *testing.T) {
	first, second := newAppliance(t), newAppliance(t)
	second.follows(first)
	content := &content{}
	second.behind = func() error { // all that is at the first arrives
		second.pushed = content.all()
		return nil
	}
	var acknowledged []string
	var pushers sync.WaitGroup
	started := make(chan struct{}, 4)
	refused := make(chan error, 4)
	var mu sync.Mutex
	for p := range 4 {
		pushers.Go(func() {
			for i := 0; ; i++ {
				name := fmt.Sprint(p, "-", i)
				err := first.Do(context.Background(), func(context.Context) error {
					time.Sleep(20 * time.Millisecond) // some are under way when the promotion begins
					content.add(name)
					return nil
				})
				if err != nil {
					refused <- err
					return
				}
				mu.Lock()
				acknowledged = append(acknowledged, name)
				mu.Unlock()
				if i == 10 {
					started <- struct{}{}
				}
			}
		})
	}
	for range 4 {
		<-started
	}
	_, err := second.promote(false)
	must(t, err)
	pushers.Wait()
	for range 4 {
		if err := <-refused; !errors.As(err, new(*role.ReadOnlyError)) {
			t.Errorf("a pusher was refused with %v", err)
		}
	}
	has := map[string]bool{}
	for _, name := range second.pushed {
		has[name] = true
	}
	for _, name := range acknowledged {
		if !has[name] {
			t.Errorf("%s was acknowledged, and is lost", name)
		}
	}
}

// content is what pushers have added.
type content struct {
	mu    sync.Mutex
	names []string
}

func (c *content) add(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.names = append(c.names, name)
}

func (c *content) all() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string{}, c.names...)
}

// A change under way ends before the other takes changes, or it is cancelled.
func TestFamily_Promote_changeUnderWay(t *testing.T) {
	first, second := newAppliance(t), newAppliance(t)
	second.follows(first)
	within, leave, err := first.Enter(t.Context())
	must(t, err)
	promoted := make(chan error, 1)
	go func() {
		_, err := second.promote(false)
		promoted <- err
	}()
	select {
	case <-within.Done(): // since it takes too long
	case err := <-promoted:
		t.Fatalf("the promotion ends while a change is under way: %v", err)
	}
	second.mustBe(role.Follower)
	leave()
	must(t, <-promoted)
	second.mustBe(role.Primary)
	first.mustBe(role.Superseded)
}

func TestFamily_Promote_withoutTheFirst(t *testing.T) {
	first, second := newAppliance(t), newAppliance(t)
	second.follows(first)
	first.kill()
	_, err := second.promote(false)
	if err == nil || !strings.Contains(err.Error(), "last equal to it at noon") || !strings.Contains(hint.Of(err), "appliance promote --force") {
		t.Fatalf("without force: %v, hint %s", err, hint.Of(err))
	}
	second.mustBe(role.Follower)
	done, err := second.promote(true)
	must(t, err)
	second.mustBe(role.Primary)
	if !strings.Contains(done.Forced, "last equal to it at noon") || len(done.Family.Untold) != 1 || done.Family.Untold[0] != first.address() {
		t.Errorf("with force: %+v", done)
	}
	t.Run("the first comes back, and asks before its first change", func(t *testing.T) {
		first.start()
		first.talk()
		if err := first.Check(t.Context()); !errors.As(err, new(*role.ReadOnlyError)) {
			t.Errorf("a change is answered %v", err)
		}
		first.mustBe(role.Superseded)
	})
	t.Run("a first that was not reached is told", func(t *testing.T) {
		third := newAppliance(t)
		third.follows(second)
		second.kill()
		_, err := third.promote(true)
		must(t, err)
		second.start()
		third.talk() // and the second asks no other
		for third.Describe().Untold != nil {
			time.Sleep(10 * time.Millisecond)
		}
		second.mustBe(role.Superseded)
	})
}

func TestFamily_Promote_refused(t *testing.T) {
	t.Run("where the first is a follower", func(t *testing.T) {
		a, b, c := newAppliance(t), newAppliance(t), newAppliance(t)
		b.follows(a)
		c.follows(b)
		_, err := c.promote(false)
		if err == nil || !strings.Contains(err.Error(), "is a follower itself") {
			t.Errorf("error is %v", err)
		}
		a.mustBe(role.Primary)
		if text, next := c.Describe().Summary(); next != "" {
			t.Errorf("a follower of a follower describes itself as %q, and next %q", text, next)
		}
	})
	t.Run("where the one between is gone", func(t *testing.T) {
		a, b, c := newAppliance(t), newAppliance(t), newAppliance(t)
		b.follows(a)
		c.follows(b)
		b.kill()
		_, err := c.promote(false)
		if err == nil || !strings.Contains(err.Error(), "the primary is https://"+a.address()+", and may take changes") || !strings.Contains(hint.Of(err), "appliance follow https://"+a.address()+" --credentials FILE") {
			t.Errorf("error is %v, hint %s", err, hint.Of(err))
		}
		a.mustBe(role.Primary)
		c.follows(a)
		_, err = c.promote(false)
		must(t, err)
		a.mustBe(role.Superseded)
	})
	t.Run("where another has taken the place of the first", func(t *testing.T) {
		a, b, c := newAppliance(t), newAppliance(t), newAppliance(t)
		b.follows(a)
		c.follows(a)
		_, err := b.promote(false)
		must(t, err)
		_, err = c.promote(false)
		if err == nil || !strings.Contains(hint.Of(err), "appliance follow https://"+b.address()+" --credentials FILE --ca FILE") {
			t.Errorf("error is %v, hint %s", err, hint.Of(err))
		}
		b.mustBe(role.Primary)
		if text, next := c.Describe().Summary(); !strings.Contains(text, b.address()+" has taken the place of that") || !strings.Contains(next, "appliance follow https://"+b.address()+" --credentials FILE --ca FILE") {
			t.Errorf("the follower of a superseded one describes itself as %q, and next %q", text, next)
		}
	})
	t.Run("where it lacks what the new one has had since", func(t *testing.T) {
		a, b := newAppliance(t), newAppliance(t)
		b.follows(a)
		_, err := b.promote(false)
		must(t, err)
		_, err = a.promote(false)
		if err == nil || !strings.Contains(hint.Of(err), "appliance follow https://"+b.address()+" --credentials FILE --ca FILE") {
			t.Errorf("error is %v, hint %s", err, hint.Of(err))
		}
		b.mustBe(role.Primary)
		_, err = a.promote(true)
		must(t, err)
		a.mustBe(role.Primary)
		b.mustBe(role.Superseded)
	})
	t.Run("where the content cannot be copied to the end", func(t *testing.T) {
		a, b := newAppliance(t), newAppliance(t)
		b.follows(a)
		full := errors.New("the disk is full")
		b.behind = func() error { return full }
		_, err := b.promote(false)
		if err == nil || !strings.Contains(err.Error(), "the disk is full") || !strings.Contains(err.Error(), "not asked to give way") {
			t.Errorf("error is %v", err)
		}
		a.mustBe(role.Primary)
		b.mustBe(role.Follower)
		// The disk may also become full after that.
		asked := 0
		b.behind = func() error {
			if asked++; asked == 1 {
				return nil
			}
			return full
		}
		_, err = b.promote(false)
		if err == nil || !strings.Contains(err.Error(), a.address()+" takes no changes any more") || !strings.Contains(err.Error(), "the disk is full") ||
			!strings.Contains(hint.Of(err), "appliance promote, on its host") {
			t.Errorf("error is %v, hint %s", err, hint.Of(err))
		}
		a.mustBe(role.Superseded)
		b.mustBe(role.Follower)
		_, err = a.promote(false) // back
		must(t, err)
		a.mustBe(role.Primary)
		b.behind = func() error { return nil }
		_, err = b.promote(false)
		must(t, err)
		a.mustBe(role.Superseded)
		b.mustBe(role.Primary)
	})
}

// Either side is killed before or after each write of the two.
func TestFamily_Promote_killed(t *testing.T) {
	for _, who := range []string{"the first", "the follower"} {
		for _, after := range []bool{false, true} {
			for at := 1; ; at++ {
				if !killedAt(t, who, after, at) {
					if at == 1 {
						t.Errorf("%s writes nothing", who)
					}
					break
				}
			}
		}
	}
}

// killedAt reports whether there was such a write.
func killedAt(t *testing.T, who string, after bool, at int) (killed bool) {
	t.Run(fmt.Sprint(who, " at write ", at, ", after it: ", after), func(t *testing.T) {
		first, second := newAppliance(t), newAppliance(t)
		second.follows(first)
		victim := map[string]*appliance{"the first": first, "the follower": second}[who]
		victim.notes.mu.Lock()
		victim.notes.at, victim.notes.after = victim.notes.writes+at, after
		victim.notes.mu.Unlock()
		_, err := second.promote(false)
		killed = victim.notes.killed()
		if killed == (err == nil) {
			t.Errorf("killed: %t, the promotion ends with %v", killed, err)
		}
		first.restart()
		second.restart()
		if first.Writable() && second.Writable() {
			t.Fatal("both take changes")
		}
		done, err := second.promote(false)
		must(t, err)
		if done.Family.Generation != 2 {
			t.Errorf("generation %d", done.Family.Generation)
		}
		second.mustBe(role.Primary)
		first.mustBe(role.Superseded)
	})
	return killed
}

// Two that were promoted by force while they did not see each other agree when they do.
func TestFamily_Talk_twoPrimaries(t *testing.T) {
	a, b, c := newAppliance(t), newAppliance(t), newAppliance(t)
	b.follows(a)
	c.follows(a)
	a.kill()
	for _, f := range []*appliance{b, c} {
		_, err := f.promote(true)
		must(t, err)
	}
	b.mustBe(role.Primary)
	c.mustBe(role.Primary)
	a.start()
	a.talk()
	_ = a.Check(t.Context()) // it has asked both
	a.mustBe(role.Superseded)
	for _, f := range []*appliance{b, c} {
		f.talk()
		_ = f.Check(t.Context())
	}
	a.restart()
	a.talk() // what it heard from one, it tells the other
	_ = a.Check(t.Context())
	if b.Writable() == c.Writable() {
		t.Errorf("the second takes changes: %t, the third: %t", b.Writable(), c.Writable())
	}
}

// An appliance that hears of a newer primary while it catches up does not take changes.
func TestFamily_Promote_newerMeanwhile(t *testing.T) {
	first, second := newAppliance(t), newAppliance(t)
	second.follows(first)
	second.behind = func() error {
		_, err := first.promote(false) // an administrator has gone back
		return err
	}
	_, err := second.promote(false)
	if err == nil || !strings.Contains(err.Error(), "was promoted meanwhile") {
		t.Errorf("error is %v", err)
	}
	first.mustBe(role.Primary)
	second.mustBe(role.Follower)
}
