package registry_test

import (
	"strings"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/registry/config"
)

// A registry whose ACME server is away serves the certificate of its own CA, is healthy, and tells
// why.
func TestCertificate_ACMEServerIsAway(t *testing.T) {
	const directory = "https://127.0.0.1:1/directory"
	r := start(t, func(c *config.Config) { c.TLS.ACME.Directory = directory })
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		s, err := r.admin.Status(t.Context())
		must(t, err)
		if len(s.Trouble) > 0 {
			if !s.Healthy || !strings.Contains(s.Trouble[0].Problem, directory+" has issued no certificate for registry.test") || s.Trouble[0].Hint == "" {
				t.Errorf("status has %+v", s.Trouble)
			}
			break
		}
		if time.Now().After(end) {
			t.Fatalf("nothing is told\n%s", r.log)
		}
	}
	c, err := r.admin.Certificate(t.Context())
	if err != nil || c.ACME != directory || c.Issued || c.File != r.cfg.TLS.Certificate || len(c.Trouble) != 1 {
		t.Errorf("described as %+v, %v", c, err)
	}
	if _, err := r.admin.RenewCertificate(t.Context()); err == nil || !strings.Contains(err.Error(), "the ACME server has not issued a certificate") {
		t.Errorf("a renewal: %v", err)
	}
}
