package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/registry/store/backup"
)

// register registers a follower, and returns its position.
func (f *fixture) register(id string) string {
	f.t.Helper()
	at, err := f.Feed.Register(f.ctx, Follower{ID: id, Address: id + ":8443", Users: true}, "")
	f.must(err)
	return at
}

// readFeed reads on from a position, which is shown, until it has caught up, and returns what came, by its key, and where it is then.
func (f *fixture) readFeed(id, at string, limit int) (came map[string]json.RawMessage, next string, pages int) {
	f.t.Helper()
	came = map[string]json.RawMessage{}
	for {
		p, err := f.Feed.Page(f.ctx, id, at, pages == 0, limit)
		f.must(err)
		if len(p.Changes) > limit {
			f.t.Fatalf("a page of %d has %d changes", limit, len(p.Changes))
		}
		for _, c := range p.Changes {
			came[c.Kind+" "+c.Repository+" "+c.Name] = c.State
		}
		at = p.Next
		pages++
		if p.CaughtUp {
			return came, at, pages
		}
	}
}

func mustRelist(t *testing.T, err error) {
	t.Helper()
	var relist *RelistError
	if !errors.As(err, &relist) {
		t.Errorf("the error is %v, want that it has to list again", err)
	}
}

const countChanges = `SELECT count(*) FROM changes`

// Without followers there is no row, and with one that has all there is none either.
func TestFeed_hasNoRowsForNothing(t *testing.T) {
	f := newFixture(t)
	f.pushImage("app", "one", "v1")
	f.must(f.Users.Put(f.ctx, User{Name: "u", Role: "pull"}))
	if n := f.count(countChanges); n != 0 {
		t.Errorf("%d changes without a follower", n)
	}
	_, at, _ := f.readFeed("a", f.register("a"), 100)
	f.pushImage("app", "two", "v1", "v2")
	if n := f.count(countChanges); n == 0 {
		t.Error("no change for a follower")
	}
	_, at, _ = f.readFeed("a", at, 100)
	_, err := f.Feed.Page(f.ctx, "a", at, true, 100) // which tells that the last one is saved
	f.must(err)
	if n := f.count(countChanges); n != 0 {
		t.Errorf("%d changes that the follower has", n)
	}
	f.pushImage("app", "three", "v1")
	f.must(f.Feed.Remove(f.ctx, "a"))
	if n := f.count(countChanges); n != 0 {
		t.Errorf("%d changes without a follower", n)
	}
	isNotFound(t, f.Feed.Remove(f.ctx, "a"))
}

// Each thing is a row, however often it changes, so that the feed is bounded by what there is.
func TestFeed_hasEachThingOnce(t *testing.T) {
	f := newFixture(t)
	a, b := f.pushImage("app", "a", "t"), f.pushImage("app", "b", "t")
	_, at, _ := f.readFeed("a", f.register("a"), 100)
	for i := range 50 {
		m := []Manifest{a, b}[i%2]
		_, err := f.Manifests.Put(f.ctx, "app", m.Body, PutOptions{Tags: []string{"t"}})
		f.must(err)
	}
	f.must(f.Tags.Delete(f.ctx, "app", "t"))
	came, _, _ := f.readFeed("a", at, 100)
	if state, ok := came["tag app t"]; len(came) != 1 || !ok || state != nil {
		t.Errorf("it came %v, want that the tag is gone", came)
	}
}

// Pages go through the list of all and the changes since, whatever their size, and all readers get the same.
func TestFeed_pages(t *testing.T) {
	f := newFixture(t)
	for i := range 7 {
		f.pushImage(fmt.Sprint("repo", i%3), fmt.Sprint(i), fmt.Sprint("t", i))
	}
	f.must(f.Users.Put(f.ctx, User{Name: "u", Role: "pull"}))
	f.must(f.Clusters.Put(f.ctx, Cluster{ID: "c", Facts: json.RawMessage(`{}`)}))
	f.must(f.Runs.Want(f.ctx, "w", json.RawMessage(`[]`)))
	var last map[string]json.RawMessage
	for _, limit := range []int{1, 2, 100} {
		id := fmt.Sprint("of ", limit)
		at := f.register(id)
		f.pushImage("repo1", "while it reads", "t9")
		came, at, pages := f.readFeed(id, at, limit)
		if len(came) != 7+7+3+2 || last != nil && fmt.Sprint(last) != fmt.Sprint(came) {
			t.Errorf("by %d: %d things came in %d pages: %v", limit, len(came), pages, came)
		}
		last = came
		if came, _, _ := f.readFeed(id, at, limit); len(came) != 0 {
			t.Errorf("by %d: there came again %v", limit, came)
		}
	}
}

// Accounts are for followers that are registered with them.
func TestFeed_accounts(t *testing.T) {
	f := newFixture(t)
	f.must(f.Users.Put(f.ctx, User{Name: "before", Role: "pull"}))
	at, err := f.Feed.Register(f.ctx, Follower{ID: "a", Address: "a:1"}, "")
	f.must(err)
	f.must(f.Users.Put(f.ctx, User{Name: "after", Role: "pull"}))
	came, at, _ := f.readFeed("a", at, 1)
	if len(came) != 0 {
		t.Errorf("without accounts it came %v", came)
	}
	next, err := f.Feed.Register(f.ctx, Follower{ID: "a", Address: "a:1"}, at)
	f.must(err)
	if next != at {
		t.Error("a registration with a good position has begun anew")
	}
	if next, err = f.Feed.Register(f.ctx, Follower{ID: "a", Address: "a:1", Users: true}, at); err != nil || next == at {
		t.Errorf("it goes on without what accounts there were before: %v", err)
	}
	if came, _, _ := f.readFeed("a", next, 10); len(came) != 2 {
		t.Errorf("with accounts it came %v", came)
	}
}

// A follower that is too far behind lists again, one that does not ask for long is forgotten, and the table has a bound.
func TestFeed_isBounded(t *testing.T) {
	f := newFixture(t)
	f.feed.kept = 10
	dead, alive := f.register("dead"), f.register("alive")
	_, alive, _ = f.readFeed("alive", alive, 100)
	for i := range 20 {
		f.pushImage("app", fmt.Sprint(i), "t"+fmt.Sprint(i))
		_, alive, _ = f.readFeed("alive", alive, 100)
		f.must(f.Maintain(f.ctx))
		if n := f.count(countChanges); n > 11 {
			t.Fatalf("there are %d changes after %d pushes", n, i)
		}
	}
	_, err := f.Feed.Page(f.ctx, "dead", dead, true, 10)
	mustRelist(t, err)
	again, err := f.Feed.Register(f.ctx, Follower{ID: "dead", Address: "dead:8443"}, dead)
	f.must(err)
	if came, _, _ := f.readFeed("dead", again, 100); len(came) != 40 {
		t.Errorf("%d things came, want 20 manifests and 20 tags", len(came))
	}

	f.clock.add(followerKept - time.Hour)
	_, _, _ = f.readFeed("alive", alive, 100)
	f.clock.add(2 * time.Hour)
	f.must(f.Maintain(f.ctx))
	all, err := f.Feed.List(f.ctx)
	f.must(err)
	if len(all) != 2 || all[0].ID != "alive" || all[0].Relist || all[1].ID != "dead" || !all[1].Relist || all[1].Address != "dead:8443" {
		t.Errorf("there are the followers %v", all)
	}
	f.pushImage("app", "later", "later")
	_, alive, _ = f.readFeed("alive", alive, 100)
	_, _, _ = f.readFeed("alive", alive, 100) // which confirms it
	f.must(f.Maintain(f.ctx))
	if n := f.count(countChanges); n > 0 {
		t.Errorf("%d changes are kept for one that does not ask", n)
	}
	_, err = f.Feed.Page(f.ctx, "dead", again, true, 10)
	mustRelist(t, err)
}

// A position is good for its registration only, and not after the changes behind it are deleted.
func TestFeed_position(t *testing.T) {
	f := newFixture(t)
	f.pushImage("app", "a", "t")
	before := f.register("a")
	_, after, _ := f.readFeed("a", before, 100)
	f.pushImage("app", "b", "t")
	_, _, _ = f.readFeed("a", after, 100)
	_, err := f.Feed.Page(f.ctx, "b", after, true, 10)
	mustRelist(t, err)
	f.register("b")
	_, err = f.Feed.Page(f.ctx, "b", after, true, 10)
	mustRelist(t, err)
	_, head, _ := f.readFeed("a", after, 100)
	f.register("b") // whose changes begin here, as those after this position do
	_, err = f.Feed.Page(f.ctx, "b", head, true, 10)
	mustRelist(t, err)
	_, now, _ := f.readFeed("a", after, 100)
	_, err = f.Feed.Page(f.ctx, "a", now, true, 10)
	f.must(err)
	_, err = f.Feed.Page(f.ctx, "a", before, true, 10)
	mustRelist(t, err)
	for _, text := range []string{"", "x", "e30"} {
		var invalid *InvalidError
		if _, err := f.Feed.Page(f.ctx, "a", text, true, 10); !errors.As(err, &invalid) {
			t.Errorf("position %q: %v", text, err)
		}
	}
}

// A request that waits is woken by each kind of change, and by nothing else.
func TestFeed_changedWakes(t *testing.T) {
	f := newFixture(t)
	f.register("a")
	woken := func(c <-chan struct{}) bool {
		select {
		case <-c:
			return true
		default:
			return false
		}
	}
	for name, do := range map[string]func() error{
		"tag": func() error { f.pushImage("app", "a", "t"); return nil }, "user": func() error { return f.Users.Put(f.ctx, User{Name: "u", Role: "pull"}) },
		"cluster": func() error { return f.Clusters.Put(f.ctx, Cluster{ID: "c", Facts: json.RawMessage(`{}`)}) },
		"needs":   func() error { return f.Clusters.Keep(f.ctx, "c", []digest.Digest{dA}) },
		"wants":   func() error { return f.Runs.Want(f.ctx, "w", json.RawMessage(`[]`)) },
	} {
		if name == "needs" {
			f.must(f.Clusters.Put(f.ctx, Cluster{ID: "c", Facts: json.RawMessage(`{}`)}))
		}
		c := f.Feed.Changed()
		f.must(do())
		if !woken(c) {
			t.Errorf("a change of kind %s does not wake", name)
		}
	}
	c := f.Feed.Changed()
	f.must(f.SetNote(f.ctx, "other", "x"))
	f.blob("app", "of no manifest")
	if woken(c) {
		t.Error("what followers do not get has woken")
	}
}

// After a restore the changes since the backup are lost, so that a follower lists again.
func TestFeed_afterRestore_SQLite(t *testing.T) {
	f := newFixture(t)
	_, at, _ := f.readFeed("a", f.register("a"), 100)
	from, to := filepath.Join(t.TempDir(), "backup"), t.TempDir()
	_, err := f.backup(from)
	f.must(err)
	_, err = backup.Restore(f.ctx, from, backup.RestoreOptions{Database: filepath.Join(to, "appliance.db"), Storage: filepath.Join(to, "storage")})
	f.must(err)
	restored := newFileFixtureIn(t, to)
	_, err = restored.Feed.Page(f.ctx, "a", at, true, 10)
	mustRelist(t, err)
	all, err := restored.Feed.List(f.ctx)
	f.must(err)
	if len(all) != 1 || !all[0].Relist {
		t.Errorf("its followers are %v", all)
	}
}

// The run that keeps what came is not ended by a collection, however long the follower was down.
func TestFollowing_runIsKept(t *testing.T) {
	f := newFixture(t)
	f.must(f.Following.Begin(f.ctx, "position"))
	kept, err := f.Following.Run(f.ctx)
	f.must(err)
	other, err := f.Runs.Begin(f.ctx, "other")
	f.must(err)
	f.reopen() // what the process remembers of runs is gone
	var stale []string
	f.must(f.Garbage.StaleRuns(f.ctx, f.clock.add(1000*time.Hour), func(id string) error { stale = append(stale, id); return nil }))
	if len(stale) != 1 || stale[0] != other.ID() {
		t.Errorf("the runs %v are stale, want %s", stale, other.ID())
	}
	f.must(f.Garbage.RemoveRun(f.ctx, f.clock.now(), kept.ID()))
	again, err := f.Following.Run(f.ctx)
	f.must(err)
	if again.ID() != kept.ID() {
		t.Error("the run was removed")
	}
	f.must(f.Following.End(f.ctx))
	if at, err := f.Following.State(f.ctx); err != nil || at != (Followed{}) {
		t.Errorf("after the end it is at %v: %v", at, err)
	}
	isNotFound(t, func() error { _, err := f.Runs.Get(f.ctx, kept.ID()); return err }())
}

// A manifest is taken by its own digest alone, whatever has fetched it.
func TestFollowing_Stage_digest(t *testing.T) {
	f := newFixture(t)
	f.must(f.Following.Begin(f.ctx, "position"))
	r, err := f.Following.Run(f.ctx)
	f.must(err)
	body := index()
	for d, ok := range map[digest.Digest]bool{digest.FromBytes(body): true, dA: false} {
		err := f.Following.Stage(f.ctx, r, []Arrived{{Lacking{Repository: "app", Digest: d, Manifest: true}, body}})
		var wrong *DigestError
		if ok != (err == nil) || !ok && !errors.As(err, &wrong) {
			t.Errorf("as %s it is answered %v", d, err)
		}
	}
}

// Of what came nothing shows while some content of it is not here. What comes later of each kind shows, too.
func TestFollowing_Commit_lacking(t *testing.T) {
	first, f := newFixture(t), newFixture(t)
	first.pushImage("app", "app", "v1")
	first.pushImage("app", "lacking", "v2")
	position := first.register("a")
	f.must(f.Following.Begin(f.ctx, position))
	for caughtUp := false; !caughtUp; {
		page, err := first.Feed.Page(f.ctx, "a", position, false, 100)
		first.must(err)
		f.must(f.Following.Save(f.ctx, page))
		position, caughtUp = page.Next, page.CaughtUp
	}
	r, err := f.Following.Run(f.ctx)
	f.must(err)
	lacking, err := f.Following.Lacking(f.ctx, Lacking{}, 100)
	f.must(err)
	if len(lacking) != 2 {
		t.Fatalf("it lacks %v, want two manifests", lacking)
	}
	bring := func(l Lacking) {
		t.Helper()
		m, err := first.Manifests.Get(f.ctx, l.Repository, l.Digest)
		first.must(err)
		f.must(f.Following.Stage(f.ctx, r, []Arrived{{l, m.Body}}))
	}
	bring(lacking[0])
	_, err = f.Following.Commit(f.ctx, true)
	isNotFound(t, err)
	if tags, err := f.Tags.All(f.ctx, Tag{}, 100); err != nil || len(tags) > 0 {
		t.Errorf("it shows %v, %v", tags, err)
	}
	bring(lacking[1])
	_, err = f.Following.Commit(f.ctx, true)
	f.must(err)
	if tags, err := f.Tags.All(f.ctx, Tag{}, 100); err != nil || len(tags) != 2 {
		t.Errorf("it shows %v, %v", tags, err)
	}
	first.must(first.Tags.Delete(first.ctx, "app", "v1"))
	first.must(first.Users.Put(first.ctx, User{Name: "u", Role: "pull"}))
	first.must(first.Clusters.Put(first.ctx, Cluster{ID: "c", Facts: json.RawMessage(`{}`)}))
	first.must(first.Runs.Want(first.ctx, "w", json.RawMessage(`["a"]`)))
	page, err := first.Feed.Page(first.ctx, "a", position, true, 100)
	first.must(err)
	f.must(f.Following.Save(f.ctx, page))
	_, err = f.Following.Commit(f.ctx, true)
	f.must(err)
	if tags, err := f.Tags.All(f.ctx, Tag{}, 100); err != nil || len(tags) != 1 {
		t.Errorf("after a tag went it shows %v, %v", tags, err)
	}
}

// Registered returns what List does, but for the count of changes.
func TestFeed_Registered(t *testing.T) {
	f := newFixture(t)
	_, err := f.Feed.Register(f.ctx, Follower{ID: "a", Address: "a:1", CA: "ca", Token: "token", Users: true}, "")
	f.must(err)
	f.pushImage("app", "x", "t")
	listed, err := f.Feed.List(f.ctx)
	f.must(err)
	some, err := f.Feed.Registered(f.ctx)
	f.must(err)
	if len(listed) != 1 || listed[0].Pending == 0 || len(some) != 1 {
		t.Fatalf("%v are listed, %v are registered", listed, some)
	}
	listed[0].Pending = 0
	if some[0] != listed[0] || some[0].Token != "token" {
		t.Errorf("%v is registered, and %v listed", some[0], listed[0])
	}
}

// What a follower has saved and does not show stays pending here: a list of all, and changes after it.
func TestFeed_unshown(t *testing.T) {
	f := newFixture(t)
	f.pushImage("app", "one", "v1")
	at := f.register("a")
	is := func(when string, listing bool, pending int) {
		t.Helper()
		all, err := f.Feed.List(f.ctx)
		f.must(err)
		if len(all) != 1 || all[0].Listing != listing || all[0].Pending != pending {
			t.Errorf("%s the followers are %+v, want listing %v and %d pending", when, all, listing, pending)
		}
	}
	read := func(shown, caughtUp bool) {
		t.Helper()
		p, err := f.Feed.Page(f.ctx, "a", at, shown, 2)
		f.must(err)
		if p.CaughtUp != caughtUp {
			t.Fatalf("it has caught up: %v", p.CaughtUp)
		}
		at = p.Next
	}
	again := func() {
		t.Helper()
		next, err := f.Feed.Register(f.ctx, Follower{ID: "a", Address: "a:8443", Users: true}, at)
		f.must(err)
		if next != at {
			t.Fatal("it begins anew")
		}
	}
	is("after the registration", true, 2)
	read(false, false)
	read(false, false)
	read(false, true)
	read(false, true)
	again()
	is("with a list that does not show", true, 2)
	read(true, true)
	is("with a list that shows", false, 0)
	f.pushImage("app", "two", "v1", "v2")
	read(false, false)
	read(false, true)
	read(false, true)
	again()
	is("with changes that do not show", false, 3)
	read(true, true)
	is("with changes that show", false, 0)
	if n := f.count(countChanges); n != 0 {
		t.Errorf("%d changes that the follower shows are kept", n)
	}
}
