package main

import (
	"testing"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

func TestLastRun_isNotThatOfAView(t *testing.T) {
	view, sync, back := api.PastSync{ID: "view", View: "views/a:v1"}, api.PastSync{ID: "sync"}, api.PastSync{ID: "back", RollsBack: "sync"}
	for _, tc := range []struct {
		past []api.PastSync
		want string
	}{{[]api.PastSync{view, sync}, "sync"}, {[]api.PastSync{view}, ""}, {[]api.PastSync{view, back, sync}, ""}} {
		if got, _ := lastRun(tc.past); got != tc.want {
			t.Errorf("the last run of %+v is %q", tc.past, got)
		}
	}
}
