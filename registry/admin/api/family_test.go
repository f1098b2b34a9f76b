package api_test

import (
	"strings"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/internal/finding"
	"github.com/mirror-appliance/appliance/internal/plain"
	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// What to type is whole in the log, where a field that is too long is cut in its middle.
func TestWayBack_inTheLog(t *testing.T) {
	longest := strings.TrimSuffix(strings.Repeat("label.", 43), ".")[:253] + ":65535"
	text := api.WayBack(longest)
	if got := plain.Field(text); got != text || !strings.Contains(text, "https://"+longest+" --credentials FILE --ca FILE; or ") || !strings.HasSuffix(text, ": appliance follow --stop") {
		t.Errorf("the log has %q", got)
	}
}

// The hint of a follower that fails fits the side that fails.
func TestStatus_Examine_follower(t *testing.T) {
	for name, tc := range map[string]struct {
		following api.Following
		want      string
	}{
		"the first is not reached": {api.Following{Error: "connection refused"}, "see whether https://first:8443 runs"},
		"its own database fails":   {api.Following{Connected: true, Error: "save changes: no such column"}, "journalctl -u appliance"},
		"it has a hint":            {api.Following{Connected: true, Error: "the disk is full", Hint: "free space"}, "free space"},
	} {
		t.Run(name, func(t *testing.T) {
			s := api.Status{Family: &api.Family{Role: "follower", Follows: "first:8443"}, Following: &tc.following}
			var got finding.Finding
			s.Examine(time.Now(), func(f finding.Finding) {
				if f.Check == "follow" {
					got = f
				}
			})
			if !strings.Contains(got.Hint, tc.want) || tc.following.Connected && strings.Contains(got.Hint, "is reached from here") {
				t.Errorf("the hint is %q", got.Hint)
			}
		})
	}
}
