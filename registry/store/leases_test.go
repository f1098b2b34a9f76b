//go:build s3

package store

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/registry/store/blobs3/s3test"
	"github.com/mirror-appliance/appliance/registry/store/guard"
)

// The races of two daemons that package leases lists, each where it is decided.

// daemons are two stores with one database and one bucket.
type daemons struct {
	a, b *fixture
}

func newDaemons(t *testing.T) *daemons {
	t.Helper()
	f := &fixture{t: t, dir: t.TempDir(), several: true, bucket: s3test.Start(t)}
	f.ctx, f.clock = context.Background(), &clock{t: time.Now()}
	return &daemons{f.daemon(), f.daemon()}
}

// daemon opens the store of f as another daemon.
func (f *fixture) daemon() *fixture {
	f.t.Helper()
	other := *f
	other.Store = nil
	o := f.options()
	o.Storage, _ = f.bucket.Address(f.t, "")
	o.Credentials = f.bucket.Credentials
	s, err := Open(f.ctx, o)
	f.must(err)
	other.Store = s
	f.t.Cleanup(func() { f.must(s.Close()) })
	return &other
}

// old pushes a blob that collection takes, and returns when it is old.
func (f *fixture) old(content string) (d digest.Digest, before time.Time) {
	f.t.Helper()
	d = f.blob("app", content).Digest
	return d, f.clock.add(time.Hour)
}

// removed removes a blob if it is garbage.
func (f *fixture) removed(d digest.Digest, before time.Time) int {
	f.t.Helper()
	n, _, err := f.Garbage.RemoveBlobs(f.ctx, before, []digest.Digest{d})
	f.must(err)
	return n
}

// die ends a daemon as kill -9 does: what it has is free when its lease has ended.
func (f *fixture) die(at *fixture) {
	f.t.Helper()
	id := f.member()
	at.exec(`DELETE FROM daemons WHERE id = ?`, id)
}

func (f *fixture) member() string { return f.db.(interface{ Member() string }).Member() }

// renewer is a database whose daemon has a lease.
type renewer interface {
	Renew(ctx context.Context) error
}

// rows returns the number that a query gives.
func (f *fixture) rows(text string) (n int) {
	f.t.Helper()
	f.must(f.db.Reader().QueryRowContext(f.ctx, text).Scan(&n))
	return n
}

// whole fails unless a blob is visible and has its object.
func (f *fixture) whole(d digest.Digest, content string) {
	f.t.Helper()
	if got := f.read("app", d); got != content {
		f.t.Errorf("%s reads %q", d, got)
	}
}

func (f *fixture) hasObject(d digest.Digest) bool {
	f.t.Helper()
	_, err := os.Stat(f.path(d))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		f.t.Fatal(err)
	}
	return err == nil
}

// atDelete calls do once, before the server removes the object of a blob, and answers with action.
func (f *fixture) atDelete(d digest.Digest, action s3test.Action, do func()) {
	done := false
	f.bucket.Fault(func(r *http.Request) s3test.Action {
		if done || r.Method != http.MethodDelete || !strings.HasSuffix(r.URL.Path, d.Encoded()) {
			return s3test.Pass
		}
		done = true
		do()
		return action
	})
	f.t.Cleanup(func() { f.bucket.Fault(nil) })
}

func TestDaemons_collectionSparesWhatAnotherUsesOnPostgreSQL(t *testing.T) {
	for name, c := range map[string]struct {
		use  func(f *fixture, d digest.Digest)
		kept bool
	}{
		"nothing":  {func(*fixture, digest.Digest) {}, false},
		"a HEAD":   {func(f *fixture, d digest.Digest) { _, err := f.Blobs.Stat(f.ctx, "app", d); f.must(err) }, true},
		"a mount":  {func(f *fixture, d digest.Digest) { _, err := f.Blobs.Mount(f.ctx, "other", "app", d); f.must(err) }, true},
		"a put":    {func(f *fixture, d digest.Digest) { f.blob("other", "used") }, true},
		"manifest": {func(f *fixture, d digest.Digest) { f.refer("app", "used") }, true},
		"a GET": {func(f *fixture, d digest.Digest) {
			f.whole(d, "used")
			f.must(f.guard.shared.Tidy(f.ctx))
		}, true},
		"a run": {func(f *fixture, d digest.Digest) {
			r, err := f.Runs.Begin(f.ctx, "run")
			f.must(err)
			_, _, _, err = r.Existing(f.ctx, map[string][]digest.Digest{"app": {d}}, nil)
			f.must(err)
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newDaemons(t)
			d, _ := s.a.old("used")
			c.use(s.b, d)
			before := s.a.clock.now()
			if n := s.a.removed(d, before); (n == 0) != c.kept {
				t.Errorf("%d are removed", n)
			}
			if name == "a run" { // which links it when it is committed
				return
			}
			if links, err := s.a.Garbage.RemoveLinks(s.a.ctx, before); err != nil || c.kept && links != 0 {
				t.Errorf("%d links are removed, %v", links, err)
			}
			if c.kept {
				s.b.whole(d, "used")
			}
		})
	}
}

// refer puts a manifest of a blob.
func (f *fixture) refer(repo, content string) {
	f.t.Helper()
	_, err := f.Manifests.Put(f.ctx, repo, manifestOf(descriptor("", []byte(content))), PutOptions{})
	f.must(err)
}

// A HEAD that has read the row before a removal reads it again.
func TestDaemons_headDuringARemovalOnPostgreSQL(t *testing.T) {
	s := newDaemons(t)
	d, before := s.a.old("gone")
	within := false // of the read that the answer is of
	err := s.b.guard.Blobs.Check(s.b.ctx, guard.Link{Repository: "app", Digest: d}, "app", func(ctx context.Context, tx *sql.Tx) error {
		within = tx != nil
		return nil
	})
	if err != nil || !within {
		t.Errorf("%v, read in the transaction that records the check: %v", err, within)
	}
	s.a.clock.add(guard.PushTakes + time.Hour)
	if n := s.a.removed(d, before.Add(guard.PushTakes+time.Hour)); n != 1 {
		t.Fatalf("%d are removed", n)
	}
	_, err = s.b.Blobs.Stat(s.b.ctx, "app", d)
	isNotFound(t, err)
}

// A put that has looked before a removal began places its object again, or the removal would take it.
func TestDaemons_putDuringARemovalOnPostgreSQL(t *testing.T) {
	t.Run("that begins after its look", func(t *testing.T) {
		s := newDaemons(t)
		d, before := s.a.old("again")
		placed := false
		s.b.bucket.Fault(func(r *http.Request) s3test.Action {
			if !placed && r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, d.Encoded()) {
				placed = true
				if n := s.a.removed(d, before); n != 1 { // its row, and whatever object there is
					t.Errorf("%d are removed", n)
				}
			}
			return s3test.Pass
		})
		s.b.blob("app", "again")
		if !placed {
			t.Error("the put was not seen")
		}
		s.b.whole(d, "again")
		s.a.whole(d, "again")
	})
	t.Run("that takes the object after it was placed", func(t *testing.T) {
		s := newDaemons(t)
		d, before := s.a.old("again")
		puts := 0
		s.b.bucket.Fault(func(r *http.Request) s3test.Action {
			if r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, d.Encoded()) {
				puts++
			}
			return s3test.Pass
		})
		put, err := s.b.guard.Blobs.Put(s.b.ctx, d)
		s.b.must(err)
		if n := s.a.removed(d, before); n != 1 {
			t.Fatalf("%d are removed", n)
		}
		err = s.b.db.Write(s.b.ctx, func(tx *sql.Tx) error { return put.Verify(s.b.ctx, tx) })
		if err == nil {
			t.Error("a put is committed whose object may be gone")
		}
	})
	t.Run("that is under way", func(t *testing.T) {
		s := newDaemons(t)
		d, before := s.a.old("again")
		put := make(chan struct{})
		s.a.atDelete(d, s3test.Pass, func() {
			go func() {
				defer close(put)
				s.b.blob("app", "again")
			}()
			select {
			case <-put:
				t.Error("the put did not wait for the removal")
			case <-time.After(200 * time.Millisecond): // it may be slower than that, and waits then too
			}
		})
		if n := s.a.removed(d, before); n != 1 {
			t.Fatalf("%d are removed", n)
		}
		<-put
		s.b.whole(d, "again")
		s.a.whole(d, "again")
	})
}

// A daemon that dies between the row and the object leaves the object to another one, after its lease.
func TestDaemons_diesInARemovalOnPostgreSQL(t *testing.T) {
	s := newDaemons(t)
	d, before := s.a.old("left")
	s.a.atDelete(d, s3test.Cut, func() {})
	if _, _, err := s.a.Garbage.RemoveBlobs(s.a.ctx, before, []digest.Digest{d}); err == nil {
		t.Fatal("the removal did not fail")
	}
	s.b.must(s.b.guard.shared.Tidy(s.b.ctx))
	if !s.b.hasObject(d) {
		t.Error("another daemon has finished a removal of one that may be at it still")
	}
	s.a.die(s.b)
	s.b.must(s.b.guard.shared.Tidy(s.b.ctx))
	if s.b.hasObject(d) {
		t.Error("nothing has finished it")
	}
	s.b.blob("app", "left")
	s.b.must(s.b.guard.shared.Tidy(s.b.ctx))
	s.b.whole(d, "left")
}

// One that dies behind the object has left nothing to do, and nothing to tell.
func TestDaemons_diesBehindARemovalOnPostgreSQL(t *testing.T) {
	s := newDaemons(t)
	d, before := s.a.old("gone")
	s.a.atDelete(d, s3test.Lose, func() {})
	if _, _, err := s.a.Garbage.RemoveBlobs(s.a.ctx, before, []digest.Digest{d}); err == nil {
		t.Fatal("the removal did not fail")
	}
	if s.b.hasObject(d) {
		t.Fatal("the object is there")
	}
	s.a.die(s.b)
	s.b.must(s.b.guard.shared.Tidy(s.b.ctx))
	if n := s.b.rows(`SELECT count(*) FROM condemned WHERE done = 0`); n != 0 {
		t.Errorf("%d removals are not done", n)
	}
}

// What was put while nothing looked at rows of removals is not removed by one that was left undone.
func TestDaemons_finishesNoRemovalOfARowOnPostgreSQL(t *testing.T) {
	s := newDaemons(t)
	d, _ := s.a.old("put alone")
	s.a.exec(`INSERT INTO condemned (digest, seq, daemon, at, done) VALUES (?, 1, 'dead', 0, 0)`, d.String())
	s.b.must(s.b.guard.shared.Tidy(s.b.ctx))
	s.b.whole(d, "put alone")
	s.b.blob("other", "put alone")
}

// A daemon whose lease has ended removes no object, and writes nothing as the one that it was.
func TestDaemons_leaseEndsOnPostgreSQL(t *testing.T) {
	s := newDaemons(t)
	d, before := s.a.old("kept")
	was := s.a.member()
	var removing error
	old, err := s.a.findOld(s.a.ctx, before, []digest.Digest{d})
	s.a.must(err)
	err = s.a.db.Write(s.a.ctx, func(tx *sql.Tx) error {
		gone, err := s.a.removeRow(s.a.ctx, tx, before, d, old)
		if err == nil && !gone {
			t.Error("it is not garbage")
		}
		return err
	})
	s.a.must(err)
	s.a.die(s.b) // it hangs for longer than its lease
	s.b.must(s.b.guard.shared.Tidy(s.b.ctx))
	s.b.blob("app", "kept")
	for s.a.member() == was {
		s.a.must(s.a.db.(renewer).Renew(s.a.ctx))
	}
	removing = s.a.guard.Blobs.Remove(s.a.ctx, d, func(context.Context) error { t.Error("it removes the object"); return nil })
	if removing == nil {
		t.Error("it could remove what another has put")
	}
	s.a.guard.Blobs.Unmark(s.a.ctx, d)
	s.b.whole(d, "kept")
}
