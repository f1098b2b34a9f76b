//go:build postgres

package registry_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// pushing pushes images, one after the other, until stopped.
type pushing struct {
	*running
	stopped atomic.Bool
	over    sync.WaitGroup
	said    chan struct{} // has a token for each acknowledged image
	refused atomic.Int64  // pushes that were to be made again

	mu     sync.Mutex // guards images
	images map[string]v1.Image
}

func (p *pushing) push(t *testing.T, at string) {
	img, err := random.Image(1024, 2)
	if err != nil {
		t.Error(err)
		return
	}
	for !p.stopped.Load() {
		err := remote.Write(tag(t, at), img, p.remote(t, "push", password)...)
		if err == nil {
			p.mu.Lock()
			p.images[at] = img
			p.mu.Unlock()
			p.said <- struct{}{}
			return
		}
		var refused *transport.Error
		if !errors.As(err, &refused) || refused.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("a push during the fail-over: %v", err)
			return
		}
		p.refused.Add(1)
	}
}

// The primary dies while clients push, and a synchronous standby is promoted: the daemon goes on there, and has what it acknowledged.
func TestPostgres_failsOver(t *testing.T) {
	s := startPostgres(t)
	standby, err := s.Standby(t.Context())
	must(t, err)
	t.Cleanup(func() { must(t, standby.Stop()) })
	must(t, s.Synchronous(t.Context()))
	_, files, _ := strings.Cut(s.address, "&passfile=")
	s.address = strings.Replace(s.Both(standby, "appliance"), "appliance@", "login@", 1) + "&passfile=" + files
	r := start(t, s.on(t))

	p := &pushing{running: r, said: make(chan struct{}, 10_000), images: map[string]v1.Image{}}
	for i := range 3 {
		p.over.Go(func() {
			for n := 0; !p.stopped.Load(); n++ {
				p.push(t, fmt.Sprintf("app%d:v%d", i, n))
			}
		})
	}
	wait := func(n int) {
		for range n {
			<-p.said
		}
	}
	wait(10)
	r.await(t, "/v2/_catalog") // whose login is known then
	must(t, s.Kill())
	r.unavailable(t, "pull", "/v2/app/manifests/unknown")
	must(t, standby.Promote(t.Context()))
	for len(p.said) > 0 {
		<-p.said
	}
	wait(10)
	p.stopped.Store(true)
	p.over.Wait()

	for at, pushed := range p.images {
		pulled, err := remote.Image(tag(t, at), r.remote(t, "pull", password)...)
		if err == nil {
			err = validate.Image(pulled)
		}
		if err != nil || digestOf(t, pulled) != digestOf(t, pushed) {
			t.Errorf("%s was acknowledged: %v", at, err)
		}
	}
	if found, err := r.admin.Verify(t.Context(), api.VerifyRequest{Content: true}, nil); err != nil || len(found.Problems) > 0 {
		t.Errorf("verify: %+v, %v", found, err)
	}
	t.Logf("%d images acknowledged, %d pushes refused meanwhile", len(p.images), p.refused.Load())
}
