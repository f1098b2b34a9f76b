package registry_test

import (
	"encoding/base64"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/mirror-appliance/appliance/registry"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/client"
	"github.com/mirror-appliance/appliance/registry/config"
)

// TestScrub_logins has two upstreams in one registry, with a login each. What came from them is fetched again with the
// right one, by the daemon and by a command that is run while none is there.
func TestScrub_logins(t *testing.T) {
	held := ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)))
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, _, _ := r.BasicAuth()
		if user == "" || r.URL.Path != "/v2/" && !strings.HasPrefix(r.URL.Path, "/v2/"+user+"/") {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			http.Error(w, "no", http.StatusUnauthorized)
			return
		}
		held.ServeHTTP(w, r)
	}))
	defer upstream.Close()
	host := strings.TrimPrefix(upstream.URL, "http://")
	images := map[string]v1.Image{}
	logins := t.TempDir()
	r := start(t, func(c *config.Config) {
		for _, org := range []string{"one", "two"} {
			image, err := random.Image(2048, 1)
			must(t, err)
			at, err := name.NewTag(host + "/" + org + "/image:v1")
			must(t, err)
			must(t, remote.Write(at, image, remote.WithContext(t.Context()), remote.WithAuth(&authn.Basic{Username: org, Password: "x"})))
			images[org] = image
			file := filepath.Join(logins, org)
			must(t, os.WriteFile(file, fmt.Appendf(nil, `{"auths":{%q:{"auth":%q}}}`, host, base64.StdEncoding.EncodeToString([]byte(org+":x"))), 0o600))
			c.Upstreams = append(c.Upstreams, config.Upstream{Prefix: org, URL: upstream.URL + "/" + org, AuthFile: file, Freshness: time.Hour})
		}
	})
	for org := range images {
		back, err := remote.Image(tag(t, org+"/image:v1"), r.remote(t, "pull", password)...)
		must(t, err)
		must(t, validate.Image(back))
	}
	lose := func() {
		t.Helper()
		for _, image := range images {
			must(t, os.Remove(r.layerFile(t, image)))
		}
	}
	repairs := func(by *client.Client) {
		t.Helper()
		report, err := by.Scrub(t.Context(), api.ScrubRequest{}, nil)
		if err != nil || report.Damaged != 2 || report.Repaired != 2 {
			t.Errorf("scrub gives %+v, %v", report, err)
		}
	}
	lose()
	repairs(r.admin)
	lose()
	r.end(t)
	stop, err := registry.Offline(t.Context(), r.cfg, registry.Options{})
	must(t, err)
	repairs(r.admin)
	must(t, stop())
}
