package auth

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
)

// Two daemons have the same users, and the one under test is not told of what the other changes.
func newShared(t *testing.T) (*Authenticator, *users) {
	t.Helper()
	u := new(users)
	u.set(t, "init", "admin", "correct-horse")
	a := New(u)
	a.Shared = true
	if id, err := a.check(t.Context(), "init", "correct-horse"); err != nil || id.Role != Admin {
		t.Fatal(id, err)
	}
	return a, u
}

func TestShared(t *testing.T) {
	t.Run("a password that was changed elsewhere counts at once", func(t *testing.T) {
		a, u := newShared(t)
		u.set(t, "init", "admin", "battery-staple")
		if _, err := a.check(t.Context(), "init", "correct-horse"); !errors.Is(err, errDenied) {
			t.Errorf("the old password: %v", err)
		}
		if _, err := a.check(t.Context(), "init", "battery-staple"); err != nil {
			t.Errorf("the new password: %v", err)
		}
		u.set(t, "init", "admin", "correct-horse")
		if _, err := a.check(t.Context(), "init", "correct-horse"); err != nil {
			t.Errorf("the old password again: %v", err)
		}
	})
	t.Run("a role that was changed elsewhere counts at once", func(t *testing.T) {
		a, u := newShared(t)
		r := u.records["init"]
		r.Role, r.Repositories = "pull", []string{"team/**"}
		u.records["init"] = r
		if id, err := a.check(t.Context(), "init", "correct-horse"); err != nil || id.Role != Pull || len(id.Repositories) != 1 {
			t.Errorf("%+v, %v", id, err)
		}
	})
	t.Run("a user who was deleted elsewhere is denied", func(t *testing.T) {
		a, u := newShared(t)
		delete(u.records, "init")
		if _, err := a.check(t.Context(), "init", "correct-horse"); !errors.Is(err, errDenied) {
			t.Errorf("%v", err)
		}
		u.set(t, "init", "pull", "another-horse")
		if _, err := a.check(t.Context(), "init", "correct-horse"); !errors.Is(err, errDenied) {
			t.Errorf("made again with another password: %v", err)
		}
	})
	t.Run("a token ends with a password that was changed elsewhere", func(t *testing.T) {
		a, u := newShared(t)
		id, err := a.check(t.Context(), "init", "correct-horse")
		if err != nil {
			t.Fatal(err)
		}
		token, _, err := a.issue(t.Context(), id, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.redeem(t.Context(), token); err != nil {
			t.Fatal(err)
		}
		u.set(t, "init", "admin", "battery-staple")
		if _, err := a.redeem(t.Context(), token); !errors.Is(err, errToken) {
			t.Errorf("%v", err)
		}
	})
	t.Run("a session of a browser ends with a user who was deleted elsewhere", func(t *testing.T) {
		a, u := newShared(t)
		b := &browser{Sessions: a.NewSessions(NewMemory())}
		r := b.logIn(t, "init")
		b.is(t, r, true)
		delete(u.records, "init")
		b.is(t, r, false)
	})
	t.Run("the comparison is spared, and the lookup is not", func(t *testing.T) {
		a, u := newShared(t)
		for range cap(a.hasher.places) { // a comparison would wait
			a.hasher.places <- struct{}{}
		}
		before := u.asked()
		if _, f := a.identify(request("init", "correct-horse"), Read); f.status != 0 || u.asked() != before+1 {
			t.Errorf("status %d, %d lookups", f.status, u.asked()-before)
		}
	})
	t.Run("a failing lookup admits no cached login", func(t *testing.T) {
		a, u := newShared(t)
		u.fail = errors.New("the database is away")
		if _, err := a.check(t.Context(), "init", "correct-horse"); !errors.Is(err, u.fail) {
			t.Errorf("%v", err)
		}
	})
}

// What waits for a check that began before a change does not get its result.
func TestShared_duringVerification(t *testing.T) {
	for name, c := range map[string]struct {
		was, now string
		denied   bool
	}{
		"the old password is denied":  {"correct-horse", "battery-staple", true},
		"the new password is not":     {"battery-staple", "correct-horse", false},
		"a wrong one is denied again": {"battery-staple", "battery-staple", true},
	} {
		t.Run(name, func(t *testing.T) {
			u := new(users)
			u.set(t, "init", "admin", c.was)
			a := New(u)
			a.Shared = true
			d := a.digestOf("init", "correct-horse")
			_, leader, _ := a.cache.get(d, "init")
			leader.result, leader.err = a.verify(t.Context(), "init", "correct-horse")
			u.set(t, "init", "admin", c.now)
			waiting, waits := awaited{t.Context(), make(chan struct{}, 8)}, make(chan error, 1)
			go func() { _, err := a.check(waiting, "init", "correct-horse"); waits <- err }()
			<-waiting.asked
			a.cache.done(d, leader)
			if err := <-waits; errors.Is(err, errDenied) != c.denied || err != nil && !errors.Is(err, errDenied) {
				t.Errorf("%v", err)
			}
		})
	}
}

// awaited is a context that tells when something is about to wait for it.
type awaited struct {
	context.Context
	asked chan struct{}
}

func (a awaited) Done() <-chan struct{} {
	a.asked <- struct{}{}
	return a.Context.Done()
}

func request(name, password string) *http.Request {
	r := httptest.NewRequest("GET", "/v2/", nil)
	r.SetBasicAuth(name, password)
	return r
}
