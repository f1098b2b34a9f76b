package views

import (
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

const (
	bundlesNamed = 3   // in a reason
	reasonLength = 500 // at most, in bytes
)

// reason returns the name of a run: the view, and what makes it another than the last. now is what
// its tag names.
func (v *view) reason(last note, next *note, now digest.Digest) string {
	var why []string
	add := func(format string, args ...any) { why = append(why, fmt.Sprintf(format, args...)) }
	came, went := without(next.Bundles, last.Bundles), without(last.Bundles, next.Bundles)
	switch {
	case last.Key == "":
		add("made first, with %d bundles", len(next.Bundles))
		came = nil
	case last.Key == next.Key && now == "":
		add("its tag was deleted")
	case last.Key == next.Key:
		add("its tag was moved by a push or another run")
	case last.Filter != next.Filter:
		add("its filter changed")
	}
	if was := last.View.OriginalDigest; was != "" && was != next.View.OriginalDigest {
		add("its original is %s instead of %s", short(next.View.OriginalDigest), short(was))
	}
	if len(came) > 0 {
		add("%s came", some(came))
	}
	if len(went) > 0 {
		add("%s went", some(went))
	}
	for _, b := range next.View.LeftOut {
		if slices.Contains(went, b.Bundle) {
			add("of %s %s", b.Bundle, b.Reason)
			break
		}
	}
	for _, p := range next.View.LeftOut {
		if p.Bundle == "" && !slices.Contains(last.View.LeftOut, p) {
			add("without %s: %s", p.Name(), p.Reason)
		}
	}
	if len(why) == 0 {
		add("its channels changed")
	}
	text := api.ViewRun(v.Name, strings.Join(why, "; "))
	return strings.ToValidUTF8(text[:min(len(text), reasonLength)], "")
}

// without returns the names of a that are not in b.
func without(a, b []string) []string {
	has := map[string]bool{}
	for _, name := range b {
		has[name] = true
	}
	return slices.DeleteFunc(slices.Clone(a), func(name string) bool { return has[name] })
}

// some names the first of some bundles, and how many more there are.
func some(names []string) string {
	if more := len(names) - bundlesNamed; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:bundlesNamed], ", "), more)
	}
	return strings.Join(names, ", ")
}

// short returns a digest as people compare them.
func short(d digest.Digest) string {
	const shown = 12 // digits
	return d.Algorithm().String() + ":" + d.Encoded()[:shown]
}
