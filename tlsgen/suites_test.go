package tlsgen

import (
	"crypto/tls"
	"strings"
	"testing"
)

func TestManager_TLSConfig_suites(t *testing.T) {
	suites := (&Manager{}).TLSConfig().CipherSuites
	if len(suites) == 0 { // Go's own have CBC
		t.Error("the suites are left to Go")
	}
	for _, id := range suites {
		name := tls.CipherSuiteName(id)
		if !strings.HasPrefix(name, "TLS_ECDHE_") || strings.Contains(name, "CBC") || strings.Contains(name, "3DES") || strings.Contains(name, "RC4") {
			t.Errorf("%s is offered", name)
		}
	}
}
