package registry_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/config"
)

// What a follower does by itself, and what rests until it takes changes.
func TestPair_atRest(t *testing.T) {
	upstream, asked := countedUpstream(t)
	dir := t.TempDir()
	set := config.Sync{ImageSet: filepath.Join(dir, "set.yaml"), Workspace: filepath.Join(dir, "ws"), Interval: 50 * time.Millisecond}
	writeSet(t, set.ImageSet, strings.TrimPrefix(upstream, "http://"), "app:v1")
	first, second := newOne(t), newOne(t, func(c *config.Config) { c.GC.Interval = 20 * time.Millisecond })
	must(t, first.push(t, "app:v1"))
	second.follows(t, first)
	second.end(t)
	second.cfg.Sync = []config.Sync{set} // from now on
	second.again(t)

	for range 5 { // collections go on, and more often than a sync would
		before := second.mustBe(t, "follower").LastGC
		second.await(t, func(s api.Status) bool {
			return s.LastGC != nil && (before == nil || s.LastGC.Ended.After(before.Ended))
		})
	}
	_, err := second.admin.Scrub(t.Context(), api.ScrubRequest{}, nil)
	must(t, err)
	verified, err := second.admin.Verify(t.Context(), api.VerifyRequest{Content: true}, nil)
	must(t, err)
	if len(verified.Problems) > 0 {
		t.Errorf("verify finds %v", verified.Problems)
	}
	must(t, first.push(t, "app:v2")) // and copying does
	second.await(t, func(s api.Status) bool { return s.Following != nil && s.Following.CaughtUp && second.has(t, "app:v2") })
	s := second.mustBe(t, "follower")
	if n := asked.Load(); n != 0 || s.Sync[0].Last != nil || s.Sync[0].Running != nil {
		t.Errorf("the sync of a follower asks %d times, and has run: %+v", n, s.Sync[0].Last)
	}
	if _, err := second.admin.Mirror(t.Context(), api.MirrorRequest{ImageSet: set.ImageSet}, nil); err == nil {
		t.Error("a follower mirrors on request")
	}
	_, err = second.admin.Promote(t.Context(), api.PromoteRequest{}, nil)
	must(t, err)
	second.await(t, func(s api.Status) bool { return s.Sync[0].Last != nil })
	if asked.Load() == 0 {
		t.Error("the sync of a primary does not ask its source")
	}
}
