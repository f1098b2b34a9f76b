package mirror_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/cmd/sample-upstream/sample"
	"github.com/mirror-appliance/appliance/mirror"
)

// okdService sends what is asked of OKD's update service to the sample's, and records it.
type okdService struct {
	host  string
	asked []string
}

func (o *okdService) RoundTrip(r *http.Request) (*http.Response, error) {
	o.asked = append(o.asked, r.URL.Host+r.URL.Path)
	r = r.Clone(r.Context())
	r.URL.Scheme, r.URL.Host, r.URL.Path = "http", o.host, sample.GraphPath
	return http.DefaultTransport.RoundTrip(r)
}

// A channel of type okd is OKD's, whatever UPDATE_URL_OVERRIDE says: the spec, 4.1.
//
// Spec: oc-mirror 4.1.
func TestPlan_okd(t *testing.T) {
	s := newSetup(t, additional)
	okd := &okdService{host: s.host}
	e := s.newEngine(t, "  platform: {channels: [{name: stable-4.18, type: okd}]}\n", func(o *mirror.Options) {
		o.Graph.HTTP = &http.Client{Transport: okd}
	})
	p, err := e.Plan(t.Context())
	if err != nil || !slices.Equal(payloads(p), []string{"4.18.3-x86_64"}) {
		t.Fatalf("%v, %v", payloads(p), err)
	}
	if len(okd.asked) != 1 || !strings.HasPrefix(okd.asked[0], "origin-release.ci.openshift.org/graph") {
		t.Errorf("asked %q", okd.asked)
	}
}
