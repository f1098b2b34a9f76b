package store

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/internal/diskspace/diskspacetest"
	"github.com/mirror-appliance/appliance/internal/image"
)

func TestStore_UserRepositories(t *testing.T) {
	f := newFixture(t)
	want := []string{"openshift/*", "app"}
	f.must(f.Users.Put(f.ctx, User{Name: "ci", Role: "push", Repositories: want}))
	f.must(f.Users.Put(f.ctx, User{Name: "init", Role: "admin"}))
	ci, err := f.Users.Get(f.ctx, "ci")
	f.must(err)
	if !slices.Equal(ci.Repositories, want) {
		t.Errorf("got %q", ci.Repositories)
	}
	users, err := f.Users.List(f.ctx)
	f.must(err)
	if len(users) != 2 || !slices.Equal(users[0].Repositories, want) || users[1].Repositories != nil {
		t.Errorf("got %+v", users)
	}
	ci.Repositories = nil
	f.must(f.Users.Put(f.ctx, ci))
	if ci, err = f.Users.Get(f.ctx, "ci"); err != nil || ci.Repositories != nil {
		t.Errorf("taken away: got %q, %v", ci.Repositories, err)
	}
}

func TestStore_UserRepositories_Patterns(t *testing.T) {
	f := newFixture(t)
	for _, pattern := range []string{"*", "a", "openshift/*", "a/b/*"} {
		if err := f.Users.Put(f.ctx, User{Name: "u", Repositories: []string{pattern}}); err != nil {
			t.Errorf("%q: %v", pattern, err)
		}
	}
	for _, pattern := range []string{"", "/a", "a/", "A*", "a b", "a//b", "a\nb", "[ab]", "a?", "/*", "a/**", "a*", "*/a", "a/*/b"} {
		var invalid *image.PatternError
		if err := f.Users.Put(f.ctx, User{Name: "u", Repositories: []string{"a", pattern}}); !errors.As(err, &invalid) {
			t.Errorf("%q: got %v", pattern, err)
		}
	}
}

// Another program has filled the disk to the last byte, and an account must go, or
// its password has leaked.
func TestStore_UsersOnFullDisk(t *testing.T) {
	for name, restart := range map[string]bool{"while it runs": false, "before it starts": true} {
		t.Run(name, func(t *testing.T) {
			dir, fill := diskspacetest.Small(t)
			f := newFixtureIn(t, dir)
			for _, user := range []string{"gone", "leaked"} {
				f.must(f.Users.Put(f.ctx, User{Name: user, Role: "push", PasswordHash: []byte("old")}))
			}
			f.must(f.Close())
			f.Store = nil
			if restart {
				fill()
			}
			f.reopen()
			fill()
			f.must(f.Users.Put(f.ctx, User{Name: "leaked", Role: "pull", PasswordHash: []byte("new")}))
			fill()
			f.must(f.Users.Delete(f.ctx, "gone"))
			fill()
			f.reopen()
			if u, err := f.Users.Get(f.ctx, "leaked"); err != nil || string(u.PasswordHash) != "new" || u.Role != "pull" {
				t.Errorf("the account that was changed: %+v, %v", u, err)
			}
			if _, err := f.Users.Get(f.ctx, "gone"); !errors.Is(err, ErrNotFound) {
				t.Errorf("the account that was removed: %v", err)
			}
		})
	}
}

func TestStore_Users(t *testing.T) {
	f := newFixture(t)
	isNotFound(t, f.Users.Delete(f.ctx, "init"))
	f.must(f.Users.Put(f.ctx, User{Name: "puller", Role: "pull", PasswordHash: []byte("x")}))
	f.must(f.Users.Put(f.ctx, User{Name: "init", Role: "admin", PasswordHash: []byte("y")}))
	before, err := f.Users.Get(f.ctx, "init")
	f.must(err)
	f.clock.add(time.Minute)
	f.must(f.Users.Put(f.ctx, User{Name: "init", Role: "push"}))
	after, err := f.Users.Get(f.ctx, "init")
	f.must(err)
	if after.Role != "push" || len(after.PasswordHash) != 0 || !after.Created.Equal(before.Created) || !after.Updated.After(before.Updated) {
		t.Errorf("%+v became %+v", before, after)
	}
	users, err := f.Users.List(f.ctx)
	f.must(err)
	if len(users) != 2 || users[0].Name != "init" || users[1].Name != "puller" {
		t.Errorf("users %+v", users)
	}
	f.must(f.Users.Delete(f.ctx, "init"))
	_, err = f.Users.Get(f.ctx, "init")
	isNotFound(t, err)
}

func TestStore_Secret(t *testing.T) {
	f := newFixture(t)
	one, err := f.Secret(f.ctx, "http")
	f.must(err)
	other, err := f.Secret(f.ctx, "auth")
	f.must(err)
	f.reopen()
	again, err := f.Secret(f.ctx, "http")
	f.must(err)
	if len(one) != 32 || !bytes.Equal(one, again) || bytes.Equal(one, other) {
		t.Errorf("%x, %x, %x", one, again, other)
	}
}
