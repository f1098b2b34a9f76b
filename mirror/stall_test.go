package mirror_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror"
)

func TestExecute_imageWithoutProgress(t *testing.T) {
	const limit = 2 * time.Second
	timeout := func(o *mirror.Options) { o.ImageTimeout = limit }
	t.Run("fails by name, and no other", func(t *testing.T) {
		s := newSetup(t, additional, timeout)
		layer := s.layer(t, "samples/docker", "v1").String()
		s.fails(func(_ http.ResponseWriter, r *http.Request) bool {
			if !strings.HasSuffix(r.URL.Path, layer) {
				return false
			}
			<-r.Context().Done()
			return true
		})
		report, err := s.mirror(t)
		if err == nil || len(report.Failures) != 1 {
			t.Fatalf("the failures are %+v, %v", report.Failures, err)
		}
		f := report.Failures[0]
		if f.Image.Repository != "samples/docker" || !strings.Contains(f.Error, "no progress for 2s") || !strings.Contains(hint.Of(f.Cause), "--image-timeout") {
			t.Errorf("the failure is %+v", f)
		}
		s.holds(t, "samples/oci-multi", "v1", s.digest(t, "samples/oci-multi", "v1"))
	})
	t.Run("is not one that is slow", func(t *testing.T) {
		s := newSetup(t, additional, timeout)
		layer := s.layer(t, "samples/docker", "v1")
		s.fails(func(w http.ResponseWriter, r *http.Request) bool {
			content, ok := s.Blob("samples/docker", layer)
			if !ok || !strings.HasSuffix(r.URL.Path, layer.String()) {
				return false
			}
			for part := 0; part < 10; part++ { // longer than the limit, in all
				time.Sleep(limit / 8)
				_, _ = w.Write(content[part*len(content)/10 : (part+1)*len(content)/10])
				_ = http.NewResponseController(w).Flush()
			}
			return true
		})
		if report, err := s.mirror(t); err != nil {
			t.Errorf("the failures are %+v, %v", report.Failures, err)
		}
	})
}
