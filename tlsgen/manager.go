// Package tlsgen makes and keeps the certificates that the registry serves.
//
// Use CreateCA and CA.IssueLeaf to install, LoadCA and NewManager to serve. A Manager serves one
// certificate to each client, whatever name the client asks for.
//
// With a CA, certmagic renews the leaf: it is proven under load, and an ACME issuer can stand
// beside the CA's. Its storage is only working memory. The files that scripts know (ssl.cert,
// ssl.key) count: the pair is adopted at start, so that a lost or torn storage costs nothing.
// Without a CA, the files are the user's own, and certmagic is not used: it finds certificates by
// their names, while the user's certificate is served also if it names something else.
//
// Keys are ECDSA on P-256, which FIPS mode, every TLS 1.2 client and every browser accept, and
// which sign a handshake in a fraction of the time of RSA. Refused: Ed25519, which FIPS mode and
// older Java clients do not accept. A CA made elsewhere, such as mirror-registry's with RSA, is
// used as it is.
package tlsgen

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mholt/acmez/v3"
)

// Options are the certificate to serve and its files.
type Options struct {
	Names    []string // DNS names and addresses that clients use
	CA       *CA      // nil: the files are the user's own
	CertFile string   // leaf followed by what signed it, 0644
	KeyFile  string   // 0600
	StateDir string   // certmagic's storage; only with a CA
	CAFile   string   // the CA that clients trust; "" if they know the issuer
	// CAKeyFile is named in hints about a new CA, and beside it a rotation is found; only with a CA.
	CAKeyFile string
	ACME      ACME // only with a CA
	// Shared has the pair that other processes serve too; only with a CA, nil: there are none.
	Shared Shared
	Log    *slog.Logger
	// Now is the clock for issuing and adopting; nil: time.Now. certmagic renews by its own clock.
	Now func() time.Time

	// Tests shorten these.
	lifetime  time.Duration // of a leaf
	pollEvery time.Duration // how often the user's files are read without having been notified
}

// Manager keeps one certificate valid and serves it.
type Manager struct {
	source source
	acme   *fromACME // nil: none
	closed sync.Once
	o      Options               // as given
	apart  atomic.Pointer[error] // of the last Refresh
}

// source has a Manager's certificate: from the CA or from the user's files.
type source interface {
	// current returns the certificate to serve.
	current() (*tls.Certificate, error)
	// renew replaces the certificate before it is due.
	renew(ctx context.Context) error
	close()
}

// NewManager returns once there is a certificate to serve. Its goroutines run until Close, not
// until ctx ends.
//
// With a CA, the pair in CertFile and KeyFile is adopted if it covers all names, was signed by the
// CA and is not due for renewal; else a new one is issued and written there, as at every renewal.
// Without a CA the pair is loaded, and loaded again whenever it changes; a broken pair is an error
// now, and later leaves the last good one in use.
func NewManager(ctx context.Context, o Options) (*Manager, error) {
	o.setDefaults()
	names, err := normalize(o.Names)
	if err != nil {
		return nil, err
	}
	o.Names = names
	m := &Manager{o: o}
	switch {
	case o.CA == nil:
		m.source, err = startWatched(ctx, o)
	case o.expired():
		m.source, err = startInterim(ctx, o.acceptable(), nil)
	default:
		m.source, err = startManaged(ctx, o.acceptable())
		if isFull(err) {
			m.source, err = startInterim(ctx, o.acceptable(), err)
		}
	}
	if err == nil && o.CA != nil && o.ACME.Directory != "" {
		if m.acme, err = newACME(ctx, o); err != nil {
			m.source.close()
		}
	}
	if err != nil {
		return nil, err
	}
	return m, nil
}

// current returns the certificate for the hostname.
func (m *Manager) current() (*tls.Certificate, error) {
	if cert := m.acme.current(m.o); cert != nil {
		return cert, nil
	}
	return m.source.current()
}

// acceptable returns the options with the names that the CA may sign for. With one more name,
// clients would reject the certificate for all of them.
func (o Options) acceptable() Options {
	refused := o.CA.Refuses(o.Names)
	if len(refused) == 0 {
		return o
	}
	kept := slices.DeleteFunc(slices.Clone(o.Names), func(name string) bool {
		return slices.Contains(refused, name)
	})
	names, err := normalize(append(o.CA.permitted(), kept...))
	if err != nil || len(o.CA.Refuses(names)) > 0 {
		return o
	}
	o.Names = names
	return o
}

func (o *Options) setDefaults() {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.lifetime == 0 {
		o.lifetime = leafLifetime
	}
	if o.pollEvery == 0 {
		o.pollEvery = time.Minute
	}
}

// TLSConfig returns the configuration of listeners: TLS 1.2 or later, HTTP/2 and HTTP/1.1. Each
// client gets the one certificate, whatever name it asks for: the client judges it.
func (m *Manager) TLSConfig() *tls.Config {
	protocols := []string{"h2", "http/1.1"}
	if m.acme != nil {
		protocols = append(protocols, acmez.ACMETLS1Protocol)
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		// Of TLS 1.2 without CBC, RSA key exchange and 3DES. TLS 1.3 has none of them, and no list.
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
			tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
		NextProtos: protocols,
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			switch {
			case m.acme.answers(hello):
				return m.acme.config.GetCertificate(hello)
			case hello.ServerName == "localhost": // which no ACME server certifies
				return m.source.current()
			}
			return m.current()
		},
	}
}

// NotAfter returns the end of the served certificate's validity, the zero time if there is none.
func (m *Manager) NotAfter() time.Time {
	cert, err := m.current()
	if err != nil {
		return time.Time{}
	}
	return cert.Leaf.NotAfter
}

// Renew replaces the served certificate by a new one of the CA, which is in its files when Renew
// returns. New connections get it. Errors carry a hint.
func (m *Manager) Renew(ctx context.Context) error {
	if m.acme != nil {
		return m.acme.renew(ctx)
	}
	return m.source.renew(ctx)
}

// Obtain has the ACME server, if there is one, issue the certificate. It returns at once. Call it
// when the listener of TLSConfig is open, which answers the challenge.
func (m *Manager) Obtain() error {
	if m.acme == nil {
		return nil
	}
	return m.acme.obtain()
}

// Files returns the files of the certificate that is served, and of its key.
func (m *Manager) Files() (cert, key string) {
	switch {
	case m.acme.current(m.o) != nil:
		return m.acme.files(m.o)
	case m.o.CA == nil:
		return OwnFile(m.o.CertFile, m.o.KeyFile), m.o.KeyFile
	}
	return m.o.CertFile, m.o.KeyFile
}

// Served returns the certificate that is served.
func (m *Manager) Served() (*x509.Certificate, error) {
	served, err := m.current()
	if err != nil {
		return nil, err
	}
	return served.Leaf, nil
}

// Names returns the host names and addresses of a certificate.
func Names(cert *x509.Certificate) []string { return namesOf(cert) }

// Close ends the manager's goroutines and waits for them. Open listeners keep the certificate.
func (m *Manager) Close() error {
	m.closed.Do(func() {
		if m.acme != nil {
			m.acme.close()
		}
		m.source.close()
	})
	return nil
}
