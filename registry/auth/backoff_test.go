package auth

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"
)

// A door is an Authenticator behind HTTP with a clock of the test.
type door struct {
	t     *testing.T
	users *users
	auth  *Authenticator
	now   time.Time
	h     http.Handler
}

func newDoor(t *testing.T) *door {
	u := new(users)
	u.set(t, "init", "admin", "correct-horse")
	u.set(t, "puller", "pull", "correct-horse")
	d := &door{t: t, users: u, auth: New(u), now: time.Unix(1e9, 0)}
	d.auth.hasher.cost = 4 // that of these users' hashes
	d.auth.backoff.now = func() time.Time { return d.now }
	d.h = d.auth.Require(func(*http.Request) Action { return Read }, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}),
		func(w http.ResponseWriter, _ *http.Request, status int) { w.WriteHeader(status) })
	return d
}

// knock sends a login and returns the status and Retry-After.
func (d *door) knock(remote, name, password string) (status, wait int) {
	d.t.Helper()
	r := httptest.NewRequest("GET", "/v2/", nil)
	r.RemoteAddr = remote
	r.SetBasicAuth(name, password)
	w := httptest.NewRecorder()
	d.h.ServeHTTP(w, r)
	if s := w.Header().Get("Retry-After"); s != "" {
		var err error
		if wait, err = strconv.Atoi(s); err != nil || wait < 1 {
			d.t.Errorf("Retry-After: %q", s)
		}
	}
	if (wait > 0) != (w.Code == http.StatusTooManyRequests) {
		d.t.Errorf("%d with Retry-After %d", w.Code, wait)
	}
	return w.Code, wait
}

func (d *door) want(status int, remote, name, password string) {
	d.t.Helper()
	if got, _ := d.knock(remote, name, password); got != status {
		d.t.Errorf("%s %s %s: got %d, want %d", remote, name, password, got, status)
	}
}

// guess sends n wrong passwords that are new.
func (d *door) guess(n int, remote, name string) (denied int) {
	d.t.Helper()
	for range n {
		if status, _ := d.knock(remote, name, fmt.Sprint("guess-", d.users.asked(), d.now.UnixNano(), denied)); status == http.StatusUnauthorized {
			denied++
		}
	}
	return denied
}

const (
	here  = "192.0.2.1:1000"
	there = "192.0.2.2:1000"
)

func TestBackoff_guessing(t *testing.T) {
	d := newDoor(t)
	if n := d.guess(50, here, "init"); n != freePerName {
		t.Errorf("%d guesses were checked, want %d", n, freePerName)
	}
	asked := d.users.asked()
	if status, wait := d.knock(here, "init", "correct-horse"); status != http.StatusTooManyRequests || wait != 1 {
		t.Errorf("a right login too early: %d, wait %d", status, wait)
	}
	if d.users.asked() != asked {
		t.Error("a refused login reached the store")
	}
	d.want(200, there, "init", "correct-horse")
	d.want(200, here, "puller", "correct-horse")

	d.now = d.now.Add(time.Second)
	last := 0
	for range 10 { // one guess each time, then a longer wait
		if n := d.guess(5, here, "init"); n != 1 {
			t.Fatalf("%d guesses after a wait, want 1", n)
		}
		_, wait := d.auth.backoff.admit(SourceOf(here), "init", digest{})
		delete(d.auth.backoff.slow.refused, credentialKey{SourceOf(here), digest{}})
		until := d.auth.backoff.failures[nameKey{SourceOf(here), "init"}].until.Sub(d.now)
		if wait > patience || wait > until {
			t.Errorf("a client is told to wait %s, want at most %s", wait, patience)
		}
		if s := int(until / time.Second); s < last || s == last && s < 60 || s > 60 {
			t.Errorf("wait %d after %d", s, last)
		} else {
			last = s
		}
		d.now = d.now.Add(until)
	}
	if last != 60 {
		t.Errorf("the wait grew to %d s only", last)
	}
	d.want(200, here, "init", "correct-horse") // clears the count
	if n := d.guess(50, here, "init"); n != freePerName {
		t.Errorf("%d guesses after a login, want %d", n, freePerName)
	}
	d.now = d.now.Add(forgetAfter)
	if n := d.guess(50, here, "init"); n != freePerName {
		t.Errorf("%d guesses after a long time, want %d", n, freePerName)
	}
}

// A node with an old pull secret, other nodes and an administrator share an address.
func TestBackoff_oldSecret(t *testing.T) {
	d := newDoor(t)
	statuses := map[int]int{}
	for range 200 {
		status, _ := d.knock(here, "puller", "last-years-horse")
		statuses[status]++
		d.now = d.now.Add(100 * time.Millisecond)
	}
	if statuses[401] < freePerCredentials || statuses[401] > 12 || statuses[401]+statuses[429] != 200 {
		t.Errorf("answers to the old secret: %v", statuses)
	}
	d.want(200, here, "puller", "correct-horse")
	d.want(200, here, "init", "correct-horse")
	d.want(200, there, "puller", "correct-horse")

	// The administrator sets the password that the node has.
	d.users.set(t, "puller", "pull", "last-years-horse")
	d.auth.Forget("puller")
	d.want(200, here, "puller", "last-years-horse")
}

// Guesses over many names stay below the limit of each name and exceed that of the address. Users
// that have logged in from there are still admitted.
func TestBackoff_spraying(t *testing.T) {
	d := newDoor(t)
	d.want(200, here, "puller", "correct-horse")
	denied := 0
	for i := range 100 {
		denied += d.guess(1, here, fmt.Sprint("name", i))
	}
	if denied != freePerSource {
		t.Errorf("%d names were checked, want %d", denied, freePerSource)
	}
	d.want(429, here, "init", "correct-horse")
	d.want(200, here, "puller", "correct-horse")
	d.want(200, there, "init", "correct-horse")
}

// Attempts count before their result is known.
func TestBackoff_concurrent(t *testing.T) {
	d := newDoor(t)
	source, admitted := SourceOf(here), 0
	for i := range 50 {
		if _, wait := d.auth.backoff.admit(source, "init", digest{byte(i)}); wait == 0 {
			admitted++
		}
	}
	if admitted != freePerName {
		t.Errorf("%d guesses at once, want %d", admitted, freePerName)
	}
}

// Failures of the store and clients that go away do not count.
func TestBackoff_undecided(t *testing.T) {
	d := newDoor(t)
	d.users.fail = fmt.Errorf("database is gone")
	for range 50 {
		d.guess(1, here, "init")
		d.want(503, here, "init", "correct-horse")
	}
	d.users.fail = nil
	d.want(200, here, "init", "correct-horse")
}

func TestBackoff_isBounded(t *testing.T) {
	b := newBackoff(func() time.Time { return time.Unix(1e9, 0) })
	for i := range 2 * maxCounted {
		source := SourceOf(fmt.Sprintf("10.%d.%d.%d:1", i>>16, i>>8&255, i&255))
		a, wait := b.admit(source, "u", digest{byte(i), byte(i >> 8), byte(i >> 16)})
		if wait > 0 {
			t.Fatal("an address waits for the failures of others")
		}
		if i%2 == 0 {
			b.failed(a)
		} else {
			b.succeeded(a)
		}
	}
	if len(b.failures) > maxCounted || len(b.logins) > maxCounted || len(b.logins) == 0 {
		t.Errorf("%d entries, %d logins", len(b.failures), len(b.logins))
	}
}

func TestSourceOf(t *testing.T) {
	for remote, want := range map[string]string{
		"192.0.2.1:5": "192.0.2.1/32", "[::ffff:192.0.2.1]:5": "192.0.2.1/32",
		"[2001:db8:1:2:3:4:5:6]:5": "2001:db8:1:2::/64", "[fe80::1%eth0]:5": "fe80::/64",
		"@": "invalid Prefix", "": "invalid Prefix", "host:5": "invalid Prefix",
	} {
		if got := SourceOf(remote).String(); got != want {
			t.Errorf("%s: %s, want %s", remote, got, want)
		}
	}
}
