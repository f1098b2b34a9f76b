package cluster_test

import (
	"reflect"
	"slices"
	"testing"

	"github.com/mirror-appliance/appliance/cluster"
	"github.com/mirror-appliance/appliance/cluster/node"
)

// Where nodes read images is the same as in the files.
func TestFacts_Sources(t *testing.T) {
	for _, minor := range []int{12, 20, 21} {
		f := facts(t, 4, minor)
		f.NeverContactSource = true
		f.Upstreams = []cluster.Upstream{{Prefix: "quay.io", URL: "https://quay.io"}}
		installing, running, err := f.Sources()
		if err != nil {
			t.Fatal(err)
		}
		read, err := node.ReadInstallConfig(files(t, f)["install-config.yaml"].Data)
		if err != nil || len(read.Sources) == 0 || !reflect.DeepEqual(read.Sources, installing) {
			t.Errorf("install-config.yaml has %v, %v, and not %v", read.Sources, err, installing)
		}
		if got := running.Places(vendor + "ocp-v4.0-art-dev"); !slices.Equal(got, []string{address + "/openshift/release", address + "/quay.io/openshift-release-dev/ocp-v4.0-art-dev"}) {
			t.Errorf("components are read in %q", got)
		}
		if got := running.Places("example.com/other/image"); got != nil {
			t.Errorf("an image without an entry is read in %q", got)
		}
	}
}
