//go:build s3

package store

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// session begins one at a daemon, with some bytes.
func (f *fixture) session(user, content string) (id string) {
	f.t.Helper()
	u, err := f.Uploads.New(WithUser(f.ctx, user), "app")
	f.must(err)
	if content != "" {
		_, err := io.WriteString(u, content)
		f.must(err)
	}
	f.must(u.Close())
	return u.ID()
}

// resumed goes on with a session.
func (f *fixture) resumed(id string) *Upload {
	f.t.Helper()
	u, err := f.Uploads.Resume(f.ctx, "app", id)
	f.must(err)
	return u
}

// large is content of several parts.
func large(n int) string { return strings.Repeat("0123456789abcdef", n<<20/16) }

// An upload goes on at whichever daemon the next request comes to.
func TestDaemons_uploadGoesOnElsewhereOnPostgreSQL(t *testing.T) {
	s := newDaemons(t)
	for _, content := range []string{"small", large(20)} {
		id := s.a.session("user", "")
		half := len(content) / 2
		u := s.b.resumed(id)
		write(t, u, content[:half])
		s.b.must(u.Close())
		u = s.a.resumed(id)
		if u.Size() != int64(half) {
			t.Fatalf("it has %d bytes of %d", u.Size(), half)
		}
		write(t, u, content[half:])
		s.a.must(u.Close())
		d := digest.FromString(content)
		_, err := s.b.resumed(id).Commit(s.b.ctx, d)
		s.b.must(err)
		s.a.whole(d, content)
		_, err = s.a.Uploads.Resume(s.a.ctx, "app", id)
		isNotFound(t, err)
	}
	_, err := s.b.Uploads.Resume(s.b.ctx, "other", s.a.session("user", ""))
	isNotFound(t, err)
	u := s.b.resumed(s.a.session("user", "x"))
	s.b.must(u.Cancel(s.b.ctx))
	_, err = s.a.Uploads.Resume(s.a.ctx, "app", u.ID())
	isNotFound(t, err)
}

// A session is one request's at a time, until it ends or the lease of its daemon does.
func TestDaemons_sessionIsOfOneRequestOnPostgreSQL(t *testing.T) {
	s := newDaemons(t)
	s.a.patience, s.b.patience = 50*time.Millisecond, 50*time.Millisecond
	id := s.a.session("user", "first, ")
	var busy *BusyError
	mine := s.a.resumed(id)
	for _, f := range []*fixture{s.a, s.b} {
		if _, err := f.Uploads.Resume(f.ctx, "app", id); !errors.As(err, &busy) {
			t.Errorf("while another request has it: %v", err)
		} else if busy.Elsewhere != (f == s.b) {
			t.Errorf("at another daemon: %v, the error is %v", f == s.b, err)
		}
	}
	removed, err := s.b.Garbage.RemoveUpload(s.b.ctx, s.b.clock.now().Add(time.Hour), id)
	if err != nil || removed != 0 {
		t.Errorf("a collection removes %d bytes of it, %v", removed, err)
	}
	write(t, mine, "of a daemon that hangs")
	s.a.die(s.b)
	theirs := s.b.resumed(id)
	write(t, theirs, "second")
	s.a.must(s.a.db.(renewer).Renew(s.a.ctx))
	if err := mine.Close(); err == nil {
		t.Error("a daemon saves what another one has")
	}
	s.b.must(theirs.Close())
	const content = "first, second"
	d := digest.FromString(content)
	_, err = s.a.resumed(id).Commit(s.a.ctx, d)
	s.a.must(err)
	s.b.whole(d, content)
}

// A daemon that lost its lease does not take away what another one goes on with.
func TestDaemons_lostSessionIsNotDiscardedOnPostgreSQL(t *testing.T) {
	s := newDaemons(t)
	content := large(9)
	id := s.a.session("user", content)
	mine := s.a.resumed(id)
	s.a.die(s.b)
	theirs := s.b.resumed(id)
	s.a.must(s.a.db.(renewer).Renew(s.a.ctx))
	if _, err := mine.Commit(s.a.ctx, digest.FromString(content)); !errors.Is(err, ErrUnavailable) {
		t.Errorf("it commits: %v", err)
	}
	_, err := theirs.Commit(s.b.ctx, digest.FromString(content))
	s.b.must(err)
	s.a.whole(digest.FromString(content), content)
}

// The bounds of a user are those over all daemons.
func TestDaemons_sessionsAreBoundedOnPostgreSQL(t *testing.T) {
	s := newDaemons(t)
	for _, f := range []*fixture{s.a, s.b} {
		f.guard.shared.Sessions.Each, f.guard.shared.Sessions.All = 2, 3
	}
	there := func(id string) bool {
		s.b.clock.add(time.Second)
		u, err := s.b.Uploads.Resume(s.b.ctx, "app", id)
		if err == nil {
			s.b.must(u.Close())
		}
		return err == nil
	}
	begin := func(f *fixture, user, content string) string {
		f.clock.add(time.Second)
		return f.session(user, content)
	}
	first, second := begin(s.a, "user", "x"), begin(s.b, "user", "x")
	there(first) // which is a use
	third := begin(s.a, "user", "x")
	if !there(first) || there(second) || !there(third) {
		t.Error("the least recently used one does not make room")
	}
	if n := len(s.a.list("uploads")); n != 2 {
		t.Errorf("the storage has %d", n)
	}
	used, err := s.a.Uploads.New(WithUser(s.a.ctx, "other"), "app")
	s.a.must(err)
	write(t, used, "x") // the third of all
	u, err := s.b.Uploads.New(WithUser(s.b.ctx, "other"), "app")
	s.b.must(err)
	var many *TooManyError
	if _, err := io.WriteString(u, "x"); !errors.As(err, &many) || many.Limit != 3 {
		t.Errorf("one too many: %v", err)
	}
	s.a.must(used.Cancel(s.a.ctx))
	write(t, u, "x")
	s.b.must(u.Cancel(s.b.ctx))
	empty := []string{begin(s.a, "user", ""), begin(s.b, "user", ""), begin(s.a, "user", "")}
	if there(empty[0]) || !there(empty[1]) || !there(empty[2]) {
		t.Error("the oldest that has received nothing is not forgotten")
	}
}

// A collection removes what is stale, whichever daemon it was begun at, also what a dead one left.
func TestDaemons_collectionOfSessionsOnPostgreSQL(t *testing.T) {
	s := newDaemons(t)
	ids := []string{s.a.session("user", ""), s.a.session("user", "x")}
	inUse, err := s.a.Uploads.New(s.a.ctx, "app")
	s.a.must(err)
	write(t, inUse, "x")
	before := s.a.clock.add(time.Hour)
	young := s.a.session("user", "")
	collect := func() (all []string) {
		s.b.must(s.b.Garbage.StaleUploads(s.b.ctx, before, func(id string, _ int64) error {
			all = append(all, id)
			_, err := s.b.Garbage.RemoveUpload(s.b.ctx, before, id)
			return err
		}))
		return all
	}
	if got := collect(); len(got) != len(ids) {
		t.Errorf("stale are %v, not %v", got, ids)
	}
	for _, id := range ids {
		_, err := s.a.Uploads.Resume(s.a.ctx, "app", id)
		isNotFound(t, err)
	}
	s.a.must(s.a.resumed(young).Close())
	s.a.die(s.b)
	if got := collect(); len(got) != 1 || got[0] != inUse.ID() {
		t.Errorf("stale after the end of a daemon are %v", got)
	}
}

// A request that ends while it waits for an upload leaves it to the request that has it.
func TestDaemons_interruptedRequestReleasesNothingOnPostgreSQL(t *testing.T) {
	s := newDaemons(t)
	const id = "11111111-1111-4111-8111-111111111111"
	if taken, err := s.a.guard.Sessions.TryTake(s.a.ctx, id); !taken || err != nil {
		t.Fatal(taken, err)
	}
	ended, end := context.WithCancel(s.a.ctx)
	end()
	if _, err := s.a.guard.Sessions.TryTake(ended, id); !errors.Is(err, context.Canceled) {
		t.Errorf("a request that has ended: %v", err)
	}
	s.a.must(s.a.guard.shared.Tidy(s.a.ctx))
	if taken, err := s.b.guard.Sessions.TryTake(s.b.ctx, id); taken || err != nil {
		t.Errorf("another daemon takes it: %v, %v", taken, err)
	}
}
