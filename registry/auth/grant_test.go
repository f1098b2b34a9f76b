package auth

import "testing"

func TestCheckPattern(t *testing.T) {
	for _, p := range []string{"*", "a", "a/b", "openshift/*", "quay.io/a-b/c__d/*"} {
		if err := CheckPattern(p); err != nil {
			t.Errorf("%q: %v", p, err)
		}
	}
	for _, p := range []string{"", "/", "a/", "/a", "a//b", "/*", "**", "a*", "*/a", "a/*/b", "a/**", "A", "a b", "a:b", "ä", string(make([]byte, 300))} {
		if err := CheckPattern(p); err == nil || hint(err) == "" {
			t.Errorf("%q: %v", p, err)
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
			t.Errorf("an administrator is held off %s", c.repo)
		}
	}
	if !(Identity{Role: Pull}).MayRepository("a") {
		t.Error("no grants are all grants")
	}
	id := Identity{Name: "u", Role: Pull, Repositories: []string{"mine"}, open: []string{"open/*"}}
	if !id.MayPull("open/a") || id.MayRepository("open/a") || !id.MayPull("mine") || id.MayPull("other") {
		t.Error("what is open to all is open to a user with grants too, for pulls")
	}
}
