package tlsgen

import (
	"crypto/tls"
	"strings"
	"testing"
)

func TestManager_TLSConfig_suites(t *testing.T) {
	for _, id := range (&Manager{}).TLSConfig().CipherSuites {
		name := tls.CipherSuiteName(id)
		if !strings.HasPrefix(name, "TLS_ECDHE_") || strings.Contains(name, "CBC") || strings.Contains(name, "3DES") || strings.Contains(name, "RC4") {
			t.Errorf("%s is offered", name)
		}
	}
}
