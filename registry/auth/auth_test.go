package auth

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/bcrypt"
)

// users is a store of users in memory that counts its lookups.
type users struct {
	mu      sync.Mutex
	records map[string]Record
	lookups int
	fail    error
	onEnter func() // called in every Lookup, without the lock
}

func (u *users) Lookup(_ context.Context, name string) (Record, bool, error) {
	if u.onEnter != nil {
		u.onEnter()
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.lookups++
	r, ok := u.records[name]
	return r, ok, u.fail
}

func (u *users) set(t *testing.T, name, role, password string) {
	t.Helper()
	// The lowest cost keeps the tests fast.
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.records == nil {
		u.records = make(map[string]Record)
	}
	u.records[name] = Record{Role: role, PasswordHash: hash}
}

func (u *users) asked() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.lookups
}

func TestAuthenticate(t *testing.T) {
	u := new(users)
	u.set(t, "init", "admin", "correct-horse")
	u.set(t, "long", "pull", strings.Repeat("x", 72))
	a := New(u)

	id, err := a.check(t.Context(), "init", "correct-horse")
	if err != nil || id.Name != "init" || id.Role != Admin {
		t.Fatalf("got %v, %v", id, err)
	}
	for name, pair := range map[string][2]string{
		"wrong password":              {"init", "wrong-horse"},
		"empty password":              {"init", ""},
		"unknown user":                {"nobody", "correct-horse"},
		"empty name":                  {"", "correct-horse"},
		"impossible name":             {"in\x00it", "correct-horse"},
		"right in the first 72 bytes": {"long", strings.Repeat("x", 73)},
	} {
		t.Run(name+" is denied", func(t *testing.T) {
			if id, err := a.check(t.Context(), pair[0], pair[1]); !errors.Is(err, errDenied) || id.Name != "" || id.Role != "" {
				t.Errorf("got %v, %v", id, err)
			}
		})
	}
}

func TestAuthenticate_remembers(t *testing.T) {
	u := new(users)
	u.set(t, "init", "admin", "correct-horse")
	a := New(u)
	for range 3 {
		if _, err := a.check(t.Context(), "init", "correct-horse"); err != nil {
			t.Fatal(err)
		}
	}
	if n := u.asked(); n != 1 {
		t.Errorf("store asked %d times for the same credentials, want once", n)
	}
	for range 2 {
		if _, err := a.check(t.Context(), "init", "wrong-horse"); !errors.Is(err, errDenied) {
			t.Fatal(err)
		}
	}
	if n := u.asked(); n != 3 {
		t.Errorf("store asked %d times, want failures not cached", n)
	}
}

func TestForget(t *testing.T) {
	u := new(users)
	u.set(t, "init", "admin", "correct-horse")
	u.set(t, "other", "pull", "correct-horse")
	a := New(u)
	for _, name := range []string{"init", "other"} {
		if _, err := a.check(t.Context(), name, "correct-horse"); err != nil {
			t.Fatal(err)
		}
	}
	u.set(t, "init", "pull", "battery-staple")
	a.Forget("init")

	if _, err := a.check(t.Context(), "init", "correct-horse"); !errors.Is(err, errDenied) {
		t.Errorf("old password after Forget: %v", err)
	}
	if id, err := a.check(t.Context(), "init", "battery-staple"); err != nil || id.Role != Pull {
		t.Errorf("new password after Forget: %v, %v", id, err)
	}
	before := u.asked()
	if _, err := a.check(t.Context(), "other", "correct-horse"); err != nil || u.asked() != before {
		t.Errorf("another user was forgotten too (err %v)", err)
	}
}

// A password that changes while it is verified is not cached.
func TestForget_duringVerification(t *testing.T) {
	u := new(users)
	u.set(t, "init", "admin", "correct-horse")
	a := New(u)
	u.onEnter = func() { a.Forget("init") }
	if _, err := a.check(t.Context(), "init", "correct-horse"); err != nil {
		t.Fatal(err)
	}
	u.onEnter = nil
	u.set(t, "init", "admin", "battery-staple")
	if _, err := a.check(t.Context(), "init", "correct-horse"); !errors.Is(err, errDenied) {
		t.Errorf("got %v, want the old password denied", err)
	}
}

func TestAuthenticate_singleFlight(t *testing.T) {
	u := new(users)
	u.set(t, "init", "admin", "correct-horse")
	a := New(u)
	const callers = 8
	entered, release := make(chan struct{}, callers), make(chan struct{})
	u.onEnter = func() { entered <- struct{}{}; <-release }

	errs := make(chan error, callers)
	call := func() { _, err := a.check(t.Context(), "init", "correct-horse"); errs <- err }
	go call()
	<-entered // the first is inside the store; the others wait for it or find its result
	for range callers - 1 {
		go call()
	}
	close(release)
	for range callers {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if n := u.asked(); n != 1 {
		t.Errorf("store asked %d times, want once", n)
	}
}

// A request that is cancelled does not fail the others with the same credentials.
func TestAuthenticate_leaderCalledOff(t *testing.T) {
	u := new(users)
	u.set(t, "init", "admin", "correct-horse")
	a := New(u)
	for range cap(a.hasher.places) { // hashing waits
		a.hasher.places <- struct{}{}
	}
	ctx, cancel := context.WithCancel(t.Context())
	entered := make(chan struct{})
	var once sync.Once
	u.onEnter = func() { once.Do(func() { close(entered) }) }

	leader, follower := make(chan error, 1), make(chan error, 1)
	go func() { _, err := a.check(ctx, "init", "correct-horse"); leader <- err }()
	<-entered
	go func() { _, err := a.check(t.Context(), "init", "correct-horse"); follower <- err }()
	cancel()
	if err := <-leader; !errors.Is(err, context.Canceled) {
		t.Errorf("leader: %v", err)
	}
	for range cap(a.hasher.places) {
		<-a.hasher.places
	}
	if err := <-follower; err != nil {
		t.Errorf("follower: %v", err)
	}
}

func TestAuthenticate_storeFails(t *testing.T) {
	broken := errors.New("database is gone")
	a := New(&users{fail: broken})
	if _, err := a.check(t.Context(), "init", "correct-horse"); !errors.Is(err, broken) || errors.Is(err, errDenied) {
		t.Errorf("got %v", err)
	}
}

func TestAuthenticate_unusableRecord(t *testing.T) {
	u := new(users)
	u.set(t, "odd", "emperor", "correct-horse")
	u.records["torn"] = Record{Role: "admin", PasswordHash: []byte("no hash")}
	a := New(u)
	for _, name := range []string{"odd", "torn"} {
		id, err := a.check(t.Context(), name, "correct-horse")
		if err == nil || errors.Is(err, errDenied) || id.Name != "" || id.Role != "" {
			t.Errorf("%s: got %v, %v; want an error about the record", name, id, err)
		}
	}
}

// The cache does not grow with the requests of clients.
func TestRemember_isBounded(t *testing.T) {
	a := New(new(users))
	for i := range maxCached + 10 {
		a.cache.add(a.digestOf("u", fmt.Sprint(i)), verdict{id: Identity{Name: "u"}})
	}
	if n := len(a.cache.logins); n != maxCached {
		t.Errorf("%d cached, want %d", n, maxCached)
	}
}

// A denial costs as much as a comparison at the highest cost in use.
func TestRemaining(t *testing.T) {
	for _, c := range []struct{ spent, top int }{{0, 10}, {0, 12}, {4, 4}, {10, 10}, {10, 12}, {4, 14}} {
		work := 0
		if c.spent > 0 {
			work = 1 << c.spent
		}
		for _, cost := range remaining(c.spent, c.top) {
			work += 1 << cost
		}
		if work != 1<<c.top {
			t.Errorf("after %d, with %d in use: %d rounds in all, want %d", c.spent, c.top, work, 1<<c.top)
		}
	}
}

// bcrypt accepts the decoys as hashes: an error would return at once.
func TestDecoy(t *testing.T) {
	for cost := bcrypt.MinCost; cost <= maxCost; cost++ {
		hash := fmt.Appendf(nil, decoy, cost)
		if got, err := bcrypt.Cost(hash); err != nil || got != cost {
			t.Errorf("cost %d: %d, %v", cost, got, err)
		}
	}
	if err := bcrypt.CompareHashAndPassword(fmt.Appendf(nil, decoy, bcrypt.MinCost), []byte("correct-horse")); !errors.Is(err, bcrypt.ErrMismatchedHashAndPassword) {
		t.Errorf("got %v", err)
	}
}

// The costs of our hashes, of Quay's, and of one that is too high.
func TestCalibrate(t *testing.T) {
	own, err := HashPassword("correct-horse")
	if err != nil {
		t.Fatal(err)
	}
	a := New(new(users))
	for _, c := range []struct {
		hash string
		want int
	}{
		{string(own), bcrypt.DefaultCost},
		{"$2b$12$FEKwG0Il7PCGlPmfPfvwIuQ9rcotYPGOyDR9q892wFW7/ofCDNGSC", 12},
		{"$2b$08$FEKwG0Il7PCGlPmfPfvwIuQ9rcotYPGOyDR9q892wFW7/ofCDNGSC", 12},
		{"torn", 12},
		{"$2b$31$FEKwG0Il7PCGlPmfPfvwIuQ9rcotYPGOyDR9q892wFW7/ofCDNGSC", maxCost},
	} {
		if a.Calibrate([]byte(c.hash)); a.hasher.cost != c.want {
			t.Errorf("after %s: %d, want %d", c.hash, a.hasher.cost, c.want)
		}
	}
}

func TestDigestOf_separates(t *testing.T) {
	a := New(new(users))
	if a.digestOf("ab", "c") == a.digestOf("a", "bc") {
		t.Error("two pairs of credentials share an entry")
	}
	if a.digestOf("a", "b") == New(new(users)).digestOf("a", "b") {
		t.Error("two processes share a key")
	}
}

func BenchmarkAuthenticate_remembered(b *testing.B) {
	hash, err := HashPassword("correct-horse")
	if err != nil {
		b.Fatal(err)
	}
	a := New(&users{records: map[string]Record{"init": {Role: "admin", PasswordHash: hash}}})
	for b.Loop() {
		if _, err := a.check(b.Context(), "init", "correct-horse"); err != nil {
			b.Fatal(err)
		}
	}
}

func (a *Authenticator) check(ctx context.Context, name, password string) (Identity, error) {
	return a.authenticate(ctx, a.digestOf(name, password), name, password)
}
