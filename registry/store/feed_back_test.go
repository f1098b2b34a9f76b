package store

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// copied returns another fixture with the same content, whose history goes on by itself from there.
func (f *fixture) copied() *fixture {
	f.t.Helper()
	f.must(f.Close())
	dir := filepath.Join(f.t.TempDir(), "copy")
	f.must(os.CopyFS(dir, os.DirFS(f.dir)))
	if onServer != nil {
		from, err := url.Parse(databaseIn(f.t, f.dir))
		f.must(err)
		name, address, err := onServer.Database(f.ctx, strings.Trim(from.Path, "/"))
		f.must(err)
		onServer.mu.Lock()
		onServer.names[dir] = address
		onServer.mu.Unlock()
		f.t.Cleanup(func() {
			onServer.mu.Lock()
			delete(onServer.names, dir)
			onServer.mu.Unlock()
			f.must(onServer.Drop(f.ctx, name))
		})
	}
	other := newFileFixtureIn(f.t, dir)
	f.Store = nil
	f.reopen()
	return other
}

// A database that goes back to an earlier state gives the numbers of the changes that it has lost to others. A
// follower that has the lost ones lists again.
func TestFeed_databaseGoesBack(t *testing.T) {
	const lost = 3
	add := func(f *fixture, name string, n int) {
		for i := range n {
			f.must(f.Users.Put(f.ctx, User{Name: fmt.Sprint(name, i), Role: "pull"}))
		}
	}
	for _, made := range []int{lost - 1, lost, lost + 1} {
		t.Run(fmt.Sprint(lost, " changes are lost, and ", made, " made"), func(t *testing.T) {
			f := newFileFixture(t)
			add(f, "kept", 2)
			_, before, _ := f.readFeed("a", f.register("a"), 100)
			back := f.copied()
			add(f, "lost", lost)
			_, at, _ := f.readFeed("a", before, 100)
			add(back, "made", made)
			_, err := back.Feed.Page(back.ctx, "a", at, true, 10)
			mustRelist(t, err)
			next, err := back.Feed.Register(back.ctx, Follower{ID: "a", Address: "a:1", Users: true}, at)
			back.must(err)
			if next == at {
				t.Error("a registration goes on at the position")
			}
			if came, _, _ := back.readFeed("a", next, 100); len(came) != 2+made {
				t.Errorf("it came %v", came)
			}
		})
	}
	t.Run("a position from before it is good", func(t *testing.T) {
		f := newFileFixture(t)
		_, before, _ := f.readFeed("a", f.register("a"), 100)
		back := f.copied()
		add(back, "made", 2)
		if came, _, _ := back.readFeed("a", before, 100); len(came) != 2 {
			t.Errorf("it came %v", came)
		}
	})
	t.Run("in the middle of a list", func(t *testing.T) {
		f := newFileFixture(t)
		add(f, "kept", 5)
		at := f.register("a")
		back := f.copied()
		add(f, "also", 1) // which comes with the list
		p, err := f.Feed.Page(f.ctx, "a", at, true, 1)
		f.must(err)
		_, err = back.Feed.Page(back.ctx, "a", p.Next, true, 1)
		mustRelist(t, err)
	})
}

// The positions of answers that may not have arrived are good, and so are those of an older version.
func TestFeed_positionsGiven(t *testing.T) {
	f := newFixture(t)
	_, at, _ := f.readFeed("a", f.register("a"), 100)
	n := 0
	page := func(at string) string {
		t.Helper()
		n++
		f.must(f.Users.Put(f.ctx, User{Name: fmt.Sprint("u", n), Role: "pull"}))
		p, err := f.Feed.Page(f.ctx, "a", at, true, 100)
		f.must(err)
		return p.Next
	}
	one, two := page(at), page(at)
	page(at)
	page(one)
	page(two)
	for range 3 * checksKept {
		two = page(two)
	}
	var last string
	for range 3 * checksKept {
		last = page(two)
	}
	if n := f.count(`SELECT length(checks) FROM followers`); n > (checksKept+1)*40 {
		t.Errorf("%d bytes of checks are kept", n)
	}
	page(last)
	_, err := f.Feed.Page(f.ctx, "a", at, true, 100)
	mustRelist(t, err)

	t.Run("of an older version", func(t *testing.T) {
		p, err := parsePosition(last)
		f.must(err)
		p.Check = ""
		f.exec(`UPDATE followers SET checks = ''`)
		at := page(p.String())
		f.must(f.Users.Put(f.ctx, User{Name: "x", Role: "pull"}))
		if came, _, _ := f.readFeed("a", at, 100); len(came) != 1 {
			t.Errorf("it came %v", came)
		}
		_, err = f.Feed.Page(f.ctx, "a", p.String(), true, 100)
		mustRelist(t, err)
	})
}
