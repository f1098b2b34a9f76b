package registry_test

import (
	"net/http"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/config"
)

// What is held under one path is served by its digest under another, to users who may read both, and no push
// is told of it.
func TestServeHeldDigests(t *testing.T) {
	for _, on := range []bool{true, false} {
		r := start(t, func(c *config.Config) {
			c.ServeHeldDigests = on
			c.Upstreams = []config.Upstream{{Prefix: "up", URL: "https://127.0.0.1:1"}}
		})
		image, err := random.Image(2048, 1)
		must(t, err)
		must(t, remote.Write(tag(t, "one/app:v1"), image, r.remote(t, "push", password)...))
		for name, grants := range map[string][]string{"both": {"one/*", "two/*", "up/*"}, "two": {"two/*", "up/*"}} {
			_, err := r.admin.CreateUser(t.Context(), api.NewUser{Name: name, Role: "pull", Password: password, Repositories: grants})
			must(t, err)
		}
		d, err := image.Digest()
		must(t, err)
		layers, err := image.Layers()
		must(t, err)
		layer, err := layers[0].Digest()
		must(t, err)
		manifest, blob := "/manifests/"+d.String(), "/blobs/"+layer.String()
		served, gone := http.StatusOK, http.StatusNotFound
		if !on {
			served = gone
		}
		for _, tc := range []struct {
			user, method, path string
			want               int
		}{
			{"both", http.MethodGet, "two/other" + manifest, served},
			{"both", http.MethodHead, "two/other" + manifest, served},
			{"both", http.MethodGet, "two/other" + blob, served},
			{"both", http.MethodHead, "two/other" + blob, gone},
			{"push", http.MethodGet, "two/other" + manifest, served},
			{"push", http.MethodHead, "two/other" + manifest, gone},
			{"two", http.MethodGet, "two/other" + manifest, gone},
			{"two", http.MethodHead, "two/other" + manifest, gone},
			{"two", http.MethodGet, "two/other" + blob, gone},
			{"both", http.MethodGet, "two/other/manifests/v1", gone},
			{"both", http.MethodGet, "one/app" + manifest, http.StatusOK},
		} {
			if status, body := r.as(t, tc.user, tc.method, "/v2/"+tc.path); status != tc.want {
				t.Errorf("on %v: %s %s by %s: %d %s, want %d", on, tc.method, tc.path, tc.user, status, body, tc.want)
			}
		}
		// below an upstream that is down it is served without a request
		for _, path := range []string{manifest, blob} {
			status, _ := r.as(t, "both", http.MethodGet, "/v2/up/other"+path)
			if (status == http.StatusOK) != on {
				t.Errorf("on %v: GET up/other%s: %d", on, path, status)
			}
			if status, _ := r.as(t, "two", http.MethodGet, "/v2/up/other"+path); status == http.StatusOK {
				t.Errorf("on %v: GET up/other%s by one who may not read the other: %d", on, path, status)
			}
		}
	}
}
