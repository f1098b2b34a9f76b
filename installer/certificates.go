package installer

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/tlsgen"
)

// certificates are the files that the daemon lacks. Existing ones are not replaced.
type certificates struct {
	caPEM, caKey     []byte // nil: there already
	oldKey           string // where caKey has been so far; empty: nowhere else
	leafPEM, leafKey []byte // nil: there already
	foreign          bool   // the certificate that is there is not one of our CA
	renamed          bool   // it is for another hostname: the daemon has to make one
}

// certificateFile is a file of the daemon's certificates.
type certificateFile struct {
	path    string
	content []byte // nil: it exists and keeps its content
	mode    fs.FileMode
	owner   string // as a step has it
}

// wantCertificates judges the files that the configuration names, and makes those that are missing.
func (s *site) wantCertificates() {
	s.moveCAKey()
	c := s.cfg.TLS
	keyFile := c.CAKey
	if s.certs.oldKey != "" {
		keyFile = s.certs.oldKey
	}
	ca, caKey, leaf, leafKey := s.isFile(c.CA), s.isFile(keyFile), s.isFile(c.Certificate), s.isFile(c.Key)
	if c.CAKey == "" {
		s.ownCertificate(leaf, leafKey)
		return
	}
	var authority *tlsgen.CA
	var err error
	switch {
	case ca && caKey:
		authority, err = tlsgen.LoadCA(s.Host.Path(c.CA), s.Host.Path(keyFile))
	case ca != caKey && (ca || leaf || leafKey):
		s.problem(fmt.Sprintf("of the CA in %s and %s only one file is there", c.CA, c.CAKey),
			"bring the other one back from a backup, or move both away to have a new CA made, which clients must then be given")
		return
	case leaf || leafKey:
		s.problem(fmt.Sprintf("there is a certificate in %s, but the CA that signed it (%s) is gone", c.Certificate, c.CA),
			fmt.Sprintf("bring the CA back from a backup, or move %s and %s away to have everything made anew", c.Certificate, c.Key))
		return
	case validHostname(s.cfg.Hostname) != "":
		return // a problem of its own
	default:
		// An interrupted install has left a key alone: the key is written first, and has not signed yet.
		if authority, err = tlsgen.CreateCA(caName(s.cfg.Hostname), time.Now(), servedNames(s.cfg.Hostname)...); err == nil {
			s.certs.caPEM, s.certs.caKey = authority.CertPEM(), authority.KeyPEM()
		}
	}
	if err != nil {
		s.fault(fmt.Errorf("the CA cannot be used: %w", err), "move both of its files away to have a new CA made, which clients must then be given")
		return
	}
	if len(authority.Refuses(servedNames(s.cfg.Hostname))) > 0 {
		if authority, err = s.otherCA(authority); err != nil {
			s.fault(err, "put the hostname back, or "+tlsgen.NewCA(c.CA, keyFile, c.Certificate, c.Key))
			return
		}
		leaf, leafKey = leaf && s.certs.foreign, leafKey && s.certs.foreign
	}
	if time.Now().After(authority.NotAfter()) {
		s.warn(fmt.Sprintf("the CA in %s expired at %s, and clients refuse all that it has signed", c.CA, authority.NotAfter().Format(time.RFC3339)),
			"check this host's clock, or "+tlsgen.NewCA(c.CA, keyFile, c.Certificate, c.Key))
	}
	s.leaf(authority, leaf, leafKey)
}

// otherCA makes a CA for an edited hostname, for which the CA that install has made may not sign. The leaf of that one goes
// with it; the leaf of another CA stays.
func (s *site) otherCA(old *tlsgen.CA) (*tlsgen.CA, error) {
	c := s.cfg.TLS
	if !s.isMade(c.CA) {
		return nil, fmt.Errorf("the CA in %s may not sign for %s (its name constraints), and is not one that install has made", c.CA, s.cfg.Hostname)
	}
	authority, err := tlsgen.CreateCA(caName(s.cfg.Hostname), time.Now(), servedNames(s.cfg.Hostname)...)
	if err != nil {
		return nil, fmt.Errorf("make a CA for %s: %w", s.cfg.Hostname, err)
	}
	s.certs.caPEM, s.certs.caKey = authority.CertPEM(), authority.KeyPEM()
	s.certs.renamed = true
	if pair, err := s.readLeaf(); err == nil {
		s.certs.foreign = !signed(pair.Leaf, old)
	}
	s.warn(fmt.Sprintf("the CA in %s was made for another hostname and may not sign for %s: a new one replaces it", c.CA, s.cfg.Hostname),
		"give the new CA to the clients, which trust the old one")
	return authority, nil
}

// servedNames are the names of the certificate that the daemon serves.
func servedNames(hostname string) []string { return []string{hostname, "localhost"} }

// leaf issues the first certificate, or judges the existing one.
func (s *site) leaf(authority *tlsgen.CA, leaf, leafKey bool) {
	c := s.cfg.TLS
	if leaf && leafKey {
		pair, err := s.readLeaf()
		if err != nil {
			s.problem(fmt.Sprintf("%s and %s are not a certificate and its key: %v", c.Certificate, c.Key, err),
				"move both away to have new ones made")
			return
		}
		s.certs.renamed = s.certs.renamed || pair.Leaf.VerifyHostname(s.cfg.Hostname) != nil
		if s.certs.foreign = !signed(pair.Leaf, authority); s.certs.foreign {
			s.warn(fmt.Sprintf("the CA in %s has not signed %s, which is left alone and not served", c.CA, c.Certificate),
				"to serve it, empty ca, caKey and state under tls: in config.yaml; otherwise move it and its key away")
		}
		return
	}
	// An interrupted install has left one without the other.
	pem, key, err := authority.IssueLeaf(servedNames(s.cfg.Hostname), time.Now())
	if err != nil {
		if validHostname(s.cfg.Hostname) == "" { // otherwise the hostname is a problem of its own
			s.fault(fmt.Errorf("make a certificate: %w", err), "check the hostname")
		}
		return
	}
	s.certs.leafPEM, s.certs.leafKey = pem, key
}

// readLeaf reads the existing pair. Of one that is to become a pair of links it keeps the content.
func (s *site) readLeaf() (tls.Certificate, error) {
	c := s.cfg.TLS
	certificate, err := s.Host.ReadFile(c.Certificate)
	if err != nil {
		return tls.Certificate{}, err
	}
	key, err := s.Host.ReadFile(c.Key)
	if err != nil {
		return tls.Certificate{}, err
	}
	if s.linked() && !(s.isLink(c.Certificate) && s.isLink(c.Key)) {
		s.certs.leafPEM, s.certs.leafKey = certificate, key
	}
	return tls.X509KeyPair(certificate, key)
}

func (s *site) isLink(path string) bool {
	info, err := s.Host.Stat(path)
	return err == nil && info.Mode&fs.ModeSymlink != 0
}

// signed reports whether a CA has signed a certificate.
func signed(leaf *x509.Certificate, authority *tlsgen.CA) bool {
	block, _ := pem.Decode(authority.CertPEM())
	if block == nil {
		return false
	}
	ca, err := x509.ParseCertificate(block.Bytes)
	return err == nil && leaf.CheckSignatureFrom(ca) == nil
}

// linked reports whether certificate and key, which the daemon renews, lie in the daemon's directory. Their places in the
// configuration's directory, which is root's, are then links.
func (s *site) linked() bool {
	c, usual := s.cfg.TLS, config.Default(s.QuayRoot).TLS
	return !s.User && c.CAKey != "" && c.State != "" && c.Certificate == usual.Certificate && c.Key == usual.Key
}

// leafFile returns the path of a file of the pair.
func (s *site) leafFile(path string) string {
	if s.linked() {
		return filepath.Join(s.cfg.TLS.State, filepath.Base(path))
	}
	return path
}

type leafLink struct{ path, target string }

func (s *site) leafLinks() (links []leafLink) {
	if !s.linked() || s.certs.foreign {
		return nil
	}
	for _, path := range []string{s.cfg.TLS.Certificate, s.cfg.TLS.Key} {
		target := s.leafFile(path)
		if rel, err := filepath.Rel(filepath.Dir(path), target); err == nil && within(target, s.QuayRoot) {
			target = rel
		}
		links = append(links, leafLink{path, target})
	}
	return links
}

// isMade reports whether an install has made a certificate or a key: by the record or, without one, by its path.
func (s *site) isMade(path string) bool {
	if s.record != nil {
		return s.record.hasFile(path)
	}
	return slices.Contains(s.usualFiles(), path)
}

func (s *site) usualFiles() []string {
	usual := config.Default(s.QuayRoot).TLS
	return []string{usual.CA, usual.CAKey, usual.Certificate, usual.Key}
}

// ownCertificate judges the user's own files, which must exist.
func (s *site) ownCertificate(leaf, leafKey bool) {
	for _, f := range []struct {
		key, path string
		ok        bool
	}{{"tls.certificate", s.cfg.TLS.Certificate, leaf}, {"tls.key", s.cfg.TLS.Key, leafKey}} {
		if !f.ok {
			s.problem(fmt.Sprintf("%s of config.yaml is %s, which does not exist", f.key, f.path),
				"put the file there, or name a CA with tls.ca and tls.caKey to have it made")
		}
	}
	if !leaf || !leafKey {
		return
	}
	ca := s.cfg.TLS.CA
	if ca != "" {
		ca = s.Host.Path(ca)
	}
	refused, doubtful := tlsgen.CheckOwn(s.Host.Path(s.cfg.TLS.Certificate), s.Host.Path(s.cfg.TLS.Key), ca)
	if refused != nil {
		s.fault(refused, "replace the file")
	}
	if doubtful != nil {
		s.warn(doubtful.Error(), hintOf(doubtful, "complete the file"))
	}
}

// moveCAKey renames the CA's key of earlier installs: with rootCA.key beside rootCA.pem, podman, skopeo and docker take it
// for a client's and reject the directory (containers-certs.d(5)).
func (s *site) moveCAKey() {
	old, to := filepath.Join(s.QuayRoot, "quay-rootCA", "rootCA.key"), config.Default(s.QuayRoot).TLS.CAKey
	if !s.has(old) || s.text == nil && !s.has(s.cfg.TLS.CA) { // without both, it may be another's
		return
	}
	key, err := s.Host.ReadFile(old)
	if err != nil {
		return // LoadCA says why
	}
	if s.cfg.TLS.CAKey == old {
		text, cfg, ok := config.MoveCAKey(s.text, s.cfg, to)
		if !ok {
			return
		}
		s.text, s.cfg = text, cfg
	}
	if s.cfg.TLS.CAKey == to {
		s.certs.caKey, s.certs.oldKey = key, old
	}
}

// caName returns the common name of the CA, at most the 64 characters that OpenSSL and GnuTLS accept.
func caName(hostname string) string {
	const before, after, room = "Mirror appliance CA (", ")", 64
	if most := room - len(before) - len(after); len(hostname) > most {
		hostname = hostname[:most-3] + "..."
	}
	return before + hostname + after
}

// certificateFiles returns the files of an install. With the user's own certificate, that is the copy of the CA alone.
func (s *site) certificateFiles() []certificateFile {
	c := s.cfg.TLS
	if c.CAKey == "" {
		return s.caCopies()
	}
	files := []certificateFile{
		{c.CAKey, s.certs.caKey, 0o600, s.owner}, // before the certificate: see wantCertificates
		{c.CA, s.caContent(), 0o644, s.admin},
	}
	if !s.certs.foreign && (s.certs.leafPEM != nil || !s.linked()) {
		files = append(files,
			certificateFile{s.leafFile(c.Certificate), s.certs.leafPEM, 0o644, s.owner},
			certificateFile{s.leafFile(c.Key), s.certs.leafKey, 0o600, s.owner})
	}
	return append(files, s.caCopies()...)
}

// caContent returns the CA's certificate if it has to be written: also the existing one, if the service could change it.
func (s *site) caContent() []byte {
	if s.certs.caPEM != nil || s.changer == nil || !s.isMade(s.cfg.TLS.CA) {
		return s.certs.caPEM
	}
	content, err := s.Host.ReadFile(s.cfg.TLS.CA)
	if err != nil {
		return nil // said already
	}
	return content
}

// caCopies returns the CA's certificate under the names by which clients find it in a directory: *.crt for podman, skopeo and
// docker (--cert-dir {quayRoot}/quay-rootCA), the hash of its subject for OpenSSL and curl (SSL_CERT_DIR).
func (s *site) caCopies() []certificateFile {
	ca := s.cfg.TLS.CA
	if ca == "" || !within(ca, s.QuayRoot) {
		return nil
	}
	content := s.certs.caPEM
	if content == nil {
		var err error
		if content, err = s.Host.ReadFile(ca); err != nil {
			return nil // said already
		}
	}
	var names []string
	if name := strings.TrimSuffix(ca, filepath.Ext(ca)) + ".crt"; name != ca {
		names = append(names, name)
	}
	if hash, err := tlsgen.SubjectHash(content); err == nil {
		names = append(names, filepath.Join(filepath.Dir(ca), hash+".0"))
	}
	var copies []certificateFile
	for _, name := range names {
		copies = append(copies, certificateFile{name, content, 0o644, s.admin})
	}
	return copies
}
