package registry

import "testing"

func TestCanonical_namesOfOneRegistry(t *testing.T) {
	for host, want := range map[string]string{
		"docker.io": "index.docker.io", "registry-1.docker.io": "index.docker.io", "index.docker.io": "index.docker.io",
		"DOCKER.io:443": "index.docker.io", "quay.io": "quay.io", "Quay.io:443": "quay.io", "quay.io:8443": "quay.io:8443",
	} {
		if got := canonical(host); got != want {
			t.Errorf("%q: got %q, want %q", host, got, want)
		}
	}
}
