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

// spoil flips a byte of a layer's file.
func (r *running) spoil(t *testing.T, img v1.Image) {
	t.Helper()
	layers, err := img.Layers()
	must(t, err)
	d, err := layers[0].Digest()
	must(t, err)
	path := filepath.Join(r.cfg.Storage, "sha256", d.Hex[:2], d.Hex)
	content, err := os.ReadFile(path)
	must(t, err)
	content[len(content)/2] ^= 1
	must(t, os.WriteFile(path, content, 0o600))
}

func TestRun_scrub(t *testing.T) {
	upstream := httptest.NewServer(ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0))))
	defer upstream.Close()
	pulled, err := random.Image(2048, 2)
	must(t, err)
	source, err := name.NewTag(strings.TrimPrefix(upstream.URL, "http://") + "/org/image:v1")
	must(t, err)
	must(t, remote.Write(source, pulled, remote.WithContext(t.Context())))
	r := start(t, func(c *config.Config) {
		c.Upstreams = []config.Upstream{{Prefix: "up", URL: upstream.URL + "/org", Freshness: time.Hour}}
	})
	back, err := remote.Image(tag(t, "up/image:v1"), r.remote(t, "pull", password)...)
	must(t, err)
	must(t, validate.Image(back))
	pushed, err := random.Image(2048, 2)
	must(t, err)
	must(t, remote.Write(tag(t, "app:v1"), pushed, r.remote(t, "push", password)...))
	r.spoil(t, pulled)
	r.spoil(t, pushed)

	if report, err := r.admin.Verify(t.Context(), api.VerifyRequest{Content: true}, nil); err != nil || len(report.Problems) != 2 {
		t.Errorf("verify finds %+v, %v", report, err)
	}
	report, err := r.admin.Scrub(t.Context(), api.ScrubRequest{}, nil)
	must(t, err)
	if report.Damaged != 2 || report.Repaired != 1 || !report.Complete {
		t.Errorf("scrub reports %+v", report)
	}
	if s, err := r.admin.Status(t.Context()); err != nil || s.Store.Quarantined != 1 || s.Scrub != nil || s.LastScrub == nil || s.LastScrub.Blobs != report.Blobs {
		t.Errorf("status has %+v, %v", s, err)
	}
	for _, d := range report.Damage {
		if !d.Repaired && (len(d.Images) != 1 || d.Images[0] != "app:v1") {
			t.Errorf("what could not be repaired is said to be needed by %v", d.Images)
		}
	}
	upstream.Close()
	back, err = remote.Image(tag(t, "up/image:v1"), r.remote(t, "pull", password)...)
	must(t, err)
	if err := validate.Image(back); err != nil {
		t.Errorf("what was fetched again: %v", err)
	}
	layers, err := pushed.Layers()
	must(t, err)
	d, err := layers[0].Digest()
	must(t, err)
	if code, _ := r.as(t, "pull", http.MethodGet, "/v2/app/blobs/"+d.String()); code != http.StatusNotFound {
		t.Errorf("what could not be fetched again is answered %d", code)
	}
	must(t, remote.WriteLayer(tag(t, "app:v1").Context(), layers[0], r.remote(t, "push", password)...))
	if report, err := r.admin.Scrub(t.Context(), api.ScrubRequest{}, nil); err != nil || report.Damaged != 0 {
		t.Errorf("after it was pushed again scrub reports %+v, %v", report, err)
	}
}

func TestRun_anonymousPull(t *testing.T) {
	r := start(t, func(c *config.Config) { c.AnonymousPull = []string{"open/*"} })
	for _, repo := range []string{"open/app", "closed/app"} {
		img, err := random.Image(100, 1)
		must(t, err)
		must(t, remote.Write(tag(t, repo+":v1"), img, r.remote(t, "push", password)...))
	}
	for path, want := range map[string]int{
		"/v2/open/app/manifests/v1": http.StatusOK, "/v2/closed/app/manifests/v1": http.StatusUnauthorized, "/api/v1/status": http.StatusUnauthorized,
	} {
		if code, body := r.get(t, path); code != want {
			t.Errorf("%s is answered %d %s, want %d", path, code, body, want)
		}
	}
	if _, err := remote.Image(tag(t, "open/app:v1"), r.remote(t, "pull", "wrong-password")...); err == nil {
		t.Error("a wrong password was taken for none")
	}

	cfg, _ := configure(t)
	cfg.AnonymousPull = []string{"a*b"}
	if err := registry.Run(t.Context(), cfg, registry.Options{}); err == nil || !strings.Contains(err.Error(), "anonymousPull") {
		t.Errorf("a pattern that means nothing gives %v", err)
	}
}

func TestRun_minFree(t *testing.T) {
	r := start(t, func(c *config.Config) { c.MinFree = 1 << 60 })
	img, err := random.Image(100, 1)
	must(t, err)
	err = remote.Write(tag(t, "app:v1"), img, r.remote(t, "push", password)...)
	if err == nil || !strings.Contains(err.Error(), r.cfg.Storage) {
		t.Errorf("a push below the watermark gives %v", err)
	}
}

// TestRun_damage loses layers. A pull fetches layers of an upstream again. A pushed layer is not
// found, so that the next push sends it.
func TestRun_damage(t *testing.T) {
	upstream := httptest.NewServer(ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0))))
	defer upstream.Close()
	pulled, err := random.Image(2048, 2)
	must(t, err)
	source, err := name.NewTag(strings.TrimPrefix(upstream.URL, "http://") + "/org/image:v1")
	must(t, err)
	must(t, remote.Write(source, pulled, remote.WithContext(t.Context())))
	r := start(t, func(c *config.Config) {
		c.Upstreams = []config.Upstream{{Prefix: "up", URL: upstream.URL + "/org", Freshness: time.Hour}}
	})
	pushed, err := random.Image(2048, 2)
	must(t, err)
	must(t, remote.Write(tag(t, "app:v1"), pushed, r.remote(t, "push", password)...))
	pull := func(ref string) error {
		back, err := remote.Image(tag(t, ref), r.remote(t, "pull", password)...)
		must(t, err)
		return validate.Image(back)
	}
	must(t, pull("up/image:v1"))

	for what, damage := range map[string]func(path string) error{
		"lost":      os.Remove,
		"truncated": func(path string) error { return os.Truncate(path, 100) },
	} {
		must(t, damage(r.layerFile(t, pulled)))
		if err := pull("up/image:v1"); err != nil {
			t.Errorf("%s, it is not fetched again: %v", what, err)
		}
		must(t, damage(r.layerFile(t, pushed)))
		if err := pull("app:v1"); err == nil || !strings.Contains(err.Error(), "BLOB_UNKNOWN") {
			t.Errorf("%s, what was pushed gives %v", what, err)
		}
		if status, _ := r.as(t, "pull", http.MethodHead, "/v2/app/blobs/sha256:"+filepath.Base(r.layerFile(t, pushed))); status != http.StatusNotFound {
			t.Errorf("%s, HEAD is answered %d", what, status)
		}
		// remote.Write would see the manifest and leave it at that; podman and skopeo ask for
		// each layer, as this does.
		must(t, remote.WriteLayer(tag(t, "app:v1").Repository, firstLayer(t, pushed), r.remote(t, "push", password)...))
		if err := pull("app:v1"); err != nil {
			t.Errorf("%s and pushed again: %v", what, err)
		}
	}
	if report, err := r.admin.Verify(t.Context(), api.VerifyRequest{Content: true}, nil); err != nil || len(report.Problems) > 0 {
		t.Errorf("in the end verify finds %+v, %v", report, err)
	}
}

func firstLayer(t *testing.T, img v1.Image) v1.Layer {
	t.Helper()
	layers, err := img.Layers()
	must(t, err)
	return layers[0]
}

// layerFile is where the first layer of an image is kept.
func (r *running) layerFile(t *testing.T, img v1.Image) string {
	t.Helper()
	d, err := firstLayer(t, img).Digest()
	must(t, err)
	return filepath.Join(r.cfg.Storage, d.Algorithm, d.Hex[:2], d.Hex)
}

// TestScrub_logins has two upstreams in one registry, with a login each. The daemon, and a command
// without one, fetch blobs again with the right login.
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
