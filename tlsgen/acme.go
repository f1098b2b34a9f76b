package tlsgen

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"
)

// ACME names a server that issues certificates, RFC 8555.
type ACME struct {
	Directory string // its URL; "": none
	CAFile    string // to trust for it; "": the system's
	Email     string // of the account; "": none
	KeyID     string // of an external account binding; "": none
	KeyFile   string // its MAC key, base64url
	// Port is the one that TLSConfig's listener has: its handshakes answer challenges. The server
	// connects to port 443, which has to lead there.
	Port int
}

// fromACME has a certificate of an ACME server for one name. Clients are served the one of our CA
// until there is one.
//
// TLS-ALPN-01 needs no port beside the one of the registry. Refused: HTTP-01, for which an
// unprivileged service would need port 80.
type fromACME struct {
	name   string
	config *certmagic.Config
	cache  *certmagic.Cache
	failed atomic.Pointer[error] // the last failure since a success
	ctx    context.Context       // of the work that obtain begins
	cancel context.CancelFunc
}

// newACME loads what the server has issued. It asks it for nothing, see obtain.
func newACME(ctx context.Context, o Options) (*fromACME, error) {
	template := certmagic.ACMEIssuer{CA: o.ACME.Directory, Email: o.ACME.Email, Agreed: true,
		DisableHTTPChallenge: true, DisableDistributedSolvers: true, AltTLSALPNPort: o.ACME.Port,
		Logger: bridge(o.Log)}
	var err error
	if template.TrustedRoots, err = rootsWith(o.ACME.CAFile); err != nil {
		return nil, fmt.Errorf("the CA of the ACME server: %w", err)
	}
	if o.ACME.KeyFile != "" {
		key, err := readFile(o.ACME.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("the key of the ACME account binding: %w", err)
		}
		template.ExternalAccount = &acme.EAB{KeyID: o.ACME.KeyID,
			MACKey: strings.TrimRight(string(bytes.TrimSpace(key)), "=")}
	}
	a := &fromACME{name: o.Names[0]}
	a.configure(o, template)
	a.ctx, a.cancel = context.WithCancel(context.WithoutCancel(ctx))
	_, err = a.config.CacheManagedCertificate(ctx, a.name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		o.Log.Warn("what the ACME server has issued cannot be read; it is asked again", "error", err)
	}
	return a, nil
}

// obtain returns at once: the server may be away.
func (a *fromACME) obtain() error { return a.config.ManageAsync(a.ctx, []string{a.name}) }

// files returns the files of the certificate and its key.
func (a *fromACME) files(o Options) (cert, key string) {
	issuer := a.config.Issuers[0].IssuerKey()
	in := func(name string) string { return filepath.Join(o.StateDir, "acme", filepath.FromSlash(name)) }
	return in(certmagic.StorageKeys.SiteCert(issuer, a.name)),
		in(certmagic.StorageKeys.SitePrivateKey(issuer, a.name))
}

func (a *fromACME) configure(o Options, template certmagic.ACMEIssuer) {
	a.cache = certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) { return a.config, nil },
		Logger:           template.Logger,
	})
	a.config = certmagic.New(a.cache, certmagic.Config{
		KeySource: certmagic.StandardKeyGenerator{KeyType: certmagic.P256},
		Storage:   &certmagic.FileStorage{Path: filepath.Join(o.StateDir, "acme")},
		OCSP:      certmagic.OCSPConfig{DisableStapling: true},
		Logger:    template.Logger,
		OnEvent: func(_ context.Context, event string, data map[string]any) error {
			a.note(o, event, data)
			return nil
		},
	})
	a.config.Issuers = []certmagic.Issuer{certmagic.NewACMEIssuer(a.config, template)}
}

// note remembers why there is no certificate. certmagic retries.
func (a *fromACME) note(o Options, event string, data map[string]any) {
	switch event {
	case "cert_obtained":
		a.failed.Store(nil)
		o.Log.Info("the ACME server has issued a certificate", "server", o.ACME.Directory, "name", a.name)
	case "cert_failed":
		if err, ok := data["error"].(error); ok {
			a.failed.Store(&err)
		}
	}
}

// current returns nil if there is no certificate, or only one that has expired.
func (a *fromACME) current(o Options) *tls.Certificate {
	if a == nil {
		return nil
	}
	var best *tls.Certificate
	for _, c := range a.cache.AllMatchingCertificates(a.name) {
		if best == nil || !c.Leaf.NotAfter.Before(best.Leaf.NotAfter) {
			best = &c.Certificate
		}
	}
	if best == nil || o.Now().After(best.Leaf.NotAfter) {
		return nil
	}
	return best
}

// answers reports whether a handshake is a challenge of an ACME server.
func (a *fromACME) answers(hello *tls.ClientHelloInfo) bool {
	return a != nil && len(hello.SupportedProtos) == 1 &&
		hello.SupportedProtos[0] == acmez.ACMETLS1Protocol
}

// renew refuses while there is no certificate: certmagic is at work on it, holds the lock, and has
// told why it failed.
func (a *fromACME) renew(ctx context.Context) error {
	const what = "the ACME server has not issued a certificate"
	if len(a.cache.AllMatchingCertificates(a.name)) == 0 {
		cause := errors.New("it is being asked")
		if failure := a.failed.Load(); failure != nil {
			cause = *failure
		}
		return fault("", what, remedyACME(a.name)+"; it is asked again by itself, and at once after: "+
			"systemctl restart appliance", cause)
	}
	ctx, cancel := context.WithTimeout(ctx, renewLimit)
	defer cancel()
	if err := a.config.RenewCertSync(ctx, a.name, true); err != nil {
		return fault("", what, remedyACME(a.name), err)
	}
	_, err := a.config.CacheManagedCertificate(ctx, a.name)
	return err
}

// renewLimit bounds a renewal that waits for the server, or for one that is under way.
const renewLimit = time.Minute

func remedyACME(name string) string {
	return "it has to reach this registry at port 443 of " + name + "; until it does, what is there goes on " +
		"being served"
}

// trouble returns the reason why clients get no certificate of the server.
func (a *fromACME) trouble(o Options) error {
	failure := a.failed.Load()
	if a.current(o) != nil || failure == nil {
		return nil
	}
	return fault("", "the ACME server "+o.ACME.Directory+" has issued no certificate for "+a.name+
		", and clients get one of the appliance's own CA", remedyACME(a.name), *failure)
}

func (a *fromACME) close() {
	a.cancel()
	a.cache.Stop()
}
