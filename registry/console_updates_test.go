package registry_test

import (
	"strings"
	"testing"
)

func TestConsole_updates(t *testing.T) {
	u := newUpdated(t)
	s := u.logIn(t, "admin")
	s.shows(t, "/updates", 200, "No release is here", "graph: true", "!Channels")
	s.shows(t, "/updates/channel?channel=eus-4.18", 404, "No release that is here is in a channel eus-4.18.")
	s.shows(t, "/updates/channel?channel=%3Cscript%3E", 400, "&lt;script&gt;", "!<script>")

	u.mirror("  platform:\n    graph: true\n    architectures: [amd64, multi]\n    channels: [{name: eus-4.18, minVersion: 4.16.2, maxVersion: 4.18.1, full: true}, {name: fast-4.18, minVersion: 4.18.3, maxVersion: 4.18.3}]\n")
	u.becomes("eus-4.18", "4.16.2 4.17.2 4.18.1")
	s.shows(t, "/updates", 200, `<a href="/updates/channel?channel=eus-4.18">eus-4.18</a>`, "openshift/graph-image:latest", "amd64, multi", "1 to 8 of 8", "appliance updates show")

	page := "/updates/channel?channel=eus-4.18"
	s.shows(t, page, 200, "4.18.2 is not here", "not here</text>", `<a href="/updates/channel?arch=amd64&amp;channel=eus-4.18&amp;from=4.16.2">4.16.2</a>`, "!Best way")
	s.shows(t, page+"&arch=multi", 200, "--channel eus-4.18 --arch multi<")
	s.shows(t, page+"&from=4.16.2", 200, "Releases that can be reached from 4.16.2", "4.16.2 → 4.17.2 → 4.18.1", "to=4.18.1", "--from 4.16.2<", "!4.18.2 is not here")
	s.shows(t, page+"&from=4.16.2&to=4.18.1", 200, "From 4.16.2 to 4.18.1", "2 updates.", "recommended", "4.16.2 → 4.17.2", "4.17.2 → 4.18.1")
	s.shows(t, page+"&from=4.18.1&to=4.16.2", 200, "No updates lead from 4.18.1 to 4.16.2 in channel eus-4.18", "No update leads from 4.18.1")
	s.shows(t, page+"&from=4.18.2", 200, "4.18.2 is not here in channel eus-4.18: a cluster of that version is offered nothing.", "Releases and their updates")
	s.shows(t, page+"&from=4.16.2&to=4.18.2", 200, "4.18.2 is not here in channel eus-4.18.")

	u.mirror("  platform:\n    graph: true\n    channels: [{name: candidate-4.18, minVersion: 4.18.2, maxVersion: 4.18.4, full: true}]\n")
	u.becomes("eus-4.18", "4.16.2 4.17.2 4.18.1 4.18.2")
	s.shows(t, "/updates/channel?channel=candidate-4.18", 200, `class="console-graph-arrow risk"`)
	body := s.shows(t, page+"&from=4.17.2&to=4.18.2", 200, "4.18.1 → 4.18.2", `class="console-graph-arrow risk"`, `class="console-graph-arrow way way"`)
	if strings.Contains(body, "SkippedUpdate") {
		t.Error("the way has a risk, though another has none")
	}
	for _, path := range []string{"/updates", page} {
		if code, _, _ := u.logIn(t, "push").get(t, path); code != 403 {
			t.Errorf("a user of role push gets %s: %d", path, code)
		}
	}
}
