package role_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/role"
)

// A follower that was removed at its first does not take its place, since that is there and takes changes.
func TestFamily_Promote_removed(t *testing.T) {
	for _, force := range []bool{false, true} {
		t.Run(fmt.Sprint("with force: ", force), func(t *testing.T) {
			first, second := newAppliance(t), newAppliance(t)
			second.follows(first)
			first.removes(second)
			_, err := second.promote(force)
			if err == nil || !strings.Contains(err.Error(), "https://"+first.address()+" answers that it does not know this appliance as its follower") {
				t.Fatalf("error is %v", err)
			}
			for _, want := range []string{"appliance follow https://" + first.address(), "appliance follow --stop"} {
				if !strings.Contains(hint.Of(err), want) {
					t.Errorf("the hint %q lacks %q", hint.Of(err), want)
				}
			}
			first.mustBe(role.Primary)
			second.mustBe(role.Follower)
			second.restart()
			text, next := second.Describe().Summary()
			if !strings.Contains(text, "removed at https://"+first.address()) || !strings.Contains(next, "appliance follow https://"+first.address()) || !strings.Contains(next, "appliance follow --stop") {
				t.Errorf("it describes itself as %q, and next %q", text, next)
			}
			second.follows(first)
			if text, next := second.Describe().Summary(); strings.Contains(text, "removed") || next != "" {
				t.Errorf("after it follows again: %q, and next %q", text, next)
			}
			bothWays(t, first, second)
		})
	}
	t.Run("and is known again", func(t *testing.T) {
		first, second := newAppliance(t), newAppliance(t)
		second.follows(first)
		first.removes(second)
		second.asks()
		if !second.Describe().Removed {
			t.Error("it does not know that it was removed")
		}
		second.register(first) // which it does by itself while its login is accepted
		second.asks()
		if second.Describe().Removed {
			t.Error("it says that it was removed")
		}
		bothWays(t, first, second)
	})
	t.Run("and becomes an appliance of its own", func(t *testing.T) {
		first, second := newAppliance(t), newAppliance(t)
		second.follows(first)
		first.removes(second)
		_, err := second.Leave(t.Context())
		must(t, err)
		if first.State().Lineage == second.State().Lineage {
			t.Error("they are of one family still")
		}
	})
}

// A first that could not be reached, and does not know the follower that was promoted by force.
func TestFamily_Promote_removedWhileUnreachable(t *testing.T) {
	first, second := newAppliance(t), newAppliance(t)
	second.follows(first)
	first.removes(second)
	first.kill()
	_, err := second.promote(true)
	must(t, err)
	first.start()
	first.talk()
	must(t, first.Check(t.Context()))
	second.asks()
	second.restart()
	now := second.Describe()
	if !slices.Equal(now.Strangers, []string{first.address()}) || !slices.Equal(now.Untold, now.Strangers) {
		t.Errorf("it knows: %+v", now)
	}
	again := "appliance follow https://" + second.address() + " --credentials FILE --ca FILE"
	if text, next := now.Summary(); !strings.Contains(text, "not known as a follower at https://"+first.address()) || !strings.Contains(text, "may take changes") || !strings.Contains(next, again) {
		t.Errorf("it describes itself as %q, and next %q", text, next)
	}
	if log := second.log.String(); !strings.Contains(log, "may take changes") || !strings.Contains(log, again) || strings.Count(log, "does not know this one") != 1 {
		t.Errorf("the log has\n%s", log)
	}
	first.follows(second)
	first.asks()
	if now := second.Describe(); len(now.Untold) > 0 || len(now.Strangers) > 0 {
		t.Errorf("after the first follows: %+v", now)
	}
	bothWays(t, second, first)
}

// A superseded appliance does not take the place of a primary that is there and does not know it.
func TestFamily_Promote_supersededUnknown(t *testing.T) {
	unknown := func(t *testing.T) (first, second *appliance) {
		first, second = newAppliance(t), newAppliance(t)
		second.follows(first)
		_, err := second.promote(false)
		must(t, err)
		second.removes(first)
		for _, force := range []bool{false, true} {
			_, err := first.promote(force)
			if err == nil || !strings.Contains(err.Error(), "https://"+second.address()+" has taken the place of this appliance and answers that it does not know it") {
				t.Fatalf("with force %t: %v", force, err)
			}
			for _, want := range []string{"appliance follow https://" + second.address(), "appliance follow --stop"} {
				if !strings.Contains(hint.Of(err), want) {
					t.Errorf("the hint %q lacks %q", hint.Of(err), want)
				}
			}
		}
		first.mustBe(role.Superseded)
		first.restart()
		text, next := first.Describe().Summary()
		if !strings.Contains(text, "does not know this appliance any more") || !strings.Contains(next, "appliance follow --stop") {
			t.Errorf("it describes itself as %q, and next %q", text, next)
		}
		if log := first.log.String(); !strings.Contains(log, "does not know it any more") {
			t.Errorf("the log has\n%s", log)
		}
		return first, second
	}
	t.Run("it follows", func(t *testing.T) {
		first, second := unknown(t)
		first.follows(second)
		bothWays(t, second, first)
	})
	t.Run("it is of its own", func(t *testing.T) {
		first, second := unknown(t)
		_, err := first.Leave(t.Context())
		must(t, err)
		first.mustBe(role.Primary)
		if first.State().Lineage == second.State().Lineage {
			t.Error("they are of one family still")
		}
		second.follows(first)
		bothWays(t, first, second)
	})
	t.Run("the other is off", func(t *testing.T) {
		first, second := unknown(t)
		second.kill()
		_, err := first.promote(true)
		must(t, err)
		first.mustBe(role.Primary)
	})
	t.Run("one that is known does not leave", func(t *testing.T) {
		first, second := newAppliance(t), newAppliance(t)
		second.follows(first)
		_, err := second.promote(false)
		must(t, err)
		if _, err := first.Leave(t.Context()); err == nil || !strings.Contains(err.Error(), "follows no other") {
			t.Errorf("error is %v", err)
		}
		first.mustBe(role.Superseded)
	})
}

// What is known of another appliance is replaced when that follows again.
func TestFamily_Registered(t *testing.T) {
	for _, tc := range []struct {
		name string
		do   func(first, second *appliance)
	}{
		{"after it was removed", func(first, second *appliance) {
			first.removes(second)
			_, err := second.Leave(t.Context())
			must(t, err)
		}},
		{"after it has left", func(first, second *appliance) {
			first.forget(second)
			_, err := second.Leave(t.Context())
			must(t, err)
		}},
		{"after it has followed a third one", func(_, second *appliance) {
			third := newAppliance(t)
			second.follows(third)
		}},
		{"at another address", func(_, second *appliance) { second.moves() }},
		{"at another address, after it has followed a third one", func(_, second *appliance) {
			second.follows(newAppliance(t))
			second.moves()
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			first, second := newAppliance(t), newAppliance(t)
			second.follows(first)
			bothWays(t, first, second) // from here on each knows the other without a row
			second.forget(first)
			tc.do(first, second)
			second.follows(first)
			if now := first.Describe(); len(now.Untold) > 0 {
				t.Errorf("the first has not told %v", now.Untold)
			}
			first.kill()
			_, err := second.promote(true)
			must(t, err)
			first.start()
			first.talk()
			if err := first.Check(t.Context()); !errors.As(err, new(*role.ReadOnlyError)) {
				t.Errorf("the first, which is to ask the second before its first change, answers one with %v", err)
			}
			first.follows(second)
			bothWays(t, second, first)
		})
	}
}

// A follower that was removed is not told of promotions any more, unless it may take changes.
func TestFamily_Removed(t *testing.T) {
	first, second, third := newAppliance(t), newAppliance(t), newAppliance(t)
	second.follows(first)
	bothWays(t, first, second)
	first.removes(second)
	_, err := second.Leave(t.Context())
	must(t, err)
	third.follows(first)
	bothWays(t, first, third)
	first.kill()
	_, err = third.promote(true)
	must(t, err)
	third.removes(first)
	if now := third.Describe(); !slices.Equal(now.Untold, []string{first.address()}) {
		t.Errorf("it knows of one that it has not told: %v", now.Untold)
	}
}

// bothWays has the follower be promoted, the first follow that, and the same back.
func bothWays(t *testing.T, first, second *appliance) {
	t.Helper()
	for range 2 {
		_, err := second.promote(false)
		must(t, err)
		second.mustBe(role.Primary)
		first.mustBe(role.Superseded)
		if now := second.Describe(); len(now.Untold) > 0 {
			t.Errorf("not told: %v", now.Untold)
		}
		first.follows(second)
		first, second = second, first
	}
}

// A superseded appliance asks the one that has taken its place however long ago that was.
func TestFamily_Promote_back(t *testing.T) {
	first, second := newAppliance(t), newAppliance(t)
	second.follows(first)
	_, err := second.promote(false)
	must(t, err)
	first.forget(second)
	_, err = first.promote(false)
	if err == nil || !strings.Contains(err.Error(), second.address()+" has taken changes since") {
		t.Errorf("error is %v", err)
	}
	second.asks() // which it answers
	if now := second.Describe(); len(now.Strangers) > 0 {
		t.Errorf("it is not known at %v", now.Strangers)
	}
	s := first.State() // as an older version has left it
	s.Peers = nil
	text, err := json.Marshal(s)
	must(t, err)
	must(t, first.store.SetNote(t.Context(), "role", string(text)))
	first.restart()
	_, err = first.promote(false)
	if err == nil || !strings.Contains(err.Error(), second.address()+" cannot be asked to give way") || !strings.Contains(hint.Of(err), "appliance promote --force") {
		t.Errorf("error is %v, hint %s", err, hint.Of(err))
	}
	first.mustBe(role.Superseded)
	second.mustBe(role.Primary)
}

// The primary tells where it is now.
func TestFamily_Talk_primaryMoves(t *testing.T) {
	first, second, third := newAppliance(t), newAppliance(t), newAppliance(t)
	second.follows(first)
	third.follows(first)
	_, err := second.promote(false)
	must(t, err)
	second.moves()
	second.asks()
	third.asks()
	for _, a := range []*appliance{first, third} {
		if now := a.Describe(); now.Primary != second.address() {
			t.Errorf("the primary is %s, want %s", now.Primary, second.address())
		}
	}
	second.restart()
	first.asks()
	if _, err := first.promote(false); err == nil || !strings.Contains(err.Error(), "has taken changes since") {
		t.Errorf("it is asked elsewhere: %v", err)
	}
}
