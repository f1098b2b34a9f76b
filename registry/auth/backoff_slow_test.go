package auth

import (
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// attack guesses ten times a second as name(i), and tries the right login as often as Retry-After
// allows. It returns how long the right login took and how many guesses were checked.
func (d *door) attack(remote, user string, name func(int) string, enough time.Duration) (took time.Duration, looked int) {
	d.t.Helper()
	begin, next := d.now, d.now
	for i := 0; d.now.Sub(begin) < enough; i++ {
		looked += d.guess(1, remote, name(i))
		if !d.now.Before(next) && took == 0 {
			status, wait := d.knock(remote, user, "correct-horse")
			if status == http.StatusOK {
				took = d.now.Sub(begin) + 1
			}
			next = d.now.Add(time.Duration(wait) * time.Second)
		}
		d.now = d.now.Add(100 * time.Millisecond)
	}
	return took, looked
}

// A pod guesses behind the address of a node; the node reboots and logs in.
func TestBackoff_rebootedNode(t *testing.T) {
	for name, names := range map[string]func(int) string{
		"guessing its own name":   func(int) string { return "puller" },
		"guessing over all names": func(i int) string { return fmt.Sprint("name", i) },
	} {
		t.Run(name, func(t *testing.T) {
			d := newDoor(t)
			d.want(200, here, "puller", "correct-horse")
			d.now = d.now.Add(trustFor - time.Hour)
			for i := range 100 {
				d.guess(1, here, names(i))
			}
			d.want(200, here, "puller", "correct-horse")
			d.now = d.now.Add(trustFor - time.Hour) // the last login counts
			for i := range 100 {
				d.guess(1, here, names(i))
			}
			d.want(200, here, "puller", "correct-horse")
		})
	}
}

// The same, for a node that has not logged in before or since a restart of the daemon.
func TestBackoff_rightLoginGetsThroughSlowly(t *testing.T) {
	for name, names := range map[string]func(int) string{
		"its own name is attacked": func(int) string { return "init" },
		"all names are attacked":   func(i int) string { return fmt.Sprint("name", i) },
	} {
		t.Run(name, func(t *testing.T) {
			d := newDoor(t)
			for i := range 500 {
				d.guess(1, here, names(i))
			}
			for i := range 40 { // each in its turn, until the turns come once a minute
				_, wait := d.knock(here, names(i), fmt.Sprint("in turn ", i))
				d.now = d.now.Add(time.Duration(wait) * time.Second)
			}
			if status, wait := d.knock(here, "init", "correct-horse"); status != http.StatusTooManyRequests || wait > int(slowPerName/time.Second) {
				t.Errorf("a right login is answered %d with Retry-After %d", status, wait)
			}
			took, looked := d.attack(here, "init", names, 10*time.Minute)
			if took == 0 || took > 2*patience {
				t.Errorf("the right login took %s", took)
			}
			if looked > 60 {
				t.Errorf("%d guesses were checked in ten minutes", looked)
			}
		})
	}
}

// Repeated guesses are admitted at the slow rate too, and at no higher one.
func TestBackoff_slowWayIsNarrow(t *testing.T) {
	d := newDoor(t)
	d.guess(freePerName, here, "init")
	looked, begin := map[int]bool{}, d.now
	for ; d.now.Sub(begin) < 10*time.Minute; d.now = d.now.Add(time.Second) {
		for i := range 100 {
			if status, _ := d.knock(here, "init", fmt.Sprint("repeated-", i)); status == http.StatusUnauthorized {
				looked[i] = true
			}
		}
	}
	if most := int(10*time.Minute/slowPerName) + 20; len(looked) > most || len(looked) < 10 {
		t.Errorf("%d guesses in ten minutes, want at most %d", len(looked), most)
	}
	t.Run("also over all names", func(t *testing.T) {
		d := newDoor(t)
		for i := range freePerSource {
			d.guess(1, here, fmt.Sprint("first-", i))
		}
		names, begin := map[int]bool{}, d.now
		for ; d.now.Sub(begin) < time.Minute; d.now = d.now.Add(time.Second) {
			for i := range 200 {
				if status, _ := d.knock(here, fmt.Sprint("name-", i), "repeated"); status == http.StatusUnauthorized {
					names[i] = true
				}
			}
		}
		if most := int(time.Minute/slowPerSource) + 10; len(names) > most || len(names) < 10 {
			t.Errorf("%d names in a minute, want at most %d", len(names), most)
		}
	})
}

// Guesses at one name from many addresses delay no other address.
func TestBackoff_manyAddresses(t *testing.T) {
	d := newDoor(t)
	for i := range 300 {
		d.guess(freePerName+1, fmt.Sprintf("10.0.%d.%d:1", i>>8, i&255), "init")
	}
	d.want(200, here, "init", "correct-horse")
	d.want(200, here, "puller", "correct-horse")
}

// Failed logins at the token endpoint count with the others.
func TestBackoff_tokens(t *testing.T) {
	d := newDesk(t)
	d.auth.backoff.now = func() time.Time { return d.now }
	const address = "192.0.2.1:1234" // of httptest.NewRequest
	for i := range 50 {
		d.get("init", fmt.Sprint("guess-", i))
	}
	if a := d.get("init", "correct-horse"); a.status != http.StatusTooManyRequests || a.header.Get("Retry-After") == "" {
		t.Errorf("%+v", a)
	}
	if _, wait := d.auth.backoff.admit(SourceOf(address), "init", digest{1}); wait == 0 {
		t.Error("guesses at the token endpoint do not count elsewhere")
	}
	for i := range 20 {
		d.now = d.now.Add(patience / 20)
		d.get("init", fmt.Sprint("more-", i))
	}
	if a := d.get("init", "correct-horse"); a.status != http.StatusOK {
		t.Errorf("%+v", a)
	}
	d.now = d.now.Add(trustFor / 2)
	for i := range 50 {
		d.get("init", fmt.Sprint("again-", i))
	}
	if a := d.get("init", "correct-horse"); a.status != http.StatusOK {
		t.Errorf("%+v", a)
	}
}

// While guesses from many addresses wait for hashing, a first login from another address does not.
func TestBackoff_manyAddressesDoNotQueueBefore(t *testing.T) {
	d := newDoor(t)
	for range cap(d.auth.hasher.doubtful) {
		d.auth.hasher.doubtful <- struct{}{} // held by failing logins
	}
	var all sync.WaitGroup
	var answered atomic.Int32
	for i := range 20 {
		remote := fmt.Sprintf("10.0.0.%d:1", i)
		d.want(http.StatusUnauthorized, remote, "init", "first-guess") // the first failure of its address
		all.Go(func() {
			if status, _ := d.knock(remote, "init", "second-guess"); status != http.StatusUnauthorized {
				t.Errorf("a guess: %d", status)
			}
			answered.Add(1)
		})
	}
	d.want(http.StatusOK, here, "init", "correct-horse")
	if n := answered.Load(); n > 0 {
		t.Errorf("%d guesses did not wait", n)
	}
	for range cap(d.auth.hasher.doubtful) {
		<-d.auth.hasher.doubtful
	}
	all.Wait()
}
