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

// users is a store of users in memory that counts how often it is asked.
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
	// The least cost that bcrypt has: these tests are about who gets in, not how long it takes.
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

	id, err := a.Authenticate(t.Context(), "init", "correct-horse")
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
			if id, err := a.Authenticate(t.Context(), pair[0], pair[1]); !errors.Is(err, ErrDenied) || id.Name != "" || id.Role != "" {
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
		if _, err := a.Authenticate(t.Context(), "init", "correct-horse"); err != nil {
			t.Fatal(err)
		}
	}
	if n := u.asked(); n != 1 {
		t.Errorf("store asked %d times for the same credentials, want once", n)
	}
	for range 2 {
		if _, err := a.Authenticate(t.Context(), "init", "wrong-horse"); !errors.Is(err, ErrDenied) {
			t.Fatal(err)
		}
	}
	if n := u.asked(); n != 3 {
		t.Errorf("store asked %d times, want a failure never remembered", n)
	}
}

func TestForget(t *testing.T) {
	u := new(users)
	u.set(t, "init", "admin", "correct-horse")
	u.set(t, "other", "pull", "correct-horse")
	a := New(u)
	for _, name := range []string{"init", "other"} {
		if _, err := a.Authenticate(t.Context(), name, "correct-horse"); err != nil {
			t.Fatal(err)
		}
	}
	u.set(t, "init", "pull", "battery-staple")
	a.Forget("init")

	if _, err := a.Authenticate(t.Context(), "init", "correct-horse"); !errors.Is(err, ErrDenied) {
		t.Errorf("old password after Forget: %v", err)
	}
	if id, err := a.Authenticate(t.Context(), "init", "battery-staple"); err != nil || id.Role != Pull {
		t.Errorf("new password after Forget: %v, %v", id, err)
	}
	before := u.asked()
	if _, err := a.Authenticate(t.Context(), "other", "correct-horse"); err != nil || u.asked() != before {
		t.Errorf("another user was forgotten too (err %v)", err)
	}
}

// A password that changes while it is being verified must not be remembered afterwards.
func TestForget_duringVerification(t *testing.T) {
	u := new(users)
	u.set(t, "init", "admin", "correct-horse")
	a := New(u)
	u.onEnter = func() { a.Forget("init") }
	if _, err := a.Authenticate(t.Context(), "init", "correct-horse"); err != nil {
		t.Fatal(err)
	}
	u.onEnter = nil
	u.set(t, "init", "admin", "battery-staple")
	if _, err := a.Authenticate(t.Context(), "init", "correct-horse"); !errors.Is(err, ErrDenied) {
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
	call := func() { _, err := a.Authenticate(t.Context(), "init", "correct-horse"); errs <- err }
	go call()
	<-entered // the first is inside the store; the others can only wait for it or find it done
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

// One caller's going away says nothing of the others' credentials.
func TestAuthenticate_leaderCalledOff(t *testing.T) {
	u := new(users)
	u.set(t, "init", "admin", "correct-horse")
	a := New(u)
	for range cap(a.hashing) { // nobody gets to hash
		a.hashing <- struct{}{}
	}
	ctx, cancel := context.WithCancel(t.Context())
	entered := make(chan struct{})
	var once sync.Once
	u.onEnter = func() { once.Do(func() { close(entered) }) }

	leader, follower := make(chan error, 1), make(chan error, 1)
	go func() { _, err := a.Authenticate(ctx, "init", "correct-horse"); leader <- err }()
	<-entered
	go func() { _, err := a.Authenticate(t.Context(), "init", "correct-horse"); follower <- err }()
	cancel()
	if err := <-leader; !errors.Is(err, context.Canceled) {
		t.Errorf("leader: %v", err)
	}
	for range cap(a.hashing) {
		<-a.hashing
	}
	if err := <-follower; err != nil {
		t.Errorf("follower: %v", err)
	}
}

func TestAuthenticate_storeFails(t *testing.T) {
	broken := errors.New("database is gone")
	a := New(&users{fail: broken})
	if _, err := a.Authenticate(t.Context(), "init", "correct-horse"); !errors.Is(err, broken) || errors.Is(err, ErrDenied) {
		t.Errorf("got %v", err)
	}
}

func TestAuthenticate_unusableRecord(t *testing.T) {
	u := new(users)
	u.set(t, "odd", "emperor", "correct-horse")
	u.records["torn"] = Record{Role: "admin", PasswordHash: []byte("no hash")}
	a := New(u)
	for _, name := range []string{"odd", "torn"} {
		id, err := a.Authenticate(t.Context(), name, "correct-horse")
		if err == nil || errors.Is(err, ErrDenied) || id.Name != "" || id.Role != "" {
			t.Errorf("%s: got %v, %v; want an error that says what is wrong with the record", name, id, err)
		}
	}
}

// The cache must not grow with what clients send.
func TestRemember_isBounded(t *testing.T) {
	a := New(new(users))
	for i := range maxRemembered + 10 {
		a.remember(a.digestOf("u", fmt.Sprint(i)), Identity{Name: "u"})
	}
	if n := len(a.known); n != maxRemembered {
		t.Errorf("%d remembered, want %d", n, maxRemembered)
	}
}

// A denial costs what a comparison at the highest cost in use does, whoever is denied.
func TestLeft(t *testing.T) {
	for _, c := range []struct{ spent, top int }{{0, 10}, {0, 12}, {4, 4}, {10, 10}, {10, 12}, {4, 14}} {
		work := 0
		if c.spent > 0 {
			work = 1 << c.spent
		}
		for _, cost := range left(c.spent, c.top) {
			work += 1 << cost
		}
		if work != 1<<c.top {
			t.Errorf("after %d, with %d in use: %d rounds in all, want %d", c.spent, c.top, work, 1<<c.top)
		}
	}
}

// The decoys are hashes that bcrypt does compare with: an error would come back at once.
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

// What we hash ourselves, what Quay hashed, and what somebody put into the database by hand.
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
		if a.Calibrate([]byte(c.hash)); a.cost != c.want {
			t.Errorf("after %s: %d, want %d", c.hash, a.cost, c.want)
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
		if _, err := a.Authenticate(b.Context(), "init", "correct-horse"); err != nil {
			b.Fatal(err)
		}
	}
}
