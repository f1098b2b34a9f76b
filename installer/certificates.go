package installer

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/mirror-appliance/appliance/ansible-free/host"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/tlsgen"
)

// certFiles is what the certificates' files have that the configuration names.
type certFiles struct {
	ca, caKey, leaf, leafKey bool // the file exists

	keyFile   string // the CA's key, where it has been so far
	oldKey    []byte // its content, where earlier installs put it; nil: it is in its place
	caPEM     []byte
	authority *tlsgen.CA
	caErr     error
	pair      tls.Certificate
	pairErr   error
	pairPEM   [2][]byte // certificate and key, where one of the two is not a link

	refused, doubtful error // of the user's own certificate, see tlsgen.Own
}

// lookAtCertificates reads the files that the configuration names.
func (s *site) lookAtCertificates() {
	if s.given != nil {
		return
	}
	c, f := s.cfg.TLS, &s.files
	f.keyFile = c.CAKey
	s.lookAtOldKey()
	f.ca, f.caKey = s.isFile(c.CA), s.isFile(f.keyFile)
	f.leaf, f.leafKey = s.isFile(c.Certificate), s.isFile(c.Key)
	if f.ca {
		f.caPEM, f.caErr = s.Host.ReadFile(c.CA)
	}
	if f.ca && f.caKey && f.caErr == nil {
		f.authority, f.caErr = tlsgen.LoadCA(s.Host.Path(c.CA), s.Host.Path(f.keyFile))
	}
	if c.CAKey == "" {
		info, err := os.Stat(s.ownFile())
		f.leaf = err == nil && info.Mode().IsRegular()
	}
	if !f.leaf || !f.leafKey {
		return
	}
	if c.CAKey == "" {
		ca := c.CA
		if ca != "" {
			ca = s.Host.Path(ca)
		}
		own, err := tlsgen.ReadOwn(s.ownFile(), s.Host.Path(c.Key))
		if f.refused = err; err == nil {
			f.refused, f.doubtful = own.CheckChain(ca)
		}
		return
	}
	certificate, err := s.Host.ReadFile(c.Certificate)
	key, kerr := s.Host.ReadFile(c.Key)
	if f.pairErr = cmp.Or(err, kerr); f.pairErr == nil {
		f.pair, f.pairErr = tls.X509KeyPair(certificate, key)
	}
	if !s.isLink(c.Certificate) || !s.isLink(c.Key) {
		f.pairPEM = [2][]byte{certificate, key}
	}
}

// lookAtOldKey looks for the CA's key of earlier installs, rootCA.key, for which podman, skopeo and
// docker reject the directory (containers-certs.d(5)).
func (s *site) lookAtOldKey() {
	old, c := filepath.Join(s.caDir(), "rootCA.key"), s.cfg.TLS
	if !s.has(old) || !s.kept && !s.has(c.CA) { // without both, it may be another's
		return
	}
	if c.CAKey != old && c.CAKey != s.usual().CAKey {
		return
	}
	if key, err := s.Host.ReadFile(old); err == nil { // otherwise LoadCA has the reason
		s.files.oldKey, s.files.keyFile = key, old
	}
}

func (s *site) isLink(path string) bool {
	info, err := s.Host.Stat(path)
	return err == nil && info.Mode&fs.ModeSymlink != 0
}

// usual is where an install puts certificates.
func (s *site) usual() config.TLS { return config.Default(s.QuayRoot).TLS }

// certificates are the files that the daemon lacks. Existing ones are not replaced.
type certificates struct {
	caPEM, caKey     []byte // nil: there already
	oldKey           string // where caKey has been so far; empty: nowhere else
	leafPEM, leafKey []byte // nil: there already
	foreign          bool   // the certificate that is there is not one of our CA
	renamed          bool   // it is for another hostname: the daemon has to make one
	nextKey          []byte // of the CA that is to replace this one; nil: it stays as it is
	dropNext         bool   // its key is to go, once the daemon has what it needs
}

// wantCertificates judges the files that the configuration names, and makes those that are missing.
func (s *site) wantCertificates() {
	if s.given != nil {
		return
	}
	s.moveCAKey()
	c, f := s.cfg.TLS, s.files
	if c.CAKey == "" {
		s.ownCertificate()
		return
	}
	authority, err := f.authority, f.caErr
	switch {
	case f.ca && f.caKey:
	case f.ca != f.caKey && (f.ca || f.leaf || f.leafKey):
		s.problem(fmt.Sprintf("of the CA in %s and %s only one file is there", c.CA, c.CAKey),
			"bring the other one back from a backup, or move both away to have a new CA made, which "+
				"clients must then be given")
		return
	case f.leaf || f.leafKey:
		s.problem(fmt.Sprintf("there is a certificate in %s, but the CA that signed it (%s) is gone",
			c.Certificate, c.CA), fmt.Sprintf("bring the CA back from a backup, or move %s and %s away to "+
			"have everything made anew", c.Certificate, c.Key))
		return
	case invalidHostname(s.cfg.Hostname) != "":
		return // a problem of its own
	default:
		// An interrupted install has left a key alone: the key is written first, and
		// has not signed yet.
		if authority, err = s.wantTheirCA(); authority == nil && err == nil {
			authority, err = s.newCA()
		}
	}
	if err != nil {
		s.fault(fmt.Errorf("the CA cannot be used: %w", err),
			"move both of its files away to have a new CA made, which clients must then be given")
		return
	}
	if len(authority.Refuses(servedNames(s.cfg.Hostname))) > 0 {
		if authority, err = s.otherCA(); err != nil {
			s.fault(err, "put the hostname back, or "+tlsgen.NewCA(c.CA, f.keyFile, c.Certificate, c.Key))
			return
		}
	}
	s.checkBegun("the CA", c.CA, authority.NotBefore(), tlsgen.NewCA(c.CA, f.keyFile, c.Certificate, c.Key))
	if s.now.After(authority.NotAfter()) {
		s.warn(fmt.Sprintf("the CA in %s expired at %s, and clients refuse all that it has signed",
			c.CA, authority.NotAfter().Format(time.RFC3339)),
			"check this host's clock, or "+tlsgen.NewCA(c.CA, f.keyFile, c.Certificate, c.Key))
	}
	s.wantLeaf(authority)
}

func (s *site) createCA() (*tlsgen.CA, error) {
	return tlsgen.CreateCA(tlsgen.CAName(s.cfg.Hostname), s.now, servedNames(s.cfg.Hostname)...)
}

func (s *site) newCA() (*tlsgen.CA, error) {
	authority, err := s.createCA()
	if err == nil {
		s.certs.caPEM, s.certs.caKey = authority.CertPEM(), authority.KeyPEM()
	}
	return authority, err
}

// otherCA makes a CA for an edited hostname, for which the CA that install has made may not sign.
// The leaf of that one goes with it; the leaf of another CA stays.
func (s *site) otherCA() (*tlsgen.CA, error) {
	ca := s.cfg.TLS.CA
	if !s.isMade(ca) {
		return nil, fmt.Errorf("the CA in %s may not sign for %s (its name constraints), and is not one "+
			"that install has made", ca, s.cfg.Hostname)
	}
	authority, err := s.newCA()
	if err != nil {
		return nil, fmt.Errorf("make a CA for %s: %w", s.cfg.Hostname, err)
	}
	s.certs.renamed = true
	s.warn(fmt.Sprintf("the CA in %s was made for another hostname and may not sign for %s: a new "+
		"one replaces it", ca, s.cfg.Hostname), "give the new CA to the clients, which trust the old one")
	return authority, nil
}

// servedNames are the names of the certificate that the daemon serves.
func servedNames(hostname string) []string { return []string{hostname, "localhost"} }

// wantLeaf judges the existing certificate, or issues the first one.
func (s *site) wantLeaf(authority *tlsgen.CA) {
	c, f := s.cfg.TLS, s.files
	there, replaced := f.leaf && f.leafKey, authority != f.authority
	switch {
	case there && f.pairErr == nil:
		s.certs.foreign = !f.authority.Signed(f.pair.Leaf)
		if s.certs.foreign || !replaced {
			s.keepLeaf()
			return
		}
	case there && !replaced:
		s.problem(fmt.Sprintf("%s and %s are not a certificate and its key: %v",
			c.Certificate, c.Key, f.pairErr), "move both away to have new ones made")
		return
	}
	if s.certs.leafPEM != nil { // the mirror-registry's
		return
	}
	// An interrupted install has left one without the other.
	pem, key, err := authority.IssueLeaf(servedNames(s.cfg.Hostname), s.now)
	if err != nil {
		if invalidHostname(s.cfg.Hostname) == "" { // otherwise the hostname is a problem of its own
			s.fault(fmt.Errorf("make a certificate: %w", err), "check the hostname")
		}
		return
	}
	s.certs.leafPEM, s.certs.leafKey = pem, key
}

// checkBegun checks that a certificate that exists is valid by now. One that is not was made while the
// clock was ahead, or the clock has gone back.
func (s *site) checkBegun(what, file string, since time.Time, otherwise string) {
	if s.now.Before(since) {
		s.problem(fmt.Sprintf("%s in %s is valid from %s only, and clients refuse it", what, file,
			since.UTC().Format(time.RFC3339)), "check this host's clock: timedatectl; if it is right now and was "+
			"ahead then: "+otherwise)
	}
}

// keepLeaf keeps the content of a pair, also of one that is to become a pair of links.
func (s *site) keepLeaf() {
	if s.linked() {
		s.certs.leafPEM, s.certs.leafKey = s.files.pairPEM[0], s.files.pairPEM[1]
	}
	leaf := s.files.pair.Leaf
	s.checkBegun("the certificate", s.cfg.TLS.Certificate, leaf.NotBefore, "appliance cert renew")
	s.certs.renamed = s.certs.renamed || leaf.VerifyHostname(s.cfg.Hostname) != nil
	if s.certs.foreign {
		s.warn(fmt.Sprintf("the CA in %s has not signed %s, which is left alone and not served",
			s.cfg.TLS.CA, s.cfg.TLS.Certificate), "to serve it: appliance cert replace --sslCert FILE --sslKey FILE; "+
			"otherwise move it and its key away")
	}
}

// linked reports whether certificate and key, which the daemon renews, lie in the daemon's
// directory. Their places in the configuration's directory, which is root's, are then links.
func (s *site) linked() bool {
	c, usual := s.cfg.TLS, s.usual()
	return !s.User && c.CAKey != "" && c.State != "" &&
		c.Certificate == usual.Certificate && c.Key == usual.Key
}

// leafFile returns the path of a file of the pair.
func (s *site) leafFile(path string) string {
	if s.linked() {
		return filepath.Join(s.cfg.TLS.State, filepath.Base(path))
	}
	return path
}

// isMade reports whether an install has made a certificate or a key: by the record or, without one,
// by its path.
func (s *site) isMade(path string) bool {
	if s.record != nil {
		return s.record.hasFile(path)
	}
	return slices.Contains(s.usualFiles(), path)
}

func (s *site) usualFiles() []string {
	usual := s.usual()
	return []string{usual.CA, usual.CAKey, usual.Certificate, usual.Key}
}

// ownCertificate judges the user's own files, which must exist.
func (s *site) ownCertificate() {
	c := s.cfg.TLS
	for _, f := range []struct {
		key, path string
		ok        bool
	}{{"tls.certificate", c.Certificate, s.files.leaf}, {"tls.key", c.Key, s.files.leafKey}} {
		if !f.ok {
			s.problem(fmt.Sprintf("%s of config.yaml is %s, which does not exist", f.key, f.path),
				"put the file there, or name a CA with tls.ca and tls.caKey to have it made")
		}
	}
	s.warnOfUnread()
	if s.files.refused != nil {
		s.fault(s.files.refused, "replace the file")
	}
	if s.files.doubtful != nil {
		s.warn(s.files.doubtful.Error(), cmp.Or(hint.Of(s.files.doubtful), "complete the file"))
	}
}

// moveCAKey renames the CA's key of an earlier install, in the configuration, too.
func (s *site) moveCAKey() {
	if s.files.oldKey == nil {
		return
	}
	to := s.usual().CAKey
	if s.cfg.TLS.CAKey != to {
		moved := s.cfg.TLS
		moved.CAKey = to
		text, cfg, ok := config.SetTLS(s.text, s.cfg, moved)
		if !ok {
			return
		}
		s.text, s.cfg = text, cfg
	}
	s.certs.caKey, s.certs.oldKey = s.files.oldKey, s.files.keyFile
}

// certificateSteps write the certificates. A file that exists keeps its content. With the user's
// own certificate, they write the copies of the CA alone.
func (s *site) certificateSteps() (steps []host.Step) {
	if s.given != nil {
		return s.givenSteps()
	}
	c := s.cfg.TLS
	file := func(path string, content []byte, mode fs.FileMode, owner string) {
		if content != nil || s.isMade(path) {
			steps = append(steps, &host.File{Host: s.Host, Path: path, Content: content,
				AnyContent: content == nil, Mode: mode, Owner: owner})
		}
	}
	ca := s.certs.caPEM
	if ca == nil {
		ca = s.files.caPEM
	}
	if s.certs.nextKey != nil {
		steps = append(steps, s.rootFile(s.nextKey(), s.certs.nextKey, 0o600))
	}
	if c.CAKey != "" {
		file(c.CAKey, s.certs.caKey, 0o600, s.owner) // before the certificate: see wantCertificates
		written := s.certs.caPEM
		if s.changer != nil && s.isMade(c.CA) { // the service could change it
			written = ca
		}
		file(c.CA, written, 0o644, s.admin)
		if !s.certs.foreign && (s.certs.leafPEM != nil || !s.linked()) {
			file(s.leafFile(c.Certificate), s.certs.leafPEM, 0o644, s.owner)
			file(s.leafFile(c.Key), s.certs.leafKey, 0o600, s.owner)
		}
	}
	for _, path := range s.caCopies(ca) {
		file(path, ca, 0o644, s.admin)
	}
	return steps
}

// caCopies returns the names of the copies of the CA, see tlsgen.CACopies.
func (s *site) caCopies(pem []byte) []string {
	ca := s.cfg.TLS.CA
	if ca == "" || pem == nil || !within(ca, s.QuayRoot) {
		return nil
	}
	return tlsgen.CACopies(ca, pem)
}

// leafLinks lead from the configuration's directory to the pair that the daemon renews.
func (s *site) leafLinks() (steps []host.Step) {
	if !s.linked() || s.certs.foreign {
		return nil
	}
	for _, path := range []string{s.cfg.TLS.Certificate, s.cfg.TLS.Key} {
		target := s.leafFile(path)
		rel, err := filepath.Rel(filepath.Dir(path), target)
		if err == nil && within(target, s.QuayRoot) {
			target = rel
		}
		steps = append(steps, &host.Link{Host: s.Host, Path: path, Target: target})
	}
	return steps
}
