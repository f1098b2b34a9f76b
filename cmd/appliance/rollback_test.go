package main

import (
	"testing"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// Views are left out by the registry: see TestHistory_limits.
func TestLastRun(t *testing.T) {
	sync, back := api.PastSync{ID: "sync"}, api.PastSync{ID: "back", RollsBack: "sync"}
	for _, tc := range []struct {
		past []api.PastSync
		want string
	}{{[]api.PastSync{sync}, "sync"}, {nil, ""}, {[]api.PastSync{back, sync}, ""}} {
		if got, _ := lastRun(tc.past); got != tc.want {
			t.Errorf("the last run of %+v is %q", tc.past, got)
		}
	}
}
