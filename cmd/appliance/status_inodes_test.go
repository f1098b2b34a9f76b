package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

func TestStatus_inodes(t *testing.T) {
	for want, room := range map[string]api.Space{
		"inodes   900 of 1000 free for /data, of which pushes leave 62\n":                    {Path: "/data", Inodes: 1000, FreeInodes: 900, KeptInodes: 62},
		"inodes   10 of 1000 free for /data, of which pushes leave 62: pushes are refused\n": {Path: "/data", Inodes: 1000, FreeInodes: 10, KeptInodes: 62},
		"inodes   900 of 1000 free for /full, of which pushes leave 62\n":                    {Path: "/full", Free: 1, Kept: 2, Inodes: 1000, FreeInodes: 900, KeptInodes: 62},
		"": {Path: "/data"}, // no limit
	} {
		var out bytes.Buffer
		printStatus(&out, shownStatus{Status: api.Status{Space: []api.Space{room}}})
		said := ""
		for line := range strings.Lines(out.String()) {
			said += strings.Join(strings.Fields(line), " ") + "\n"
		}
		if line := strings.ReplaceAll(want, "   ", " "); !strings.Contains(said, "\n"+line) || want == "" && strings.Contains(said, "inodes") {
			t.Errorf("it does not say %q:\n%s", want, out.String())
		}
	}
}
