package auth

import (
	"testing"

	"github.com/mirror-appliance/appliance/internal/image"
)

// Grants stored by earlier versions stay valid; blank and malformed ones include no repository.
func TestMayRepository_stored(t *testing.T) {
	for _, c := range []struct {
		stored     []string
		all        bool
		restricted bool
	}{
		{nil, true, false},
		{[]string{image.All}, true, false},
		{[]string{"a", image.All}, true, false},
		{[]string{""}, false, true},
		{[]string{"", ""}, false, true},
		{[]string{" "}, false, true},
		{[]string{"/*"}, false, true},
		{[]string{"a..b/*", "A/*"}, false, true},
	} {
		id := Identity{Name: "u", Role: Push, Repositories: c.stored}
		if got := id.MayRepository("some/repo"); got != c.all || id.MayRepository("b") != c.all || id.Restricted() != c.restricted {
			t.Errorf("%q: %v, restricted %v", c.stored, got, id.Restricted())
		}
	}
}

func TestMayRepository(t *testing.T) {
	for _, c := range []struct {
		pattern, repo string
		want          bool
	}{
		{"*", "a/b", true},
		{"openshift", "openshift", true},
		{"openshift", "openshift/release", false},
		{"openshift/*", "openshift/release", true},
		{"openshift/*", "openshift/a/b/c", true},
		{"openshift/*", "openshift", false},
		{"openshift/*", "openshift2/a", false},
		{"openshift/*", "x/openshift/a", false},
		{"", "a", false},
		{"/*", "a", false},
		{"a*", "ab", false},
	} {
		id := Identity{Name: "u", Role: Push, Repositories: []string{"other", c.pattern}}
		if got := id.MayRepository(c.repo); got != c.want {
			t.Errorf("%q on %s: %v", c.pattern, c.repo, got)
		}
		if id.Role = Admin; !id.MayRepository(c.repo) {
			t.Errorf("an administrator is limited on %s", c.repo)
		}
	}
	if !(Identity{Role: Pull}).MayRepository("a") {
		t.Error("a user without grants is limited")
	}
	id := Identity{Name: "u", Role: Pull, Repositories: []string{"mine"}, open: []string{"open/*"}}
	if !id.MayPull("open/a") || id.MayRepository("open/a") || !id.MayPull("mine") || id.MayPull("other") {
		t.Error("an open repository needs no grant to be pulled, and only to be pulled")
	}
}
