package console

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// A verdict and its progress are rendered with all that they can have, and what others name is text.
func TestReady_parts(t *testing.T) {
	c, err := New(Options{API: http.NotFoundHandler()})
	if err != nil {
		t.Fatal(err)
	}
	var many []api.Reason
	for i := range 1000 {
		many = append(many, api.Reason{Code: "image-absent", Where: fmt.Sprint("<b>", i), Text: "it is not here", Hint: "mirror it", Cure: &api.Cure{Release: "4.18.1"}})
	}
	many = append(many, api.Reason{Code: "unmapped", Where: "x", Text: "<script>", Hint: "javascript:alert(1)"})
	of := func(v api.Verdict) readyNow {
		return readyNow{ReadyState: api.ReadyState{Last: &api.ReadyAnswer{Asked: api.ReadyAsked{To: "4.18.1; reboot", From: "4.17.2"}, Verdict: &v}}}
	}
	during := func(p api.ReadyProgress) readyNow {
		return readyNow{ReadyState: api.ReadyState{Running: &api.ReadyRun{Asked: api.ReadyAsked{To: "4.18.1", Cluster: "c"}, Progress: p}}}
	}
	for _, test := range []struct {
		now  readyNow
		want string // "!": not this
	}{
		{of(api.Verdict{Answer: api.ReadyNo, Reasons: many, Path: []api.Hop{{From: "4.17.2", To: "4.18.1"}}, Channel: "<i>"}),
			"No: 1001 things|&lt;b&gt;9|!&lt;b&gt;10|image-absent: and 990 more|&lt;script&gt;|4.17.2 → 4.18.1|Image set of what is missing|!<script>|!appliance ready --|not read;"},
		{of(api.Verdict{Answer: api.ReadyNo, Reasons: many[1000:]}), "No: 1 thing|!Image set of what is missing"},
		{of(api.Verdict{Answer: api.ReadyRisks, Risks: many[:1], ContentRead: true}), "Yes, with 1 risk|each layer was read|!Image set of what is missing"},
		{of(api.Verdict{Answer: api.ReadyYes}), "Yes: everything"},
		{during(api.ReadyProgress{}), "From what the cluster runs to 4.18.1|It begins.|Cancel"},
		{during(api.ReadyProgress{Reads: "<script>"}), "Reading: &lt;script&gt;"},
		{during(api.ReadyProgress{Release: "4.18.1", Images: 3, Of: 12}), "Images of 4.18.1|3 of 12|value=\"25\""},
		{during(api.ReadyProgress{Release: "4.18.1", Images: 12, Of: 12, Bytes: 1 << 20, OfBytes: 4 << 20}), "1.0 MiB of 4.0 MiB|value=\"25\""},
	} {
		var out strings.Builder
		if err := c.views.render(&out, "updates-ready", "verdict", test.now); err != nil {
			t.Fatal(err)
		}
		for text := range strings.SplitSeq(test.want, "|") {
			if without, is := strings.CutPrefix(text, "!"); is == strings.Contains(out.String(), without) {
				t.Errorf("%q is %v in\n%s", without, is, out.String())
			}
		}
	}
}

// A command that is to be copied runs nothing else.
func TestReadyCommand(t *testing.T) {
	for _, test := range []struct {
		asked api.ReadyAsked
		want  string
	}{
		{api.ReadyAsked{To: "4.18.1-x86_64", From: "4.17.2", Channel: "eus-4.18", Architectures: []string{"amd64", "arm64"}, Content: true, Cluster: "c", Keys: true},
			"appliance ready --from 4.17.2 --to 4.18.1-x86_64 --channel eus-4.18 --arch amd64,arm64 --cluster-state cluster.json --release-key FILE --content"},
		{api.ReadyAsked{To: "quay.io/a/b@sha256:0"}, "appliance ready --to quay.io/a/b@sha256:0"},
		{api.ReadyAsked{To: "$(reboot)@sha256:0"}, ""},
		{api.ReadyAsked{To: "-x"}, ""},
		{api.ReadyAsked{To: "4.18.1", Architectures: []string{"a b"}}, ""},
	} {
		if got := readyCommand(test.asked); got != test.want {
			t.Errorf("%+v: %q", test.asked, got)
		}
	}
}
