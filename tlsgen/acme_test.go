package tlsgen

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
	"github.com/miekg/dns"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// bindingKey is the key of the account binding that the server asks for, base64url.
const bindingKey = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"

// acmeServer is pebble, the ACME server of Let's Encrypt for tests, and a registry that it reaches.
type acmeServer struct {
	*httptest.Server
	roots   *x509.CertPool // that clients of its certificates trust
	options Options        // of the registry
	listen  net.Listener   // of the registry
}

func startACMEServer(t *testing.T, own *CA) *acmeServer {
	t.Helper()
	t.Setenv("PEBBLE_VA_NOSLEEP", "1")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	port := listener.Addr().(*net.TCPAddr).Port
	silent := log.New(io.Discard, "", 0)
	store := db.NewMemoryStore()
	authority := ca.New(silent, store, "", "ecdsa", 0, 1, map[string]ca.Profile{"default": {}})
	validator := va.New(silent, 0, port, false, resolveAll(t), store)
	if err := store.AddExternalAccountKeyByID("binding-1", bindingKey); err != nil {
		t.Fatal(err)
	}
	front := wfe.New(silent, store, validator, authority, []string{"pebble.test"}, false, true, 1, 1)
	s := &acmeServer{Server: httptest.NewTLSServer(front.Handler()), roots: x509.NewCertPool(), listen: listener}
	t.Cleanup(s.Close)
	s.roots.AddCert(authority.GetRootCert(0).Cert)
	s.options = options(t, own, "r.example.com", "localhost")
	s.options.ACME = ACME{Directory: s.URL + wfe.DirectoryPath, CAFile: putFile(t, "acme.pem", encodeCert(s.Certificate().Raw)),
		Email: "admin@example.com", KeyID: "binding-1", KeyFile: putFile(t, "binding", []byte(bindingKey+"\n")), Port: port}
	return s
}

// resolveAll is a DNS server by which every name is this host's.
func resolveAll(t *testing.T) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &dns.Server{Listener: listener, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		answer := new(dns.Msg).SetReply(q)
		if q.Question[0].Qtype == dns.TypeA {
			answer.Answer = append(answer.Answer, &dns.A{A: net.IPv4(127, 0, 0, 1),
				Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET}})
		}
		_ = w.WriteMsg(answer)
	})}
	go func() { _ = server.ActivateAndServe() }()
	t.Cleanup(func() { _ = server.Shutdown() })
	return listener.Addr().String()
}

// serve has the registry's port answer with a manager's certificates until the test ends.
func (s *acmeServer) serve(m *Manager) {
	tlsListener := tls.NewListener(s.listen, m.TLSConfig())
	go func() {
		for {
			conn, err := tlsListener.Accept()
			if err != nil {
				return
			}
			go func() {
				_ = conn.(*tls.Conn).Handshake()
				conn.Close()
			}()
		}
	}()
}

// accepted reports whether a client that trusts the server's CA accepts what is served.
func (s *acmeServer) accepted(t *testing.T, m *Manager) bool {
	t.Helper()
	_, err := dial(t, m, &tls.Config{ServerName: "r.example.com", RootCAs: s.roots})
	return err == nil
}

// An ACME server issues the certificate, by a challenge at the registry's own port. It is renewed,
// and served after a restart while the server is away.
func TestManager_ACME(t *testing.T) {
	own := constrained(t, "r.example.com", "localhost")
	s := startACMEServer(t, own)
	m := start(t, s.options)
	if got := serial(t, m, own.Pool(), "r.example.com"); got == "" {
		t.Error("nothing is served before the ACME server has issued a certificate")
	}
	s.serve(m)
	if err := m.Obtain(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the ACME server's certificate is served", func() bool { return s.accepted(t, m) })
	first := serial(t, m, s.roots, "r.example.com")
	if got := serial(t, m, own.Pool(), "localhost"); got != fileSerial(t, s.options) {
		t.Error("localhost is not served the certificate of our CA")
	}
	if served, err := m.Served(); err != nil || !strings.Contains(served.Issuer.String(), "Pebble") || !m.NotAfter().Equal(served.NotAfter) {
		t.Errorf("described as that of %v (%v)", served.Issuer, err)
	}
	if err := m.Renew(t.Context()); err != nil {
		t.Fatal(err)
	}
	second := serial(t, m, s.roots, "r.example.com")
	if second == first {
		t.Error("renewed, the certificate is the old one")
	}
	if refused, soon := troubles(t, m); refused+soon != "" {
		t.Errorf("troubles: %q %q", refused, soon)
	}
	file, keyFile := m.Files()
	if _, cert, err := readPair(file, keyFile); err != nil || cert.Leaf.SerialNumber.String() != second {
		t.Errorf("the files named do not have the certificate: %v", err)
	}
	m.Close()
	s.Server.Close()
	if got := serial(t, start(t, s.options), s.roots, "r.example.com"); got != second {
		t.Error("after a restart another one is served")
	}
}

// Without a certificate of the ACME server clients get the one of our CA, and status tells why.
func TestManager_ACMERefuses(t *testing.T) {
	own := constrained(t, "r.example.com", "localhost")
	s := startACMEServer(t, own)
	s.options.ACME.KeyFile = putFile(t, "wrong", []byte(strings.Repeat("A", len(bindingKey))))
	m := start(t, s.options)
	s.serve(m)
	if err := m.Obtain(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the failure is told", func() bool {
		_, soon := m.Trouble()
		return len(soon) == 1 && strings.Contains(soon[0].Error(), "has issued no certificate for r.example.com") && hint.Of(soon[0]) != ""
	})
	if s.accepted(t, m) || serial(t, m, own.Pool(), "r.example.com") == "" {
		t.Error("clients do not get the certificate of our CA")
	}
	t.Run("files that cannot be read are an error", func(t *testing.T) {
		for _, breakIt := range []func(*ACME){
			func(a *ACME) { a.KeyFile = filepath.Join(t.TempDir(), "absent") },
			func(a *ACME) { a.CAFile = filepath.Join(t.TempDir(), "absent") },
		} {
			o := s.options
			o.StateDir = t.TempDir()
			breakIt(&o.ACME)
			if _, err := NewManager(t.Context(), o); err == nil || !strings.Contains(err.Error(), "ACME") || hint.Of(err) == "" {
				t.Errorf("got %v", err)
			}
		}
	})
}
