package image_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/internal/image"
)

var grammar = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)

func FuzzValidRepository(f *testing.F) {
	for _, s := range []string{"a", "a/b", "a.b_c__d-e---f/g", "a..b", "a.-b", "a___b", "_", "a_", "-a", "A", "a/", "/", "", strings.Repeat("a", 256)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		valid := image.ValidRepository(s)
		if want := grammar.MatchString(s) && len(s) <= 255; valid != want {
			t.Errorf("%q: %v, want %v", s, valid, want)
		}
		if valid != (image.CheckPattern(s) == nil) {
			t.Errorf("%q is a name or a pattern, and not the other", s)
		}
		if valid && (!image.MatchAny([]string{s}, s) || !image.MatchAny([]string{"*"}, s) || image.MatchAny([]string{s + "/*"}, s)) {
			t.Errorf("%q does not match itself", s)
		}
	})
}

func TestCheckPattern(t *testing.T) {
	for _, p := range []string{"*", "a", "a/b", "openshift/*", "quay.io/a-b/c__d/*", strings.Repeat("a", 253) + "/*"} {
		if err := image.CheckPattern(p); err != nil {
			t.Errorf("%q: %v", p, err)
		}
	}
	for _, p := range []string{
		"", " ", "\t", "\n", "/", "a/", "/a", "a//b", "/*", "**", "a*", "*/a", "a/*/b", "a/**", "A", "A/*", "a b", " a", "a ", "a\nb", "a:b", "ä",
		"a..b", "a..b/*", "-a/*", "a_/*", "a___b", ".", "a,b", "[ab]", "a?", string(make([]byte, 300)), strings.Repeat("a", 256), strings.Repeat("a", 254) + "/*",
	} {
		err := image.CheckPatterns([]string{"a", p})
		if hinted, ok := err.(interface{ Hint() string }); !ok || hinted.Hint() == "" {
			t.Errorf("%q: %v", p, err)
		}
	}
}

func TestMatch(t *testing.T) {
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
		{"openshift/*", "openshift/", false},
		{"openshift/*", "openshift2/a", false},
		{"openshift/*", "x/openshift/a", false},
		{"", "", false},
		{"", "a", false},
		{" ", "a", false},
		{"/*", "a", false},
		{"/*", "/a", false},
		{"a*", "ab", false},
	} {
		if got := image.MatchAny([]string{c.pattern}, c.repo); got != c.want {
			t.Errorf("%q on %s: %v", c.pattern, c.repo, got)
		}
	}
	if image.MatchAny(nil, "a") || !image.MatchAny([]string{"", "b", "a"}, "a") {
		t.Error("MatchAny")
	}
}
