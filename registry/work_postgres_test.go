//go:build postgres

package registry

import (
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/registry/store/postgres"
	"github.com/mirror-appliance/appliance/registry/store/sharedrows"
)

// What one daemon does is shown to the others until it ends, or until it says nothing more.
func TestPostgres_work(t *testing.T) {
	server := startServer(t)
	_, address, err := server.Database(t.Context(), "")
	must(t, err)
	one, other := sharedBy(t, address).Work, sharedBy(t, address).Work
	tell := func(run string, stop bool) {
		t.Helper()
		if asked, err := one.Tell(t.Context(), "plan", sharedrows.Doing{Host: "one", Run: run, Progress: `{"of":1}`}); err != nil || asked != stop {
			t.Errorf("run %s is to end: %t, %v", run, asked, err)
		}
	}
	shows := func(when string, doing bool, known int64, want string) (ended int64) {
		t.Helper()
		seen, err := other.Get(t.Context(), "plan", known)
		now := seen.Doing
		if err != nil || (now != nil) != doing || now != nil && (now.Host != "one" || now.Progress != `{"of":1}`) || seen.Result != want {
			t.Errorf("%s: %+v, result %q, %v", when, now, seen.Result, err)
		}
		return seen.Ended
	}
	interrupted := func(when string, want bool) {
		t.Helper()
		seen, err := other.Get(t.Context(), "plan", 0)
		cut := seen.Interrupted
		if err != nil || (cut != nil) != want || cut != nil && (cut.Host != "one" || cut.Progress != `{"of":1}` || time.Since(seen.Told).Round(time.Hour) != 0) {
			t.Errorf("%s: %+v, told at %s, %v", when, cut, seen.Told, err)
		}
	}
	shows("at first", false, 0, "")
	if running, err := other.Stop(t.Context(), "plan"); running || err != nil {
		t.Errorf("nothing is ended: %t, %v", running, err)
	}
	tell("1", false)
	shows("under way", true, 0, "")
	if running, err := other.Stop(t.Context(), "plan"); !running || err != nil {
		t.Errorf("it is not asked to end: %t, %v", running, err)
	}
	tell("1", true)
	tell("2", false) // which nothing was asked of
	must(t, one.Keep(t.Context(), "plan", "one", "first"))
	first := shows("with a result", true, 0, "first")
	must(t, one.End(t.Context(), "plan", "1"))
	shows("after the end of a run before", true, first, "")
	must(t, one.End(t.Context(), "plan", "2"))
	shows("with the result that is known", false, first, "")
	must(t, one.Keep(t.Context(), "plan", "one", "second"))
	second := shows("with another one", false, first, "second")
	must(t, one.Keep(t.Context(), "plan", "one", ""))
	if gone := shows("without one", false, second, ""); gone == second {
		t.Error("that it is gone is not known")
	}

	tell("3", false)
	shows("under way again", true, 0, "")
	interrupted("while it is under way", false)
	db, err := postgres.Beside(address, nil)
	must(t, err)
	defer db.Close()
	later := func(by string) {
		t.Helper()
		_, err := db.ExecContext(t.Context(), `UPDATE work SET told = told - `+by+`, ended = ended - `+by)
		must(t, err)
	}
	later("20000000000")
	shows("when its daemon says nothing more", false, 0, "")
	if running, err := other.Stop(t.Context(), "plan"); running || err != nil {
		t.Errorf("a daemon that has ended is asked to end it: %t, %v", running, err)
	}
	interrupted("when its daemon says nothing more", true)
	must(t, one.Keep(t.Context(), "plan", "one", "third"))
	interrupted("after a result that is not the run's", true)
	must(t, one.End(t.Context(), "plan", "3"))
	interrupted("after its end", false)
	must(t, other.Sweep(t.Context()))
	shows("while it is young", false, 0, "third")
	later("-3600000000000")
	ahead := shows("by a clock that was ahead", false, 0, "third")
	must(t, one.Keep(t.Context(), "plan", "one", "fourth"))
	if ended := shows("with a result after that", false, ahead, "fourth"); ended <= ahead { // else it may be that of a result which is known
		t.Errorf("a result has the number %d, after %d", ended, ahead)
	}
	later("8 * 86400000000000")
	must(t, other.Sweep(t.Context()))
	if ended := shows("after a week", false, 0, ""); ended != 0 {
		t.Error("an old result is kept")
	}
}
