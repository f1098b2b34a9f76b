package installer

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/tlsgen"
)

// daemon is a server on loopback with a certificate of its own CA for name, and its configuration.
func daemon(t *testing.T, name string, answer http.HandlerFunc) *config.Config {
	t.Helper()
	ca, err := tlsgen.CreateCA("test", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	certPEM, keyPEM, err := ca.IssueLeaf([]string{name}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(answer)
	srv.Config.ErrorLog = log.New(io.Discard, "", 0) // refused handshakes are what is tested
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	dir := t.TempDir()
	cfg := config.Default(dir)
	cfg.Hostname, cfg.Port = "registry.example.com", srv.Listener.Addr().(*net.TCPAddr).Port
	cfg.TLS.CA, cfg.TLS.Certificate = filepath.Join(dir, "ca.pem"), filepath.Join(dir, "leaf.pem")
	for path, content := range map[string][]byte{cfg.TLS.CA: ca.CertPEM(), cfg.TLS.Certificate: certPEM} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cfg
}

func TestCheckHealth(t *testing.T) {
	var host, path string
	well := func(w http.ResponseWriter, r *http.Request) { host, path = r.Host, r.URL.Path }
	ill := func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, `{"storage":false}`, http.StatusServiceUnavailable)
	}

	// The name is known to no resolver: what is dialled is the loopback address.
	cfg := daemon(t, "registry.example.com", well)
	if err := checkHealth(t.Context(), cfg); err != nil {
		t.Errorf("a daemon that is well: %v", err)
	}
	if want := fmt.Sprintf("registry.example.com:%d", cfg.Port); host != want || path != "/health/instance" {
		t.Errorf("asked %s%s, want %s/health/instance", host, path, want)
	}
	balanced := daemon(t, "registry.example.com", well)
	balanced.Listen, balanced.Port, balanced.SharedKey = fmt.Sprintf(":%d", balanced.Port), 443, "/etc/appliance/shared-key"
	if err := checkHealth(t.Context(), balanced); err != nil || host != "registry.example.com" {
		t.Errorf("a daemon behind a balancer: %v, asked %s", err, host)
	}
	if err := checkHealth(t.Context(), daemon(t, "other.example.com", well)); err == nil {
		t.Error("a certificate for another name was accepted")
	}
	stranger := daemon(t, "registry.example.com", well)
	stranger.TLS.CA, stranger.TLS.Certificate = cfg.TLS.CA, cfg.TLS.Certificate
	if err := checkHealth(t.Context(), stranger); err == nil {
		t.Error("a certificate of another CA was accepted")
	}
	own := daemon(t, "other.example.com", well) // with --sslCheckSkip
	own.TLS.CA, own.TLS.CAKey = "", ""
	if err := checkHealth(t.Context(), own); err != nil {
		t.Errorf("the user's own certificate: %v", err)
	}
	own.TLS.Certificate = cfg.TLS.Certificate
	if err := checkHealth(t.Context(), own); err == nil || !strings.Contains(err.Error(), "is not the one in") {
		t.Errorf("another certificate than the user's own: %v", err)
	}
	if err := checkHealth(t.Context(), daemon(t, "registry.example.com", ill)); err == nil || !strings.Contains(err.Error(), "storage") {
		t.Errorf("a daemon that is ill: %v", err)
	}
}
