//go:build e2e

package main_test

import (
	"regexp"
	"strings"
	"testing"
)

// TestHost installs on hosts that are not as most are, one after the other.
func TestHost(t *testing.T) {
	b := newBox(t, "host")
	t.Run("the umask decides nothing", func(t *testing.T) { b.ignoresUmask(t) })
}

// ofTheCA is a directory that is named after a CA.
var ofTheCA = regexp.MustCompile(`appliance-[0-9a-f]{16}`)

// ignoresUmask compares owners and modes of all that an install makes.
func (b *box) ignoresUmask(t *testing.T) {
	t.Helper()
	before := b.files(t)
	var want string
	for _, mask := range []string{"022", "077", "000"} {
		b.inside(t, "sh", "-c", "umask "+mask+" && /root/appliance install --quayHostname "+boxHost+" && "+installed+" trust")
		made := without(b.files(t), before)
		got := b.inside(t, append([]string{"stat", "-c", "%A %U:%G %n"}, made...)...)
		got = ofTheCA.ReplaceAllString(got, "appliance-CA")
		if want == "" {
			want = got
		}
		for _, line := range without(strings.Split(got, "\n"), strings.Split(want, "\n")) {
			t.Errorf("umask %s: %s", mask, line)
		}
		if len(made) < 20 || strings.Count(got, "\n") != strings.Count(want, "\n") {
			t.Errorf("umask %s: it has made\n%s", mask, got)
		}
		b.inside(t, "sh", "-c", "umask "+mask+" && "+installed+" uninstall --autoApprove")
		if left := without(b.files(t), before); len(left) > 0 {
			t.Errorf("umask %s: left behind:\n%s", mask, strings.Join(left, "\n"))
		}
	}
}
