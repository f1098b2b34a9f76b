package tlsgen

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"strings"

	"github.com/caddyserver/certmagic"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// Shared keeps the pair that several processes serve, each with files of its own. What it has counts,
// and the files of each process are made equal to it.
type Shared interface {
	// Lock has this process be the only one that changes the pair, until unlock.
	Lock(ctx context.Context) (unlock func(), err error)
	// Load returns the pair, nil at first and when it is not shared any more.
	Load(ctx context.Context) (certPEM, keyPEM []byte, err error)
	// Store writes the pair. Only what has the lock calls it.
	Store(ctx context.Context, certPEM, keyPEM []byte) error
}

// CAName returns the common name of the CA of a registry, at most the 64 characters that OpenSSL and
// GnuTLS accept.
func CAName(hostname string) string {
	const before, after, room = "Mirror appliance CA (", ")", 64
	if most := room - len(before) - len(after); len(hostname) > most {
		hostname = hostname[:most-3] + "..."
	}
	return before + hostname + after
}

// ReadCA returns the content of the files of a CA that LoadCA accepts, nil if there is neither of the two.
func ReadCA(certFile, keyFile string) (certPEM, keyPEM []byte, err error) {
	if missing(certFile) && missing(keyFile) {
		return nil, nil, nil
	}
	if _, err := LoadCA(certFile, keyFile); err != nil {
		return nil, nil, err
	}
	if certPEM, err = readFile(certFile); err == nil {
		keyPEM, err = readFile(keyFile)
	}
	return certPEM, keyPEM, err
}

func missing(file string) bool {
	_, err := os.Stat(file)
	return errors.Is(err, fs.ErrNotExist)
}

// TakeCA has the files of a CA be those of an authority that other hosts have too, and returns it.
// What they had before is kept beside them: clients may trust it. The copies of an install become those of that authority.
func TakeCA(certFile, keyFile string, certPEM, keyPEM []byte, log *slog.Logger) (*CA, error) {
	ca, err := ParseCA(certPEM, keyPEM)
	if err != nil {
		return nil, err
	}
	former, _ := readFile(certFile) // which may not exist
	for _, f := range []struct {
		name string
		data []byte
		mode os.FileMode
	}{{keyFile, keyPEM, 0o600}, {certFile, certPEM, 0o644}} {
		old, err := readFile(f.name)
		if err == nil && bytes.Equal(old, f.data) {
			continue
		}
		if !missing(f.name) {
			kept := freeName(through(f.name) + ".replaced")
			if err := os.Rename(through(f.name), kept); err != nil { // an install has made it for root alone
				return nil, fault(f.name, "is of another CA than the one that all daemons share, and cannot be replaced",
					"as root, copy "+certFile+" and "+keyFile+" from a host whose daemon runs, with their owners and modes", err)
			}
			log.Warn("the file of this host's CA is replaced by that of the CA that all daemons share; clients that trust only the former have to be given the latter",
				"file", f.name, "kept", kept, "serial", strings.ToUpper(ca.cert.SerialNumber.Text(16)))
		}
		if err := writeFile(f.name, f.data, f.mode); err != nil {
			return nil, err
		}
	}
	if err := copyCA(certFile, former, certPEM); err != nil { // the daemon needs none of them
		log.Warn("could not make the copies of the CA those of the CA that all daemons share", "error", err, "hint", hint.Of(err))
	}
	return ca, nil
}

// agree returns the pair that is shared, which the files have then. If there is none that is fit, it is
// the one that adoptOrIssue returns.
func agree(ctx context.Context, o Options) (keyPair, error) {
	if o.Shared == nil {
		return adoptOrIssue(o)
	}
	unlock, err := o.Shared.Lock(ctx)
	if err != nil {
		return keyPair{}, err
	}
	defer unlock()
	there, unfit, err := o.loadShared(ctx)
	if err != nil {
		return keyPair{}, err
	}
	if there != nil && unfit == nil {
		return *there, o.take(*there)
	}
	if unfit != nil {
		o.Log.Info("the certificate that the daemons share is replaced", "because", unfit)
	}
	fresh, err := adoptOrIssue(o)
	if err != nil {
		return keyPair{}, err
	}
	return fresh, o.Shared.Store(ctx, fresh.certPEM, fresh.keyPEM)
}

// loadShared returns the pair that is shared, nil if there is none, and why it is not fit.
func (o Options) loadShared(ctx context.Context) (pair *keyPair, unfit, err error) {
	certPEM, keyPEM, err := o.Shared.Load(ctx)
	if err != nil || certPEM == nil {
		return nil, nil, err
	}
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, err, nil
	}
	if names := uncovered(cert.Leaf, o.Names); len(names) > 0 && o.CA.Signed(cert.Leaf) {
		return nil, nil, fault("", "the certificate that the daemons share is for "+strings.Join(namesOf(cert.Leaf), ", ")+", and not for "+strings.Join(names, ", "),
			"all daemons have one hostname, that of the balancer: correct hostname in config.yaml; to give all of them another one, change it at each host, "+
				"then: appliance cert unshare, and restart all", nil)
	}
	return &keyPair{certPEM, keyPEM}, o.unfit(cert.Leaf), nil
}

// take has the files be those of a pair. Files that this process cannot replace are left as they are.
func (o Options) take(pair keyPair) error {
	if now, _, err := readPair(o.CertFile, o.KeyFile); err == nil && bytes.Equal(now.certPEM, pair.certPEM) {
		return nil
	}
	err := setAside(o)
	if err == nil {
		err = writePair(o, pair)
	}
	if errors.Is(err, fs.ErrPermission) {
		o.Log.Warn("the certificate that the daemons share is served, and cannot be written to its file", "file", o.CertFile, "error", err)
		return nil
	}
	return err
}

// Lock takes the lock. There is one certificate, so there is one lock, whatever the name. What is
// shared may be newer: the storage has it before the caller looks whether there is anything to do.
func (s *storage) Lock(ctx context.Context, _ string) error {
	if err := s.take(ctx); err != nil || s.o.Shared == nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ending, cancel)()
	unlock, err := s.o.Shared.Lock(ctx)
	if err == nil {
		var pair *keyPair
		if pair, err = s.shared(ctx); err == nil && pair != nil {
			err = s.prime(ctx, *pair)
		}
		if err != nil {
			unlock()
		}
	}
	if err != nil {
		<-s.issuing
		return err
	}
	s.unlock = unlock
	return nil
}

// shared returns the pair that is shared, nil if it is not shared any more.
func (s *storage) shared(ctx context.Context) (*keyPair, error) {
	pair, unfit, err := s.o.loadShared(ctx)
	if err == nil && unfit != nil {
		err = fault("", "the certificate that the daemons share cannot be served", "restart this daemon: systemctl restart appliance", unfit)
	}
	return pair, err
}

// Unlock releases the lock.
func (s *storage) Unlock(context.Context, string) error {
	if s.unlock != nil {
		s.unlock()
		s.unlock = nil
	}
	<-s.issuing
	return nil
}

// Store shares a new pair before certmagic serves it: its metadata comes last.
func (s *storage) Store(ctx context.Context, name string, value []byte) error {
	keys := certmagic.StorageKeys
	if s.o.Shared != nil && name == keys.SiteMeta(s.issuer, s.o.Names[0]) {
		certPEM, certErr := s.Load(ctx, keys.SiteCert(s.issuer, s.o.Names[0]))
		keyPEM, keyErr := s.Load(ctx, keys.SitePrivateKey(s.issuer, s.o.Names[0]))
		err := errors.Join(certErr, keyErr)
		if err == nil {
			err = s.o.Shared.Store(ctx, certPEM, keyPEM)
		}
		if err != nil {
			return err
		}
	}
	return s.FileStorage.Store(ctx, name, value)
}

// Refresh serves what another process has made the certificate, and has the files be that. Without
// Shared it does nothing. Trouble has its error until it succeeds.
func (m *Manager) Refresh(ctx context.Context) error {
	if m.o.Shared == nil || m.o.CA == nil {
		return nil
	}
	source := m.source
	if i, ok := source.(*interim); ok && i.inner.Load() != nil {
		source = i.inner.Load()
	}
	err := error(nil)
	if managed, ok := source.(*managed); ok {
		err = managed.refresh(ctx)
	}
	if ctx.Err() == nil {
		m.apart.Store(&err)
	}
	return err
}

func (m *managed) refresh(ctx context.Context) error {
	if err := m.storage.take(ctx); errors.Is(err, errClosed) {
		return nil
	} else if err != nil {
		return err
	}
	defer func() { <-m.storage.issuing }()
	pair, err := m.storage.shared(ctx)
	if err != nil || pair == nil {
		return err
	}
	served, err := m.current()
	if err != nil {
		return err
	}
	if cert, err := tls.X509KeyPair(pair.certPEM, pair.keyPEM); err != nil || cert.Leaf.Equal(served.Leaf) {
		return err
	}
	if err := m.storage.prime(ctx, *pair); err != nil {
		return err
	}
	if err := m.reload(ctx); err != nil {
		return err
	}
	m.o.Log.Info("another daemon has renewed the certificate", "file", m.o.CertFile)
	return m.o.take(*pair)
}
