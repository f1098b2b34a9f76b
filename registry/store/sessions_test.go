package store

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

func TestSessions_aFileComesWithTheFirstByte(t *testing.T) {
	f := newFixture(t)
	u, err := f.Uploads.New(f.ctx, "app")
	f.must(err)
	f.must(u.Close())
	if left := f.list("uploads"); len(left) != 0 {
		t.Errorf("a session that has received nothing has files: %v", left)
	}
	u, err = f.Uploads.Resume(f.ctx, "app", u.ID())
	f.must(err)
	write(t, u, "x")
	f.must(u.Close())
	if left := f.list("uploads"); len(left) != f.sessionFiles() {
		t.Errorf("files of a session: %v", left)
	}
	t.Run("one without a byte becomes the empty blob", func(t *testing.T) {
		u, err := f.Uploads.New(f.ctx, "app")
		f.must(err)
		_, err = u.Commit(f.ctx, digest.FromString(""))
		f.must(err)
		if got := f.read("app", digest.FromString("")); got != "" {
			t.Errorf("it reads %q", got)
		}
	})
	t.Run("one that was cancelled is gone", func(t *testing.T) {
		u, err := f.Uploads.New(f.ctx, "app")
		f.must(err)
		f.must(u.Close())
		u, err = f.Uploads.Resume(f.ctx, "app", u.ID())
		f.must(err)
		f.must(u.Cancel(f.ctx))
		_, err = f.Uploads.Resume(f.ctx, "app", u.ID())
		isNotFound(t, err)
	})
}

// sessionFiles is how many files a small session has: its state, and beside it its bytes, which in S3
// are in the state.
func (f *fixture) sessionFiles() int {
	if f.bucket != nil {
		return 1
	}
	return 2
}

func TestSessions_areBounded(t *testing.T) {
	f := newFixture(t)
	f.sessions.each, f.sessions.all = 2, 3
	now := time.Unix(1e9, 0)
	f.now = func() time.Time { now = now.Add(time.Second); return now }
	open := func(user string, bytes int) *Upload {
		t.Helper()
		u, err := f.Uploads.New(WithUser(f.ctx, user), "app")
		f.must(err)
		if bytes > 0 {
			write(t, u, strings.Repeat("x", bytes))
		}
		f.must(u.Close())
		return u
	}
	there := func(u *Upload) bool {
		v, err := f.Uploads.Resume(f.ctx, "app", u.ID())
		if err == nil {
			f.must(v.Close())
		}
		return err == nil
	}
	t.Run("the oldest of a user that has received nothing is forgotten", func(t *testing.T) {
		other, first, second, third := open("b", 0), open("a", 0), open("a", 0), open("a", 0)
		if there(first) || !there(second) || !there(other) || !there(third) || len(f.sessions.empty) != 3 {
			t.Errorf("%d are remembered", len(f.sessions.empty))
		}
	})
	t.Run("the oldest of all that has received nothing is forgotten", func(t *testing.T) {
		clear(f.sessions.empty)
		first, second, third, fourth := open("a", 0), open("b", 0), open("c", 0), open("d", 0)
		if there(first) || !there(second) || !there(third) || !there(fourth) || len(f.sessions.empty) != 3 {
			t.Errorf("%d are remembered", len(f.sessions.empty))
		}
	})
	t.Run("the longest unused of a user makes place", func(t *testing.T) {
		first, second := open("a", 1), open("a", 1)
		there(first) // which is a use
		third := open("a", 1)
		if !there(first) || there(second) || !there(third) || len(f.list("uploads")) != 2*f.sessionFiles() {
			t.Errorf("left are %v", f.list("uploads"))
		}
	})
	t.Run("what is in use does not, and a user who has all in use is told", func(t *testing.T) {
		f.sessions.each = 3
		busy, err := f.Uploads.New(WithUser(f.ctx, "b"), "app")
		f.must(err)
		write(t, busy, "x") // the third of all
		u, err := f.Uploads.New(WithUser(f.ctx, "b"), "app")
		f.must(err)
		var many *TooManyError
		if _, err := u.Write([]byte("x")); !errors.As(err, &many) || many.Limit != 3 {
			t.Errorf("one too many gives %v", err)
		}
		f.must(busy.Cancel(f.ctx))
		write(t, u, "x")
		f.must(u.Close())
	})
	t.Run("a collection makes place", func(t *testing.T) {
		before := now.Add(time.Hour * 1e6)
		f.must(f.Garbage.StaleUploads(f.ctx, before, func(id string, _ int64) error {
			_, err := f.Garbage.RemoveUpload(f.ctx, before, id)
			return err
		}))
		if len(f.sessions.files)+len(f.sessions.users) != 0 {
			t.Errorf("still counted: %v", f.sessions.files)
		}
	})
	t.Run("those of an earlier process are counted", func(t *testing.T) {
		u, empty := open("a", 1), len(f.sessions.empty) // which are saved
		f.reopen()
		if len(f.sessions.files) != 1+empty || !there(u) {
			t.Errorf("%d are counted", len(f.sessions.files))
		}
	})
}

func TestSessions_theNewestSurviveARestart(t *testing.T) {
	f := newFixture(t)
	now := time.Unix(1e9, 0)
	f.now = func() time.Time { now = now.Add(time.Second); return now }
	var ids []string
	for range savedSessions + 20 {
		u, err := f.Uploads.New(f.ctx, "app")
		f.must(err)
		f.must(u.Close())
		ids = append(ids, u.ID())
	}
	f.reopen()
	for i, id := range ids {
		u, err := f.Uploads.Resume(f.ctx, "app", id)
		if survives := i >= 20; (err == nil) != survives {
			t.Errorf("session %d of %d: %v", i, len(ids), err)
		}
		if err == nil {
			f.must(u.Close())
		}
	}
}

func TestStore_CheckSpace_inodes(t *testing.T) {
	f := newFileFixture(t)
	f.space.Inodes = func(string) (int64, int64, error) { return 0, 1 << 20, nil }
	_, err := f.Uploads.New(f.ctx, "app")
	for what, err := range map[string]error{"a push": err, "CheckSpace": f.CheckSpace()} {
		var full *FullError
		if !errors.As(err, &full) || !full.Inodes {
			t.Errorf("%s gives %v", what, err)
		}
	}
}
