//go:build several

package main_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/cmd/sample-upstream/sample"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/config"
)

// slowUpstream has all daemons pull through from a sample upstream, from their next start on. Blobs of
// samples/oci wait for ever, and others until pass is closed.
func (f *together) slowUpstream(t *testing.T) (pass chan struct{}) {
	t.Helper()
	pass = make(chan struct{})
	source := httptest.NewUnstartedServer(nil)
	content, err := sample.New(source.Listener.Addr().String())
	must(t, err)
	source.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/blobs/") {
			may := pass
			if strings.Contains(r.URL.Path, "samples/oci") {
				may = nil
			}
			select {
			case <-may:
			case <-r.Context().Done():
				return
			}
		}
		content.Handler().ServeHTTP(w, r)
	})
	source.Start()
	t.Cleanup(source.Close)
	for _, d := range f.daemons {
		d.cfg.Upstreams = []config.Upstream{{Prefix: "up", URL: source.URL}}
	}
	return pass
}

// pins has one daemon pin an image while the other one starts, and another image until it is killed.
func (f *together) pins(t *testing.T, pass chan struct{}) {
	one, other := f.daemons[0], f.daemons[1]
	pinned := func(d *faulty) (names string) {
		t.Helper()
		all, err := d.admin.Pins(t.Context())
		must(t, err)
		for _, p := range all {
			names += p.Repository + " "
		}
		return names
	}
	const image, stopped = "up/samples/docker", "up/samples/oci"
	begin := func(name string) (ended chan error) {
		ended = make(chan error, 1)
		go func() {
			result, err := one.admin.Pin(t.Context(), api.PinRequest{Images: []string{name + ":v1"}}, nil)
			if err == nil && result.Images[0].Error != "" {
				t.Errorf("%s: %s", name, result.Images[0].Error)
			}
			ended <- err
		}()
		eventuallyHolds(t, name+" is pinned until it is there", func() bool { return strings.Contains(pinned(other), name) })
		return ended
	}
	ended := begin(image)
	other.stop(t)
	other.start(t)
	if now := pinned(other); now != image+" " {
		t.Errorf("after the start of another daemon %q is pinned", now)
	}
	close(pass)
	must(t, <-ended)
	if now := pinned(other); now != image+" " {
		t.Errorf("in the end %q is pinned", now)
	}

	ended = begin(stopped)
	one.kill()
	if err := <-ended; err == nil {
		t.Error("a pin of a daemon that was killed has ended well")
	}
	_, err := other.admin.Pin(t.Context(), api.PinRequest{Images: []string{image + ":v1"}}, nil)
	must(t, err)
	if now := pinned(other); now != image+" " {
		t.Errorf("after the next pin at another daemon %q is pinned", now)
	}
	one.start(t)
}
