package registry

import (
	"context"
	"io"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/tlsgen"
)

func TestCertificate(t *testing.T) {
	d := openDaemon(t, io.Discard)
	a := certificateAdmin{d}
	shown := func() api.Certificate {
		t.Helper()
		c, err := a.Describe()
		must(t, err)
		return c
	}
	before := shown()
	if !slices.Equal(before.Names, []string{"registry.test", "localhost"}) || !before.Renews || before.File != d.cfg.TLS.Certificate ||
		before.Key != d.cfg.TLS.Key || before.CAFile != d.cfg.TLS.CA || before.DaysLeft < 390 || before.DaysLeft > 397 ||
		len(before.CA) != 1 || before.Issuer != before.CA[0].Subject || len(before.Fingerprint) != 95 || len(before.Trouble) > 0 {
		t.Errorf("described as %+v", before)
	}
	must(t, a.Renew(t.Context()))
	after := shown()
	if after.Serial == before.Serial || !slices.Equal(after.Names, before.Names) || after.Issuer != before.Issuer {
		t.Errorf("renewed from %+v to %+v", before, after)
	}

	// A rotation of the CA is begun in the file, and needs no restart.
	old, err := os.ReadFile(d.cfg.TLS.CA)
	must(t, err)
	next, err := tlsgen.CreateCA("next", time.Now())
	must(t, err)
	both := append(old, next.CertPEM()...)
	must(t, os.WriteFile(d.cfg.TLS.CA, both, 0o600))
	must(t, os.WriteFile(tlsgen.NextKeyFile(d.cfg.TLS.CAKey), next.KeyPEM(), 0o600))
	if c := shown(); len(c.CA) != 2 || c.CA[1].Subject != "CN=next,O=Mirror appliance" || !c.CA[0].Signs || c.CA[1].Signs ||
		len(c.Trouble) != 1 || !strings.Contains(c.Trouble[0].Problem, "the CA is being replaced, since 20") ||
		!strings.Contains(c.Trouble[0].Hint, "rotate-ca --finish") {
		t.Errorf("described as %+v", c)
	}
	if err := d.checkCertificate(t.Context()); err != nil {
		t.Errorf("during a rotation it is not healthy: %v", err)
	}
	w := httptest.NewRecorder()
	d.public().ServeHTTP(w, httptest.NewRequestWithContext(context.Background(), "GET", "https://registry.test/ca.crt", nil))
	if w.Body.String() != string(both) {
		t.Errorf("/ca.crt has\n%s", w.Body)
	}
	must(t, a.Renew(t.Context()))
	if shown().Issuer != before.Issuer {
		t.Error("the new CA signs before the end of the rotation")
	}
}
