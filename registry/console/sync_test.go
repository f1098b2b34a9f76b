package console

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// What moves during a run, and a plan with differences, are rendered with all that they can have.
func TestSync_parts(t *testing.T) {
	c, err := New(Options{API: http.NotFoundHandler()})
	if err != nil {
		t.Fatal(err)
	}
	const d = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	image := api.MirrorImage{Origin: "quay.io/<b>/x:v1", Destination: "x:v1", Digest: d, Was: d, Bytes: 3 << 20, Missing: 1 << 20}
	running := &api.MirrorProgress{Began: time.Now(), Planned: true, Images: 10, Copied: 3, Existed: 1, Failed: 2, Bytes: 100 << 20, Fetched: 25 << 20,
		Copying: []api.MirrorCopying{{Image: "quay.io/<i>/y:v1", Fetched: 5 << 20}}, Failures: []api.MirrorFailure{{Image: "z", Error: "<script>"}}}
	set := imageSet{MirrorState: api.MirrorState{ImageSet: "/sets/a.yaml", Running: running, Trouble: &api.Trouble{Problem: "is wrong", Hint: "mend it"}}}
	waiting := imageSet{MirrorState: api.MirrorState{ImageSet: "/sets/b.yaml", Running: &api.MirrorProgress{Waiting: true}}}
	plan := planPage{imageSet: set, planned: planned{api.MirrorPlanState{Last: &api.MirrorPlan{Drift: api.MirrorDrift{
		Missing: []api.MirrorImage{image}, Changed: []api.MirrorImage{image}, Unasked: []api.MirrorImage{image},
		Sums: api.MirrorDriftSums{Missing: 1, Changed: 1, Unasked: 700}}, Space: []api.MirrorSpace{{Where: "/data", Needs: 1 << 30}}}}}}
	making := planPage{imageSet: set, planned: planned{api.MirrorPlanState{Running: &api.MirrorProgress{Resolved: 7}, Last: &api.MirrorPlan{Error: &api.Trouble{Problem: "no space"}}}}}
	for _, test := range []struct {
		page, block string
		data        any
		want        string
	}{
		{"sync", "sets", syncPage{Sets: []imageSet{set, waiting}}, "is wrong|mend it|4 of 10 images|25 MiB of 100 MiB fetched|2 images failed|Stop|It waits for the run"},
		{"sync-set", "run", set, "quay.io/&lt;i&gt;/y:v1|5.0 MiB|&lt;script&gt;|4 of 10 images"},
		{"sync-plan", "planned", plan, "1 image is missing|1 tag has changed|700 images are no longer asked for|quay.io/&lt;b&gt;/x:v1|sha256:aaaaaaaaaaaa…|1.0 MiB of 3.0 MiB to fetch|first 1."},
		{"sync-plan", "planned", making, "Planning: 7 images|Cancel the plan|no space"},
		{"sync-rollback", "content", shell{Data: rollbackPage{ID: "r", MayForce: true, Refused: &problem{Text: "it is needed"}}}, "it is needed|force=on"},
	} {
		var out strings.Builder
		if err := c.views.render(&out, test.page, test.block, test.data); err != nil {
			t.Errorf("%s: %v", test.page, err)
		}
		for text := range strings.SplitSeq(test.want, "|") {
			if !strings.Contains(out.String(), text) {
				t.Errorf("%s: %q is not in\n%s", test.page, text, out.String())
			}
		}
	}
}
