package limits

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestConnections(t *testing.T) {
	now := time.Unix(1e9, 0)
	fresh := func() (*Connections, func(string) *Conn) {
		cs := New(Limits{Connections: 4, Requests: 6, Refusals: 2})
		cs.now = func() time.Time { return now }
		return cs, func(address string) *Conn {
			now = now.Add(time.Second)
			near, far := net.Pipe()
			t.Cleanup(func() { near.Close(); far.Close() })
			return cs.add(from{near, address})
		}
	}
	t.Run("a shutdown awaits the first request of what was accepted just now", func(t *testing.T) {
		cs, add := fresh()
		old, young := add("192.0.2.1:1"), add("192.0.2.2:1") // a second apart
		if !cs.awaited() {
			t.Error("it does not wait")
		}
		young.Asked()
		if cs.awaited() {
			t.Error("it waits for what is a second old")
		}
		if add("192.0.2.3:1"); old.asked.Load() || !cs.awaited() {
			t.Error("it does not wait for a third")
		}
	})
	isOpen := func(cs *Connections, c *Conn) bool { _, ok := cs.open[c]; return ok }
	t.Run("an address has half of the places, and gives its idle ones to itself", func(t *testing.T) {
		cs, add := fresh()
		first, second := add("192.0.2.1:1"), add("192.0.2.1:2")
		third := add("192.0.2.1:3")
		if isOpen(cs, first) || !isOpen(cs, second) || !isOpen(cs, third) || len(cs.open) != 2 {
			t.Errorf("%d are open", len(cs.open))
		}
		second.busy, third.busy = true, true
		if add("192.0.2.1:4") != nil {
			t.Error("a place is taken from a connection at work")
		}
		if add("192.0.2.2:1") == nil {
			t.Error("another address has no place")
		}
	})
	t.Run("a login is worth more than none, also one that is idle", func(t *testing.T) {
		cs, add := fresh()
		var all []*Conn
		for _, a := range []string{"192.0.2.1:1", "192.0.2.2:1", "192.0.2.3:1", "192.0.2.4:1"} {
			all = append(all, add(a))
		}
		all[0].Begin("init", 0)
		all[0].End("init")
		add("192.0.2.5:1")
		if !isOpen(cs, all[0]) || isOpen(cs, all[1]) || len(cs.open) != 4 {
			t.Errorf("%d are open", len(cs.open))
		}
		for c := range cs.open {
			c.busy = c != all[0]
		}
		if add("192.0.2.6:1") == nil || isOpen(cs, all[0]) {
			t.Error("an idle connection stays")
		}
	})
	t.Run("what is busy without a login for long gives way", func(t *testing.T) {
		cs, add := fresh()
		for _, a := range []string{"192.0.2.1:1", "192.0.2.2:1", "192.0.2.3:1", "192.0.2.4:1"} {
			add(a).busy = true
		}
		if add("192.0.2.5:1") != nil {
			t.Error("at once")
		}
		now = now.Add(anonymousTime)
		if add("192.0.2.5:1") == nil || len(cs.open) != 4 {
			t.Errorf("%d are open", len(cs.open))
		}
	})
	t.Run("a user has half of the requests", func(t *testing.T) {
		cs, add := fresh()
		c, other := add("192.0.2.1:1"), add("192.0.2.2:1")
		for range 3 {
			if !c.Begin("a", 0) {
				t.Fatal("refused below the limit")
			}
		}
		if c.Begin("a", 0) || !other.Begin("b", 0) {
			t.Error("one user has the places of another")
		}
		c.End("a")
		if !c.Begin("a", 0) || cs.answering != 4 {
			t.Errorf("%d requests are under way", cs.answering)
		}
	})
	t.Run("a user on many addresses has half of the connections", func(t *testing.T) {
		cs, add := fresh()
		a, b, c := add("192.0.2.1:1"), add("192.0.2.2:1"), add("192.0.2.3:1")
		a.busy, b.busy, c.busy = true, true, true
		if !a.Begin("u", 0) || !b.Begin("u", 0) || c.Begin("u", 0) {
			t.Error("a third connection of one user is served")
		}
		a.busy = false
		if !c.Begin("u", 0) || isOpen(cs, a) {
			t.Error("the user's idle connection stays")
		}
	})
	t.Run("what ends is counted no more", func(t *testing.T) {
		cs, add := fresh()
		c := add("192.0.2.1:1")
		c.Begin("u", 0)
		c.End("u")
		must(t, c.Close())
		must(t, ignoreClosed(c.Close()))
		if len(cs.open)+len(cs.addresses)+len(cs.users)+len(cs.requests)+cs.answering != 0 {
			t.Errorf("left are %+v", cs)
		}
	})
}

func ignoreClosed(err error) error {
	if errors.Is(err, io.ErrClosedPipe) {
		return nil
	}
	return err
}

// from is a connection of a given address.
type from struct {
	net.Conn
	address string
}

func (f from) RemoteAddr() net.Addr { return remote(f.address) }

type remote string

func (remote) Network() string  { return "tcp" }
func (a remote) String() string { return string(a) }

func TestLimitsOf(t *testing.T) {
	for files, want := range map[uint64][2]int{65536: {4096, 8192}, 1024: {480, 480}, 64: {16, 16}, 1 << 40: {4096, 8192}} {
		if l := limitsOf(files); l.Connections != want[0] || l.Requests != want[1] {
			t.Errorf("of %d files: %+v", files, l)
		}
	}
}

func TestConnections_ownPlaces(t *testing.T) {
	cs := New(Limits{Connections: 4, Requests: 6, Refusals: 2})
	add := func(address string) *Conn {
		near, far := net.Pipe()
		t.Cleanup(func() { near.Close(); far.Close() })
		c := cs.add(from{near, address})
		if c != nil {
			c.busy = true
		}
		return c
	}
	for i := range 4 {
		if len(cs.Exhausted()) != 0 {
			t.Errorf("with %d connections: %v", i, cs.Exhausted())
		}
		add(fmt.Sprintf("192.0.2.%d:1", i))
	}
	if add("192.0.2.9:1") != nil {
		t.Error("there is a place over the limit for another host")
	}
	for _, address := range []string{"127.0.0.1:1", "[::1]:1"} {
		if add(address) == nil {
			t.Errorf("a health check from %s has no place", address)
		}
	}
	if all := cs.Exhausted(); len(all) != 1 || !strings.Contains(all[0].Error(), "all 4 places for connections") {
		t.Errorf("exhausted are %v", all)
	}
	if add("192.0.2.9:1") != nil {
		t.Error("what this host has over the limit is taken for a place of another")
	}
	for range 2 * ownPlaces {
		add("127.0.0.1:1")
	}
	if len(cs.open) != 4+ownPlaces { // more than half of them from one address
		t.Errorf("%d connections are open", len(cs.open))
	}
	cs.answering = cs.limits.Requests
	if all := cs.Exhausted(); len(all) != 2 || !strings.Contains(all[1].Error(), "all 6 places for requests") {
		t.Errorf("exhausted are %v", all)
	}
}
