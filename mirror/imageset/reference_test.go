package imageset_test

import (
	"testing"

	"github.com/mirror-appliance/appliance/mirror/imageset"
)

// A cluster's container runtime completes a name before it looks for a mirror of it.
func TestReference_Canonical(t *testing.T) {
	for name, want := range map[string]string{
		"nginx:v1":                         "docker.io/library/nginx",
		"library/nginx:v1":                 "docker.io/library/nginx",
		"docker.io/nginx:v1":               "docker.io/library/nginx",
		"index.docker.io/nginx:v1":         "docker.io/library/nginx",
		"registry-1.docker.io/bitnami/r:1": "docker.io/bitnami/r",
		"bitnami/redis:v1":                 "docker.io/bitnami/redis",
		"quay.io/ns/app:v1":                "quay.io/ns/app",
		"localhost:5000/app:v1":            "localhost:5000/app",
	} {
		r, err := imageset.ParseReference(name)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.Canonical(); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
}

func TestParseReference_layouts(t *testing.T) {
	for text, want := range map[string][4]string{ // directory, tag, repository and tag in a mirror
		"oci:///dir/name":    {"/dir/name", "", "dir/name", "latest"},
		"oci:///dir/name:v1": {"/dir/name", "v1", "dir/name", "v1"},
		"oci://here/a:b/c/":  {"here/a:b/c/", "", "here/a:b/c", "latest"},
		"oci://./x":          {"./x", "", "x", "latest"},
	} {
		r, err := imageset.ParseReference(text)
		if got := [4]string{r.Path, r.Tag, r.DestinationPath(), r.DestinationTag()}; err != nil || got != want || !r.IsLayout() {
			t.Errorf("%s: %q, %v", text, got, err)
		}
	}
	for _, text := range []string{"oci://", "oci:///", "oci:///:v1", "oci:///x:not a tag"} {
		if r, err := imageset.ParseReference(text); err == nil {
			t.Errorf("%s: %+v", text, r)
		}
	}
}
