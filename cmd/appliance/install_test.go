package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/installer"
)

// The CA is the one that config.yaml names; whoever brings a certificate that clients know has none.
func TestReportInstall_CA(t *testing.T) {
	for ca, want := range map[string]string{"/srv/ca/root.pem": "https://r.example.com:8443/ca.crt, or /srv/ca/root.pem\n", "": ""} {
		var out bytes.Buffer
		reportInstall(&out, installer.Result{Address: "r.example.com:8443", QuayRoot: t.TempDir(), CA: ca})
		if said := strings.Contains(out.String(), "CA for clients"); said != (want != "") || !strings.Contains(out.String(), want) {
			t.Errorf("with the CA %q:\n%s", ca, out.String())
		}
	}
}
