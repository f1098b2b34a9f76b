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
