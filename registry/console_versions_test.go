package registry_test

import (
	"net/url"
	"strings"
	"testing"
)

// hasAll checks the page for texts, and for their lack after an exclamation mark.
func (e *editor) hasAll(t *testing.T, all ...string) {
	t.Helper()
	for _, want := range all {
		if text, lacks := strings.CutPrefix(want, "!"); strings.Contains(e.body, text) == lacks {
			t.Errorf("%q on the page should be there: %v. It is\n%s", text, !lacks, e.body)
		}
	}
}

// Versions of a channel are chosen from the drawing and from the lists below it, and the way between them is shown.
func TestConsole_editVersions(t *testing.T) {
	u := newUpdated(t)
	u.mirror("  platform:\n    graph: true\n    channels: [{name: eus-4.18, minVersion: 4.16.2, maxVersion: 4.18.1, full: true}]\n")
	u.becomes("eus-4.18", "4.16.2 4.17.2 4.18.1")
	s := u.logIn(t, "admin")
	e := &editor{s, s.shows(t, "/sync/edit", 200)}
	e.press(t, "apply", url.Values{"new:mirror.platform.channels:name": {"eus-4.18"}})
	e.hasAll(t, `value="versions 0"`, "!<svg aria-hidden", "!Versions of eus-4.18")
	e.press(t, "versions 0", nil)
	e.hasAll(t, "Versions of eus-4.18", "<svg aria-hidden", `<foreignObject`, `value="from 0 4.16.2" tabindex="-1"`, `name="versions" value="0"`,
		`value="from 0 4.18.1" aria-label="From version 4.18.1"`, `value="to 0 4.18.1" aria-label="To version 4.18.1"`, `value="minor 0 4.16"`, "!/updates/channel?")
	got := e.press(t, "from 0 4.16.2", nil)
	if !strings.Contains(got, "name: eus-4.18\n        minVersion: 4.16.2\n") {
		t.Errorf("where to begin becomes\n%s", got)
	}
	e.hasAll(t, `value="to 0 4.17.2" tabindex="-1"`, `!value="from 0 4.16.2" tabindex`, "!From 4.16.2 to")
	got = e.press(t, "to 0 4.18.1", nil)
	if !strings.Contains(got, "minVersion: 4.16.2\n        maxVersion: 4.18.1\n") {
		t.Errorf("where to end becomes\n%s", got)
	}
	e.hasAll(t, "From 4.16.2 to 4.18.1", "4.16.2 → ", " → 4.18.1</td>", "console-graph-arrow way", "valid image set")
	e.press(t, "minor 0 4.16", nil)
	e.hasAll(t, `name="versions" value="0 4.16"`, `value="from 0 4.16.2" aria-label`, `!value="from 0 4.18.1" aria-label`)
	e.press(t, "show", nil)
	e.hasAll(t, `name="versions" value="0 4.16"`)
	// A version on the wrong side of the other one takes its place.
	if got := e.press(t, "from 0 4.18.2", nil); strings.Contains(got, "maxVersion") || !strings.Contains(got, "minVersion: 4.18.2\n") {
		t.Errorf("a beginning after the end becomes\n%s", got)
	}
	if got := e.press(t, "to 0 4.17.2", nil); strings.Contains(got, "minVersion") || !strings.Contains(got, "maxVersion: 4.17.2\n") {
		t.Errorf("an end before the beginning becomes\n%s", got)
	}
	// With versions that are not here no way can be told.
	e.press(t, "apply", url.Values{"at:mirror.platform.channels[0].minVersion": {"4.16.2"}, "at:mirror.platform.channels[0].maxVersion": {"4.18.2"}})
	e.hasAll(t, "Which updates lead from 4.16.2 to 4.18.2 is not known here", "<svg aria-hidden")
	e.press(t, "apply", url.Values{"at:mirror.platform.channels[0].maxVersion": {"4.18.99"}})
	e.hasAll(t, "has no 4.18.99 in channel eus-4.18")
	e.press(t, "apply", url.Values{"at:mirror.platform.channels[0].minVersion": {"4.18.1"}, "at:mirror.platform.channels[0].maxVersion": {"4.16.2"}})
	e.hasAll(t, "No updates lead from 4.18.1 to 4.16.2", "plan it to see")
	e.press(t, "versions", nil)
	e.hasAll(t, "!<svg aria-hidden", `value="versions 0"`)
	for _, at := range []string{"versions 7", "versions -1", "versions x", "versions 00", "minor", "minor 0", "from", "to 7 4.18.1", "from 0", `from 0 "><script>alert(1)</script>`} {
		e.press(t, at, nil)
		e.hasAll(t, "!<script>alert")
	}
}

// Channels of which no release is here are drawn too: the graph data has them. Without it the page tells how to get it.
func TestConsole_editVersionsAbsent(t *testing.T) {
	u := newUpdated(t)
	s := u.logIn(t, "admin")
	e := &editor{s, s.shows(t, "/sync/edit", 200)}
	e.press(t, "apply", url.Values{"new:mirror.platform.channels:name": {"stable-4.18"}})
	e.press(t, "versions 0", nil)
	e.hasAll(t, "No graph data is here", "appliance updates load FILE", "!<svg aria-hidden", "Close the drawing")
	u.mirror("  platform:\n    graph: true\n    channels: [{name: candidate-4.18, minVersion: 4.18.4, maxVersion: 4.18.4}]\n")
	u.becomes("candidate-4.18", "4.18.4")
	e.press(t, "show", nil)
	e.hasAll(t, "No release of the channel is here", "<svg aria-hidden", `value="from 0 4.18.2" tabindex="-1"`, `value="from 0 4.18.3" tabindex="-1"`, "not here", `!class="console-graph-arrow`)
	if got := e.press(t, "from 0 4.18.2", nil); !strings.Contains(got, "minVersion: 4.18.2\n") {
		t.Errorf("where to begin becomes\n%s", got)
	}
	e.press(t, "apply", url.Values{"at:mirror.platform.channels[0].name": {`"><script>alert(1)</script>`}})
	e.hasAll(t, "has no channel &#34;&gt;&lt;script&gt;", "!<script>alert")
}
