//go:build s3

package store

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/store/blobs3/s3test"
	"github.com/mirror-appliance/appliance/registry/store/database"
	"github.com/mirror-appliance/appliance/registry/store/postgres/postgrestest"
)

// split are a primary of PostgreSQL and its standby, and a storage that is reached when the network between the two is not.
type split struct {
	t                *testing.T
	clock            *clock
	primary, standby *postgrestest.Server
	database         string
	bucket           *s3test.Server // nil: files
	dir              string
}

func newSplit(t *testing.T, inBucket bool) *split {
	t.Helper()
	s := &split{t: t, clock: &clock{t: time.Now()}, dir: t.TempDir()}
	if inBucket {
		s.bucket = s3test.Start(t)
	}
	s.primary = s.start()
	var err error
	s.standby, err = s.primary.Standby(t.Context())
	s.must(err)
	t.Cleanup(func() { s.must(s.standby.Stop()) })
	s.database, _, err = s.primary.Database(t.Context(), "")
	s.must(err)
	s.must(s.standby.Until(t.Context(), `SELECT EXISTS (SELECT 1 FROM pg_database WHERE datname = '`+s.database+`')`))
	return s
}

func (s *split) start() *postgrestest.Server {
	s.t.Helper()
	server, err := postgrestest.Start(s.t.Context())
	s.must(err)
	s.t.Cleanup(func() { s.must(server.Stop()) })
	return server
}

func (s *split) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *split) options(of, other *postgrestest.Server) Options {
	o := Options{Database: of.Both(other, s.database), Storage: filepath.Join(s.dir, "storage"), Now: s.clock.now}
	if s.bucket != nil {
		o.Storage, _ = s.bucket.Address(s.t, "")
		o.Credentials = s.bucket.Credentials
		o.Shared = true
	}
	return o
}

// daemon opens the store as a daemon that reaches two servers, or one of them.
func (s *split) daemon(of, other *postgrestest.Server) *fixture {
	s.t.Helper()
	opened, err := Open(context.Background(), s.options(of, other))
	s.must(err)
	f := &fixture{Store: opened, t: s.t, ctx: context.Background(), clock: s.clock, dir: s.dir, several: s.bucket != nil, bucket: s.bucket}
	s.t.Cleanup(func() { _ = opened.Close() }) // which a daemon cannot do well whose server is gone
	return f
}

// promote makes a primary of the standby, once it has what was written.
func (s *split) promote() {
	s.t.Helper()
	s.must(s.primary.Until(s.t.Context(), `SELECT coalesce(bool_and(replay_lsn = pg_current_wal_lsn()), false) FROM pg_stat_replication`))
	s.must(s.standby.Promote(s.t.Context()))
}

// forget removes the note of the storage.
func (s *split) forget() {
	s.t.Helper()
	dir := filepath.Join(s.dir, "storage")
	if s.bucket != nil {
		dir = s.bucket.Dir
	}
	s.must(os.Remove(filepath.Join(dir, "primary")))
}

// collect removes what a daemon takes for garbage after a grace period of a minute.
func (s *split) collect(f *fixture) (removed int, err error) {
	s.t.Helper()
	before := s.clock.add(time.Hour)
	var all []digest.Digest
	err = f.Garbage.GarbageBlobs(f.ctx, before, func(d digest.Digest, _ int64) error {
		all = append(all, d)
		return nil
	})
	s.must(err)
	if len(all) == 0 {
		s.t.Error("it finds nothing to collect: this test shows nothing")
	}
	removed, _, err = f.Garbage.RemoveBlobs(f.ctx, before, all)
	return removed, err
}

// superseded fails unless an error is that of a daemon at an old primary, with both timelines and what to do.
func (s *split) superseded(what string, err error) {
	s.t.Helper()
	var by *database.SupersededError
	if !errors.As(err, new(*database.UnavailableError)) || !errors.As(err, &by) || by.Here.Timeline != 1 || by.By.Timeline != 2 ||
		!strings.Contains(err.Error(), "old primary with timeline 1") || !strings.Contains(err.Error(), "with timeline 2") || !strings.Contains(hint.Of(err), "pg_rewind") {
		s.t.Errorf("%s gives %v, hint %q", what, err, hint.Of(err))
	}
}

// After a network is split, the standby is promoted while the old primary goes on to take writes. A daemon that reaches only the old
// one removes nothing by its rows, and writes nothing any more.
func TestFenced_collectionAtAnOldPrimaryOnPostgreSQL(t *testing.T) {
	for name, inBucket := range map[string]bool{"a bucket": true, "a directory": false} {
		t.Run(name, func(t *testing.T) {
			s := newSplit(t, inBucket)
			old := s.daemon(s.primary, s.primary)
			old.pushImage("app", "before", "v1")
			s.promote()
			now := s.daemon(s.primary, s.standby)
			now.pushImage("app", "after", "v2")

			n, err := s.collect(old)
			if n != 0 {
				t.Errorf("%d blobs of the new primary are removed", n)
			}
			s.superseded("the collection", err)
			now.mustHave("app", "v1")
			now.mustHave("app", "v2")
			now.mustBeClean()
			s.superseded("a write", old.SetNote(old.ctx, "a", "b"))
			s.superseded("health", old.CheckDatabase(old.ctx))
			if o, err := Open(t.Context(), s.options(s.primary, s.primary)); err == nil {
				t.Error("it starts again", o.Close())
			} else {
				s.superseded("a start", err)
			}
			s.must(now.SetNote(now.ctx, "a", "b"))
			s.forget() // what an administrator does who goes on with the old primary
			s.daemon(s.primary, s.primary).mustHave("app", "v1")
		})
	}
}

// A daemon at an old primary ceases to write there by itself, soon after the new one is used.
func TestFenced_ceasesByItselfOnPostgreSQL(t *testing.T) {
	s := newSplit(t, true)
	old := s.daemon(s.primary, s.primary)
	s.promote()
	now := s.daemon(s.primary, s.standby)
	s.must(now.SetNote(now.ctx, "a", "b"))
	began, written := time.Now(), 0
	var err error
	for err == nil {
		if err = old.SetNote(old.ctx, "a", fmt.Sprint(written)); err == nil {
			written++
			time.Sleep(20 * time.Millisecond)
		}
	}
	s.superseded("a write", err)
	t.Logf("%d writes are acknowledged at the old primary, for %v", written, time.Since(began).Round(time.Millisecond))
}

// The looks cost a request for each batch, and not for each blob. One that takes long is looked after again, and ends.
func TestFenced_requestsOnPostgreSQL(t *testing.T) {
	s := newSplit(t, true)
	old := s.daemon(s.primary, s.primary)
	old.part = time.Hour // of a batch
	const blobs = 100
	for n := range blobs {
		old.blob("app", fmt.Sprint(n))
	}
	looks, removed := 0, 0
	slow := func() {}
	s.bucket.Fault(func(r *http.Request) s3test.Action {
		switch {
		case strings.HasSuffix(r.URL.Path, "/primary"):
			looks++
		case r.Method == http.MethodDelete && strings.Contains(r.URL.Path, "/sha256/"):
			removed++
			slow()
		}
		return s3test.Pass
	})
	n, err := s.collect(old)
	s.must(err)
	if n != blobs || removed != blobs || looks == 0 || looks > blobs/removeBatch.busy+1 {
		t.Errorf("%d blobs removed, %d requests for that, %d looks", n, removed, looks)
	}
	t.Logf("%d blobs removed, %d looks", n, looks)

	for n := range blobs {
		old.blob("app", fmt.Sprint("more", n))
	}
	looks, removed = 0, 0
	slow = func() {
		if removed == 3 {
			s.must(s.standby.Promote(t.Context()))
			s.must(s.daemon(s.primary, s.standby).SetNote(t.Context(), "a", "b"))
			s.clock.add(2 * time.Second)
		}
	}
	n, err = s.collect(old)
	s.superseded("the rest of a batch", err)
	if n != 3 || removed != 3 {
		t.Errorf("%d blobs removed, %d requests, want 3", n, removed)
	}
}

// The storage knows of a new primary before a write there is acknowledged.
func TestFenced_isNotedBeforeAWriteOnPostgreSQL(t *testing.T) {
	s := newSplit(t, true)
	f := s.daemon(s.primary, s.standby)
	s.must(f.SetNote(f.ctx, "before", "1"))
	refused := 0
	s.bucket.Fault(func(r *http.Request) s3test.Action {
		if r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/primary") {
			refused++
			return s3test.Cut
		}
		return s3test.Pass
	})
	s.must(s.primary.Kill())
	s.must(s.standby.Promote(t.Context()))
	var err error
	for refused == 0 {
		if err = f.SetNote(f.ctx, "after", "1"); !errors.As(err, new(*database.UnavailableError)) {
			t.Fatalf("a write that the storage was not told of gives %v", err)
		}
	}
	if err := f.SetNote(f.ctx, "after", "1"); !errors.As(err, new(*database.UnavailableError)) {
		t.Errorf("a write that the storage was not told of gives %v", err)
	}
	s.bucket.Fault(nil)
	for err = f.SetNote(f.ctx, "after", "1"); errors.As(err, new(*database.UnavailableError)); err = f.SetNote(f.ctx, "after", "1") {
		time.Sleep(10 * time.Millisecond)
	}
	s.must(err)
	text, err := os.ReadFile(filepath.Join(s.bucket.Dir, "primary"))
	if err != nil || !strings.Contains(string(text), `"timeline":2`) {
		t.Errorf("the note is %s, %v", text, err)
	}
}

// A database that was restored from a dump into another server is refused while the storage is noted to be used with the first, and so is
// the first afterwards: nothing tells a copy from it but the administrator.
func TestFenced_aDumpInAnotherServerOnPostgreSQL(t *testing.T) {
	for name, inBucket := range map[string]bool{"a bucket": true, "a directory": false} {
		t.Run(name, func(t *testing.T) {
			s := newSplit(t, inBucket)
			f := s.daemon(s.primary, s.primary)
			f.pushImage("app", "app", "v1")
			other := s.start()
			dump := filepath.Join(t.TempDir(), "dump")
			var err error
			from := s.primary.Both(s.primary, s.database)
			s.database, _, err = other.Database(t.Context(), "")
			s.must(err)
			s.run("pg_dump", "-Fc", "-f", dump, "-d", from)
			s.run("pg_restore", "--no-owner", "-d", other.Both(other, s.database), dump)
			opened, err := Open(t.Context(), s.options(other, other))
			if err == nil || !strings.Contains(err.Error(), "the blobs are those of a database at another one") || !strings.Contains(hint.Of(err), "primary") || !strings.Contains(hint.Of(err), "pg_restore") {
				t.Fatalf("the restored database gives %v, %v, hint %q", opened, err, hint.Of(err))
			}
			f.pushImage("app", "app", "v2") // the first is not disturbed
			s.forget()
			s.daemon(other, other).mustHave("app", "v1")
			var by *database.SupersededError
			if err := f.mayRemove(f.ctx); !errors.As(err, &by) || by.Here.Cluster == by.By.Cluster {
				t.Errorf("the first then gives %v", err)
			}
			if err := f.SetNote(f.ctx, "a", "b"); !errors.As(err, &by) {
				t.Errorf("a write of the first gives %v", err)
			}
		})
	}
}

func (s *split) run(name string, args ...string) {
	s.t.Helper()
	programs, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	s.must(err)
	out, err := exec.Command(filepath.Join(programs[len(programs)-1], name), args...).CombinedOutput()
	if err != nil {
		s.t.Fatalf("%s: %v\n%s", name, err, out)
	}
}
