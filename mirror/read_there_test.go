package mirror_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/cmd/sample-upstream/sample"
	"github.com/mirror-appliance/appliance/mirror"
)

// An image that is named by digest and that the destination has needs nothing of its source.
func TestMirror_manifestsOfTheDestination(t *testing.T) {
	for _, status := range []int{http.StatusServiceUnavailable, http.StatusNotFound, http.StatusForbidden} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			s := newSetup(t, database+"    - name: sample-logging\n")
			if _, err := s.mirror(t); err != nil {
				t.Fatal(err)
			}
			before := s.catalog(t, sample.CatalogTag)
			s.fails(func(w http.ResponseWriter, r *http.Request) bool {
				fails := strings.Contains(r.URL.Path, "/operators/") && strings.Contains(r.URL.Path, "/manifests/sha256:")
				if fails {
					w.WriteHeader(status)
				}
				return fails
			})
			s.engine = s.newEngine(t, database+"    - name: sample-logging\n")
			report, err := s.mirror(t)
			if err != nil || len(report.Failures) > 0 {
				t.Errorf("%v, failures %+v", err, report.Failures)
			}
			if got := s.catalog(t, sample.CatalogTag); got != before {
				t.Errorf("the catalog has\n%s", got)
			}
			s.engine = s.newEngine(t, database+"    - name: sample-logging\n", func(o *mirror.Options) { o.Held = nil })
			if _, err := s.mirror(t); exitCode(err) != 4 {
				t.Errorf("a destination that cannot be read: %v", err)
			}
		})
	}
}
