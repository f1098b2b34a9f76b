package retain

import (
	"strings"
	"testing"
	"time"

	"github.com/blang/semver/v4"

	"github.com/mirror-appliance/appliance/cluster/state"
	"github.com/mirror-appliance/appliance/mirror/graphdata"
	"github.com/mirror-appliance/appliance/registry/store"
	"github.com/mirror-appliance/appliance/registry/updates"
)

// What a cluster has told since a backup is lost with the restore of it: it may run a release that it could not reach then.
func TestReach_restored(t *testing.T) {
	restored := time.Date(2026, 11, 30, 2, 0, 0, 0, time.UTC)
	for told, want := range map[time.Time]bool{restored.Add(-time.Hour): true, restored.Add(time.Hour): false} {
		r := newReach(updates.Known{}, restored)
		r.add(store.Cluster{ID: "c-1", Updated: told}, state.Facts{ID: "c-1"})
		reason := r.reason(graphdata.Release{Metadata: graphdata.Metadata{Version: semver.MustParse("4.18.4")}, Arch: "amd64"})
		if r.unknown() != want || strings.Contains(reason, "before the backup was restored on 2026-11-30") != want || !r.clusters[0].Told.Equal(told) {
			t.Errorf("told at %v: %+v, %q", told, r.clusters, reason)
		}
	}
}
