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

	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/config"
)

// TestRun_damage loses layers. What came from an upstream is fetched again by who pulls it, without anybody noticing;
// what was pushed is not found any more, so that a client that pushes it again sends it again.
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
		// remote.Write would see the manifest and leave it at that; podman and skopeo ask for each layer, as this does.
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
