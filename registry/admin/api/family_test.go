package api_test

import (
	"strings"
	"testing"

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
