package role_test

import (
	"slices"
	"testing"

	"github.com/mirror-appliance/appliance/registry/role"
)

// replaced returns a first that was off while its follower was promoted by force.
func replaced(t *testing.T) (first, second *appliance) {
	t.Helper()
	first, second = newAppliance(t), newAppliance(t)
	second.follows(first)
	first.kill()
	_, err := second.promote(true)
	must(t, err)
	if now := second.Describe(); !slices.Equal(now.Untold, []string{first.address()}) || !slices.Equal(now.UntoldIDs, []string{first.id}) {
		t.Fatalf("not told are %v %v", now.Untold, now.UntoldIDs)
	}
	return first, second
}

// forgets is the command of an administrator.
func (a *appliance) forgets(other *appliance, want bool) {
	a.t.Helper()
	address, ok, err := a.Forget(a.t.Context(), other.id)
	must(a.t, err)
	if ok != want || ok && address != other.address() {
		a.t.Errorf("it has forgotten: %t, %s", ok, address)
	}
}

func TestFamily_Forget(t *testing.T) {
	t.Run("it is not told, and told when it asks", func(t *testing.T) {
		first, second := replaced(t)
		second.forgets(first, true)
		second.forgets(first, false)
		first.start()
		second.asks() // the others, before its first change
		if now := second.Describe(); len(now.Untold) > 0 || len(now.UntoldIDs) > 0 {
			t.Errorf("not told are %v %v", now.Untold, now.UntoldIDs)
		}
		first.mustBe(role.Primary)
		first.asks()
		first.mustBe(role.Superseded)
		first.asks() // which confirms it
		if now := second.Describe(); len(now.Untold) > 0 {
			t.Errorf("not told are %v", now.Untold)
		}
		first.follows(second)
		bothWays(t, second, first)
	})
	t.Run("once it asks it is expected", func(t *testing.T) {
		first, second := replaced(t)
		second.forgets(first, true)
		first.start()
		first.notes.at, first.notes.after = 1, false // the answer is not kept
		first.talk()
		_ = first.Check(t.Context())
		if now := second.Describe(); !slices.Equal(now.Untold, []string{first.address()}) {
			t.Errorf("not told are %v", now.Untold)
		}
		first.restart()
		second.asks()
		first.mustBe(role.Superseded)
	})
	t.Run("once one asks that was told of an earlier promotion", func(t *testing.T) {
		first, second, third := newAppliance(t), newAppliance(t), newAppliance(t)
		second.follows(first)
		_, err := second.promote(false)
		must(t, err)
		third.follows(second)
		_, err = third.promote(false)
		must(t, err)
		third.kill()
		_, err = second.promote(true)
		must(t, err)
		second.forgets(first, true)
		first.notes.at, first.notes.after = first.notes.writes+1, false // the answer is not kept
		first.talk()
		_ = first.Check(t.Context())
		if now := second.Describe(); !slices.Contains(now.Untold, first.address()) {
			t.Errorf("not told are %v", now.Untold)
		}
	})
	t.Run("it follows", func(t *testing.T) {
		first, second := replaced(t)
		second.forgets(first, true)
		first.start()
		first.follows(second)
		bothWays(t, second, first)
	})
	t.Run("one that was told, and one that is unknown", func(t *testing.T) {
		first, second := newAppliance(t), newAppliance(t)
		second.follows(first)
		_, err := second.promote(false)
		must(t, err)
		second.forgets(first, false)
		second.forgets(newAppliance(t), false)
		first.forgets(second, false)
	})
}
