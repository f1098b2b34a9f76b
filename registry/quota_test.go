package registry_test

import (
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/config"
)

// What passes the quota is evicted as it comes, and its bytes are free then.
func TestRun_pullQuotaHoldsAsContentArrives(t *testing.T) {
	const images, fit, layer = 6, 2, 256 << 10
	upstream := httptest.NewServer(ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0))))
	defer upstream.Close()
	r := start(t, func(c *config.Config) {
		c.Upstreams = []config.Upstream{{Prefix: "up", URL: upstream.URL + "/org", Freshness: time.Hour}}
		c.PullQuota = fit*layer + layer/2
	})
	for i := range images {
		img, err := random.Image(layer, 1)
		must(t, err)
		source, err := name.NewTag(fmt.Sprintf("%s/org/image:v%d", strings.TrimPrefix(upstream.URL, "http://"), i))
		must(t, err)
		must(t, remote.Write(source, img, remote.WithContext(t.Context())))
		back, err := remote.Image(tag(t, fmt.Sprintf("up/image:v%d", i)), r.remote(t, "pull", password)...)
		must(t, err)
		must(t, validate.Image(back))
	}
	for { // until the test's deadline
		s, err := r.admin.Status(t.Context())
		must(t, err)
		if s.Store.BlobBytes <= int64(r.cfg.PullQuota) {
			break
		}
		runtime.Gosched()
	}
	back, err := remote.Image(tag(t, fmt.Sprintf("up/image:v%d", images-1)), r.remote(t, "pull", password)...)
	must(t, err)
	must(t, validate.Image(back))
	if problems, err := r.admin.Verify(t.Context(), api.VerifyRequest{Content: true}, nil); err != nil || len(problems.Problems) > 0 {
		t.Errorf("verify finds %+v, %v", problems, err)
	}
}
