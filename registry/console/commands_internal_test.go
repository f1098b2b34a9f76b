package console

import (
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// Platforms are what an image has written, and users paste the command into a shell.
func TestCommands_platforms(t *testing.T) {
	for _, test := range []struct {
		platforms []string
		want      string
	}{
		{nil, "oc image info host/a:v1"},
		{[]string{"linux/arm64", "linux/amd64"}, "oc image info host/a:v1 --filter-by-os=linux/arm64"},
		{[]string{"unknown/unknown", "", "linux/x; reboot", "$(reboot)/x", "linux/s390x"}, "oc image info host/a:v1 --filter-by-os=linux/s390x"},
		{[]string{"linux/amd64\nreboot", "-/-"}, "oc image info host/a:v1"},
	} {
		p := imagePage{Image: api.Image{Kind: api.KindIndex}, Full: "host/a:v1"}
		for _, name := range test.platforms {
			p.Platforms = append(p.Platforms, api.ImagePlatform{Platform: name})
		}
		all := commands(p)
		if got := all[len(all)-1].Line; got != test.want || strings.Contains(got, "reboot") {
			t.Errorf("%q: %s, want %s", test.platforms, got, test.want)
		}
	}
}
