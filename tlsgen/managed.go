package tlsgen

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/caddyserver/certmagic"

	"github.com/mirror-appliance/appliance/internal/regular"
)

// renewalRatio is the last part of a leaf's life, in which it is renewed.
const renewalRatio = 1.0 / 3

// managed serves a leaf of the CA, which certmagic renews.
type managed struct {
	name    string // the leaf's first name, under which certmagic knows it
	config  *certmagic.Config
	cache   *certmagic.Cache
	storage *storage
	o       Options
}

func startManaged(ctx context.Context, o Options) (*managed, error) {
	pair, err := agree(ctx, o)
	if err != nil {
		return nil, err
	}
	m := &managed{name: o.Names[0], storage: newStorage(o), o: o}
	authority := issuer{o}
	if err := m.storage.prime(ctx, pair); err != nil {
		return nil, fault(o.StateDir, "the certificate's state cannot be written",
			"check the owner of this directory and the space on its file system", err)
	}
	m.config = m.configure(o, authority)
	if err := m.config.ManageSync(ctx, []string{m.name}); err != nil {
		if _, none := m.current(); none != nil {
			m.close()
			return nil, fmt.Errorf("manage the certificate: %w", err)
		}
		// A leaf that is due can be served, also while the disk is too full for the next. certmagic
		// retries.
		o.Log.Error("the certificate is due and cannot be renewed; it goes on being served",
			"file", o.CertFile, "error", err)
	}
	return m, nil
}

// configure starts certmagic's cache, without what would use the network: OCSP and ACME renewal
// information.
func (m *managed) configure(o Options, authority certmagic.Issuer) *certmagic.Config {
	logger := bridge(o.Log)
	var config *certmagic.Config
	m.cache = certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) { return config, nil },
		Logger:           logger,
	})
	config = certmagic.New(m.cache, certmagic.Config{
		RenewalWindowRatio: renewalRatio,
		Issuers:            []certmagic.Issuer{authority},
		KeySource:          certmagic.StandardKeyGenerator{KeyType: certmagic.P256},
		Storage:            m.storage,
		OCSP:               certmagic.OCSPConfig{DisableStapling: true},
		DisableARI:         true,
		// The check writes before it takes the lock, so it could write after close.
		DisableStorageCheck: true,
		Logger:              logger,
		OnEvent: func(ctx context.Context, event string, data map[string]any) error {
			if event == "cert_obtained" {
				m.publish(ctx, o, data)
			}
			return nil
		},
	})
	return config
}

// publish writes a new certificate to the files that scripts read. The daemon serves it in any
// case, so a failure is logged: certmagic would not act on an error.
func (m *managed) publish(ctx context.Context, o Options, data map[string]any) {
	certPath, _ := data["certificate_path"].(string)
	keyPath, _ := data["private_key_path"].(string)
	certPEM, certErr := m.storage.Load(ctx, certPath)
	keyPEM, keyErr := m.storage.Load(ctx, keyPath)
	err := errors.Join(certErr, keyErr)
	if err == nil {
		err = setAside(o) // the files may have changed since the start
	}
	if err == nil {
		err = writePair(o, keyPair{certPEM: certPEM, keyPEM: keyPEM})
	}
	if err != nil {
		o.Log.Error("a renewed certificate is served but could not be written to its file",
			"file", o.CertFile, "error", err)
		return
	}
	o.Log.Info("renewed the certificate", "file", o.CertFile, "names", o.Names)
}

// renew replaces the leaf by a new one with a new key.
func (m *managed) renew(ctx context.Context) error {
	if err := m.config.RenewCertSync(ctx, m.name, true); err != nil {
		return fmt.Errorf("renew the certificate: %w", err)
	}
	return m.reload(ctx)
}

// reload serves what the storage has.
func (m *managed) reload(ctx context.Context) error {
	before := m.cache.AllMatchingCertificates(m.name)
	if _, err := m.config.CacheManagedCertificate(ctx, m.name); err != nil {
		return fmt.Errorf("load the renewed certificate: %w", err)
	}
	var old []string
	for _, c := range before {
		old = append(old, c.Hash())
	}
	m.cache.Remove(old)
	return nil
}

// current returns the newest leaf in the cache. There can be two: certmagic may renew one again
// that it was just replacing. Dates have whole seconds, so of equal ones the later entry counts.
func (m *managed) current() (*tls.Certificate, error) {
	var best *tls.Certificate
	for _, c := range m.cache.AllMatchingCertificates(m.name) {
		if best == nil || !c.Leaf.NotAfter.Before(best.Leaf.NotAfter) {
			best = &c.Certificate
		}
	}
	if best == nil {
		return nil, fmt.Errorf("no certificate for %s is loaded", m.name)
	}
	return best, nil
}

// close waits for a renewal under way, prevents others, and ends certmagic's goroutine. The last
// part of a renewal, reading its result into the cache, may go on for a moment.
func (m *managed) close() {
	m.storage.close()
	m.cache.Stop()
}

// issuer is the CA as certmagic's issuer.
type issuer struct{ Options }

// Issue signs a leaf for all names: certmagic asks for one name a certificate, and there is one.
func (i issuer) Issue(ctx context.Context, request *x509.CertificateRequest) (
	*certmagic.IssuedCertificate, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := request.CheckSignature(); err != nil {
		return nil, fmt.Errorf("certificate request: %w", err)
	}
	chain, err := i.CA.sign(i.Names, request.PublicKey, i.Now(), i.lifetime)
	if err != nil {
		return nil, err
	}
	return &certmagic.IssuedCertificate{Certificate: chain}, nil
}

// IssuerKey differs from CA to CA, so that the leaf of another CA is not taken for one of this CA.
func (i issuer) IssuerKey() string {
	sum := sha256.Sum256(i.CA.cert.Raw)
	return "appliance-" + hex.EncodeToString(sum[:8])
}

// adoptOrIssue returns the pair in the files if it is fit, else a new one, which it writes there.
func adoptOrIssue(o Options) (keyPair, error) {
	old, cert, err := readPair(o.CertFile, o.KeyFile)
	if err == nil {
		if err = o.unfit(cert.Leaf); err == nil {
			return old, nil
		}
	}
	aside := setAside(o)
	if aside != nil && !errors.Is(aside, fs.ErrPermission) {
		return keyPair{}, aside
	}
	o.Log.Info("issuing a certificate", "file", o.CertFile, "names", o.Names, "because", err)
	var fresh keyPair
	fresh.certPEM, fresh.keyPEM, err = o.CA.issueLeaf(o.Names, o.Now(), o.lifetime)
	if err != nil {
		return keyPair{}, err
	}
	if aside != nil { // files of root, which this process cannot replace
		o.Log.Warn("the certificate found was not signed by our CA and cannot be replaced; ours is "+
			"served, and is not in that file", "file", o.CertFile, "error", aside, "hint", "to serve "+
			"your own certificate: appliance cert replace --sslCert FILE --sslKey FILE; else remove the file")
		return fresh, nil
	}
	return fresh, writePair(o, fresh)
}

// unfit returns the reason why a leaf cannot be adopted. A leaf that is due for renewal can:
// certmagic renews it at once.
func (o Options) unfit(leaf *x509.Certificate) error {
	now := o.Now()
	if now.Before(o.CA.cert.NotBefore) || o.expired() {
		now = leaf.NotBefore // this clock may be wrong, and those of the clients right
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: o.CA.Pool(), CurrentTime: now}); err != nil {
		return err
	}
	if missing := uncovered(leaf, o.Names); len(missing) > 0 {
		return fmt.Errorf("the certificate does not cover %q", missing)
	}
	// certmagic renews the first name it finds, the common name before all others.
	if names := namesOf(leaf); leaf.Subject.CommonName != "" || names[0] != o.Names[0] {
		return fmt.Errorf("the certificate's first name is not %s", o.Names[0])
	}
	return nil
}

// setAside renames a certificate that the CA did not sign, and a key that is not one of its
// certificates, also if they cannot be used: they may be the only copy. It rejects a file that has
// neither or is not regular: the configuration names it by mistake.
func setAside(o Options) error {
	leaf, certErr := readCert(o.CertFile)
	key, keyErr := readKey(o.KeyFile)
	if err := errors.Join(wrongFile(o.KeyFile, keyErr, keyKinds...),
		wrongFile(o.CertFile, certErr, "CERTIFICATE")); err != nil {
		return err
	}
	ours := certErr == nil && o.CA.Signed(leaf)
	var foreign []string // the key first, so that a certificate is not kept without its key
	if !errors.Is(keyErr, fs.ErrNotExist) && (keyErr != nil || !ours || !belongs(key, leaf)) {
		foreign = append(foreign, through(o.KeyFile))
	}
	if !errors.Is(certErr, fs.ErrNotExist) && !ours {
		foreign = append(foreign, through(o.CertFile))
	}
	for _, file := range foreign {
		kept := freeName(file + ".replaced")
		if err := os.Rename(file, kept); errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return unwritable(file, err)
		}
		o.Log.Warn("the certificate or key found was not our CA's; it is kept beside the new one",
			"kept", kept, "hint", "to serve your own certificate: appliance cert replace --sslCert FILE --sslKey FILE")
	}
	return nil
}

// wrongFile returns an error for a file that is not regular, or could not be read as one of kinds
// and does not look like it. Empty files and zeros, which a power cut leaves, are no error.
func wrongFile(file string, unread error, kinds ...string) error {
	if unread == nil || errors.Is(unread, regular.ErrRefused) {
		return unread
	}
	data, err := readFile(file)
	if err != nil || len(bytes.Trim(data, "\x00 \t\r\n")) == 0 {
		return nil
	}
	for _, begin := range pemBegin.FindAllSubmatch(data, -1) {
		if slices.Contains(kinds, string(begin[1])) {
			return nil
		}
	}
	return fault(file, "it holds no "+strings.ToLower(kinds[0])+" in PEM form, and is not replaced",
		"correct `tls:` in config.yaml if it names the wrong file; else move the file away, and a new "+
			"one is made", nil)
}

var pemBegin = regexp.MustCompile(`-----BEGIN ([A-Z0-9 ]+)-----`)

// freeName returns name, or the first of name.1, name.2, … that does not exist. It also returns the
// name of a directory, which the rename then rejects.
func freeName(name string) string {
	free := name
	for n := 1; ; n++ {
		if info, err := os.Lstat(free); err != nil || info.IsDir() {
			return free
		}
		free = fmt.Sprintf("%s.%d", name, n)
	}
}

var errClosed = errors.New("the certificate manager is closed")

// storage is certmagic's file storage with a lock in this process, which alone uses the files. A
// lock file would survive a power cut, delay the next start until it is stale, and need a goroutine
// that refreshes it.
//
// A renewal happens as a whole under the lock, so that the lock is also the way to close a manager.
type storage struct {
	*certmagic.FileStorage
	o       Options
	issuer  string        // certmagic's key of the issuer
	issuing chan struct{} // has one element while a certificate is obtained, and once closed
	ending  context.Context
	end     context.CancelFunc
	unlock  func() // of o.Shared, while Lock is held; nil: none
}

func newStorage(o Options) *storage {
	s := &storage{
		FileStorage: &certmagic.FileStorage{Path: o.StateDir},
		o:           o,
		issuer:      issuer{o}.IssuerKey(),
		issuing:     make(chan struct{}, 1),
	}
	s.ending, s.end = context.WithCancel(context.Background())
	return s
}

// take takes the lock of this process.
func (s *storage) take(ctx context.Context) error {
	select {
	case s.issuing <- struct{}{}:
		return nil
	case <-s.ending.Done():
		return errClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// TryLock is Lock without waiting, for what certmagic does in this process alone.
func (s *storage) TryLock(context.Context, string) (bool, error) {
	select {
	case s.issuing <- struct{}{}:
		return true, nil
	default:
		return false, nil
	}
}

func (s *storage) close() {
	s.end()
	s.issuing <- struct{}{}
}

// prime replaces the content of the storage by a pair. certmagic writes its three files one after
// the other, and would not start on a part of them, which a power cut leaves.
func (s *storage) prime(ctx context.Context, pair keyPair) error {
	issuerKey, name := s.issuer, s.o.Names[0]
	meta, err := json.Marshal(certmagic.CertificateResource{SANs: []string{name}})
	if err != nil {
		return fmt.Errorf("encode metadata: %w", err)
	}
	keys := certmagic.StorageKeys
	for _, item := range []struct {
		key   string
		value []byte
	}{
		{keys.SitePrivateKey(issuerKey, name), pair.keyPEM},
		{keys.SiteCert(issuerKey, name), pair.certPEM},
		{keys.SiteMeta(issuerKey, name), meta},
	} {
		if held, err := s.Load(ctx, item.key); err == nil && bytes.Equal(held, item.value) {
			continue
		}
		if err := s.FileStorage.Store(ctx, item.key, item.value); err != nil {
			return err
		}
	}
	return nil
}
