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

	"github.com/mirror-appliance/appliance/internal/diskspace/diskspacetest"
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
		offer(t, upstream.URL, i, layer)
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

// offer pushes an image of random bytes to an upstream.
func offer(t *testing.T, url string, i int, layer int64) {
	t.Helper()
	img, err := random.Image(layer, 1)
	must(t, err)
	source, err := name.NewTag(fmt.Sprintf("%s/org/image:v%d", strings.TrimPrefix(url, "http://"), i))
	must(t, err)
	must(t, remote.Write(source, img, remote.WithContext(t.Context())))
}

// A quota that is more than the disk has does not fill it: what was used least gives way in time,
// and what was pushed stays.
func TestRun_pullQuotaOfAFullDisk(t *testing.T) {
	const images, layer = 16, 3 << 20 // of 32 MiB
	upstream := httptest.NewServer(ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0))))
	defer upstream.Close()
	dir, _ := diskspacetest.Small(t)
	r := start(t, func(c *config.Config) {
		c.Upstreams = []config.Upstream{{Prefix: "up", URL: upstream.URL + "/org", Freshness: time.Hour}}
		c.Storage, c.MinFree, c.PullQuota = dir, 0, 1<<40
	})
	pushed, err := random.Image(layer, 1)
	must(t, err)
	must(t, remote.Write(tag(t, "own/image:v1"), pushed, r.remote(t, "push", password)...))
	for i := range images {
		offer(t, upstream.URL, i, layer)
		for { // until the test's deadline
			back, err := remote.Image(tag(t, fmt.Sprintf("up/image:v%d", i)), r.remote(t, "pull", password)...)
			if err == nil {
				err = validate.Image(back)
			}
			if err == nil {
				break
			} // the disk is full until something has given way
			runtime.Gosched()
		}
	}
	back, err := remote.Image(tag(t, "own/image:v1"), r.remote(t, "pull", password)...)
	must(t, err)
	must(t, validate.Image(back))
	if problems, err := r.admin.Verify(t.Context(), api.VerifyRequest{Content: true}, nil); err != nil || len(problems.Problems) > 0 {
		t.Errorf("verify finds %+v, %v", problems, err)
	}
}
