package registry

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/tlsgen"
)

// A CA that clients refuse is served, loudly: the daemon starts, and is not healthy.
func TestHealth_certificate(t *testing.T) {
	const year = 365 * 24 * time.Hour
	for _, c := range []struct {
		name    string
		made    time.Duration // from now
		names   []string
		healthy bool
		says    string
	}{
		{"good", 0, []string{"registry.test", "localhost"}, true, ""},
		{"unconstrained", 0, nil, true, ""},
		{"ends in a month", -20*year + year/12, nil, true, "the CA expires at"},
		{"expired", -21 * year, nil, false, "the CA expired at"},
		{"not yet valid", year, nil, false, "the CA is valid from"},
		{"made for another host", 0, []string{"other.test", "localhost"}, false, "may not sign for"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var log bytes.Buffer
			d := openDaemon(t, &log)
			must(t, d.close())
			for _, file := range []string{d.cfg.TLS.Certificate, d.cfg.TLS.Key} {
				must(t, os.Remove(file))
			}
			ca, err := tlsgen.CreateCA("test", time.Now().Add(c.made), c.names...)
			must(t, err)
			must(t, os.WriteFile(d.cfg.TLS.CA, ca.CertPEM(), 0o600))
			must(t, os.WriteFile(d.cfg.TLS.CAKey, ca.KeyPEM(), 0o600))
			d, err = open(context.Background(), d.cfg, Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
			must(t, err)
			defer func() { must(t, d.close()) }()

			if err := d.checkCertificate(t.Context()); (err == nil) != c.healthy {
				t.Errorf("the health check says %v", err)
			}
			s, err := d.status(t.Context())
			must(t, err)
			if s.CA == nil || !s.CA.Equal(ca.NotAfter()) || (len(s.Trouble) > 0) != (c.says != "") || len(s.Trouble) > 0 && !strings.Contains(s.Trouble[0].Problem, c.says) {
				t.Errorf("status says %+v", s)
			}
			log.Reset()
			d.logCertificate()
			if !strings.Contains(log.String(), c.says) || (log.Len() > 0) != (c.says != "") {
				t.Errorf("logged %s", &log)
			}
		})
	}
}
