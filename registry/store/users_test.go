package store

import (
	"errors"
	"slices"
	"testing"
)

func TestStore_UserRepositories(t *testing.T) {
	f := newFixture(t)
	want := []string{"openshift/*", "app"}
	f.must(f.PutUser(f.ctx, User{Name: "ci", Role: "push", Repositories: want}))
	f.must(f.PutUser(f.ctx, User{Name: "init", Role: "admin"}))
	ci, err := f.User(f.ctx, "ci")
	f.must(err)
	if !slices.Equal(ci.Repositories, want) {
		t.Errorf("got %q", ci.Repositories)
	}
	users, err := f.Users(f.ctx)
	f.must(err)
	if len(users) != 2 || !slices.Equal(users[0].Repositories, want) || users[1].Repositories != nil {
		t.Errorf("got %+v", users)
	}
	ci.Repositories = nil
	f.must(f.PutUser(f.ctx, ci))
	if ci, err = f.User(f.ctx, "ci"); err != nil || ci.Repositories != nil {
		t.Errorf("taken away: got %q, %v", ci.Repositories, err)
	}
}

func TestStore_UserRepositories_Patterns(t *testing.T) {
	f := newFixture(t)
	for _, pattern := range []string{"*", "a", "openshift/*", "a/b/*"} {
		if err := f.PutUser(f.ctx, User{Name: "u", Repositories: []string{pattern}}); err != nil {
			t.Errorf("%q: %v", pattern, err)
		}
	}
	for _, pattern := range []string{"", "/a", "a/", "A*", "a b", "a//b", "a\nb", "[ab]", "a?", "/*", "a/**", "a*", "*/a", "a/*/b"} {
		var invalid *InvalidError
		if err := f.PutUser(f.ctx, User{Name: "u", Repositories: []string{"a", pattern}}); !errors.As(err, &invalid) {
			t.Errorf("%q: got %v", pattern, err)
		}
	}
}
