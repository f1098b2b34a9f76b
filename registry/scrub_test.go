package registry_test

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/mirror-appliance/appliance/registry"
	"github.com/mirror-appliance/appliance/registry/admin/api"
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
