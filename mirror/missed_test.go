package mirror_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/imageset"
)

// What clients did not get is named as its source names it.
func TestMissedImageSet(t *testing.T) {
	const d = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	text, err := mirror.MissedImageSet([]mirror.Missed{
		{"quay.io/org/image", "v1"}, {"openshift/release", d}, {"openshift/release-images", "4.20.1-x86_64"},
		{"registry.redhat.io/ubi9/ubi", d}, {"quay.iox/org/other", "v1"}, {"somewhere/image", "v2"},
		{"ghcr.io/org/cascade", "v3"},
	}, []mirror.Upstream{
		{Prefix: "quay.io", URL: "https://quay.io"}, {Prefix: "ghcr.io/org", URL: "https://appliance.lan:8443/ghcr.io/org"}, {Prefix: "openshift", URL: "https://other.io"},
		{Prefix: "openshift/release", URL: "https://quay.io/openshift-release-dev/ocp-v4.0-art-dev"},
	}, []mirror.Origin{{Repository: "openshift/release-images", Tag: "x", About: json.RawMessage(`{"origin":"quay.io/openshift-release-dev/ocp-release:4.20.0-x86_64"}`)}})
	if err != nil {
		t.Fatal(err)
	}
	c, err := imageset.Parse("missed.yaml", text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	var got []string
	for _, i := range c.Mirror.AdditionalImages {
		got = append(got, i.Name)
	}
	want := "ghcr.io/org/cascade:v3 other.io/release-images:4.20.1-x86_64 quay.io/openshift-release-dev/ocp-v4.0-art-dev@" + d + " quay.io/org/image:v1 quay.iox/org/other:v1 registry.redhat.io/ubi9/ubi@" + d
	if strings.Join(got, " ") != want || !strings.Contains(string(text), "# not in here, since it is not known where it comes from: somewhere/image v2\n") {
		t.Errorf("the images are %q in\n%s", got, text)
	}
}
