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

// certificates is what has to be written so that the daemon can serve: nothing of what exists is replaced.
type certificates struct {
	caPEM, caKey     []byte // nil: there already
	oldKey           string // where caKey has been so far; empty: nowhere else
	leafPEM, leafKey []byte // nil: there already
}

// certificateFile is a file of the daemon's certificates.
type certificateFile struct {
	path    string
	content []byte // nil: it exists and keeps its content
	mode    fs.FileMode
	owner   string // as a step has it
}

// resolveCertificates looks at the files that the configuration names, and makes what is missing.
func (t *target) resolveCertificates() {
	t.moveCAKey()
	c := t.cfg.TLS
	keyFile := c.CAKey
	if t.certs.oldKey != "" {
		keyFile = t.certs.oldKey
	}
	ca, caKey, leaf, leafKey := t.isFile(c.CA), t.isFile(keyFile), t.isFile(c.Certificate), t.isFile(c.Key)
	if c.CAKey == "" {
		t.ownCertificate(leaf, leafKey)
		return
	}
	var authority *tlsgen.CA
	var err error
	switch {
	case ca && caKey:
		authority, err = tlsgen.LoadCA(t.Host.Path(c.CA), t.Host.Path(keyFile))
	case ca != caKey && (ca || leaf || leafKey):
		t.problem(fmt.Sprintf("of the CA in %s and %s only one file is there", c.CA, c.CAKey),
			"bring the other one back from a backup, or move both away to have a new CA made, which clients must then be given")
		return
	case leaf || leafKey:
		t.problem(fmt.Sprintf("there is a certificate in %s, but the CA that signed it (%s) is gone", c.Certificate, c.CA),
			fmt.Sprintf("bring the CA back from a backup, or move %s and %s away to have everything made anew", c.Certificate, c.Key))
		return
	case validHostname(t.cfg.Hostname) != "":
		return // a problem of its own
	default:
		// A key alone is what an interrupted install left: the key is written first, and nothing signed yet.
		if authority, err = tlsgen.CreateCA(caName(t.cfg.Hostname), time.Now(), servedNames(t.cfg.Hostname)...); err == nil {
			t.certs.caPEM, t.certs.caKey = authority.CertPEM(), authority.KeyPEM()
		}
	}
	if err != nil {
		t.fault(fmt.Errorf("the CA cannot be used: %w", err), "move both of its files away to have a new CA made, which clients must then be given")
		return
	}
	if len(authority.Refuses(servedNames(t.cfg.Hostname))) > 0 {
		if authority, err = t.otherCA(authority); err != nil {
			t.fault(err, "put the hostname back, or "+tlsgen.NewCA(c.CA, keyFile, c.Certificate, c.Key))
			return
		}
		leaf, leafKey = leaf && t.foreign, leafKey && t.foreign
	}
	if time.Now().After(authority.NotAfter()) {
		t.problems = append(t.problems, Problem{
			What:    fmt.Sprintf("the CA in %s expired at %s, and clients refuse all that it has signed", c.CA, authority.NotAfter().Format(time.RFC3339)),
			Remedy:  "check this host's clock, or " + tlsgen.NewCA(c.CA, keyFile, c.Certificate, c.Key),
			Warning: true,
		})
	}
	t.leaf(authority, leaf, leafKey)
}

// otherCA makes a CA for a hostname that was edited, and for which the one that install has made may not sign. Its leaf
// goes with it; one of another CA stays.
func (t *target) otherCA(old *tlsgen.CA) (*tlsgen.CA, error) {
	c := t.cfg.TLS
	if !t.made(c.CA) {
		return nil, fmt.Errorf("the CA in %s may not sign for %s (its name constraints), and is not one that install has made", c.CA, t.cfg.Hostname)
	}
	authority, err := tlsgen.CreateCA(caName(t.cfg.Hostname), time.Now(), servedNames(t.cfg.Hostname)...)
	if err != nil {
		return nil, fmt.Errorf("make a CA for %s: %w", t.cfg.Hostname, err)
	}
	t.certs.caPEM, t.certs.caKey = authority.CertPEM(), authority.KeyPEM()
	t.renamed = true
	if pair, err := t.readLeaf(); err == nil {
		t.foreign = !signed(pair.Leaf, old)
	}
	t.problems = append(t.problems, Problem{
		What:    fmt.Sprintf("the CA in %s was made for another hostname and may not sign for %s: a new one replaces it", c.CA, t.cfg.Hostname),
		Remedy:  "give the new CA to the clients, which trust the old one",
		Warning: true,
	})
	return authority, nil
}

// servedNames are those of the certificate that the daemon serves.
func servedNames(hostname string) []string { return []string{hostname, "localhost"} }

// leaf has the first certificate issued, and judges the one that is there.
func (t *target) leaf(authority *tlsgen.CA, leaf, leafKey bool) {
	c := t.cfg.TLS
	if leaf && leafKey {
		pair, err := t.readLeaf()
		if err != nil {
			t.problem(fmt.Sprintf("%s and %s are no certificate and its key: %v", c.Certificate, c.Key, err),
				"move both away to have new ones made")
			return
		}
		t.renamed = t.renamed || pair.Leaf.VerifyHostname(t.cfg.Hostname) != nil
		if t.foreign = !signed(pair.Leaf, authority); t.foreign {
			t.problems = append(t.problems, Problem{
				What:    fmt.Sprintf("the CA in %s has not signed %s, which is left alone and not served", c.CA, c.Certificate),
				Remedy:  "to serve it, empty ca, caKey and state under tls: in config.yaml; otherwise move it and its key away",
				Warning: true,
			})
		}
		return
	}
	// One without the other is what an interrupted install left.
	pem, key, err := authority.IssueLeaf(servedNames(t.cfg.Hostname), time.Now())
	if err != nil {
		if validHostname(t.cfg.Hostname) == "" { // otherwise the hostname is a problem of its own
			t.fault(fmt.Errorf("make a certificate: %w", err), "check the hostname")
		}
		return
	}
	t.certs.leafPEM, t.certs.leafKey = pem, key
}

// readLeaf reads the pair that is there. Of one that is to become a pair of links it keeps the content.
func (t *target) readLeaf() (tls.Certificate, error) {
	c := t.cfg.TLS
	certificate, err := t.Host.ReadFile(c.Certificate)
	if err != nil {
		return tls.Certificate{}, err
	}
	key, err := t.Host.ReadFile(c.Key)
	if err != nil {
		return tls.Certificate{}, err
	}
	if t.linked() && !(t.isLink(c.Certificate) && t.isLink(c.Key)) {
		t.certs.leafPEM, t.certs.leafKey = certificate, key
	}
	return tls.X509KeyPair(certificate, key)
}

func (t *target) isLink(path string) bool {
	info, err := t.Host.Stat(path)
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

// linked says that certificate and key, which the daemon renews, lie in its own directory, and that their places in the
// configuration's directory, which is root's, are links.
func (t *target) linked() bool {
	c, usual := t.cfg.TLS, config.Default(t.QuayRoot).TLS
	return !t.User && c.CAKey != "" && c.State != "" && c.Certificate == usual.Certificate && c.Key == usual.Key
}

// leafFile is where a file of the pair lies.
func (t *target) leafFile(path string) string {
	if t.linked() {
		return filepath.Join(t.cfg.TLS.State, filepath.Base(path))
	}
	return path
}

type leafLink struct{ path, target string }

func (t *target) leafLinks() (links []leafLink) {
	if !t.linked() || t.foreign {
		return nil
	}
	for _, path := range []string{t.cfg.TLS.Certificate, t.cfg.TLS.Key} {
		target := t.leafFile(path)
		if rel, err := filepath.Rel(filepath.Dir(path), target); err == nil && within(target, t.QuayRoot) {
			target = rel
		}
		links = append(links, leafLink{path, target})
	}
	return links
}

// made reports whether an install has made a certificate or a key: by the record or, of an install before there was such
// a list, if it is where an install makes it.
func (t *target) made(path string) bool {
	if t.record != nil && t.record.Files != nil {
		return slices.Contains(t.record.Files, path)
	}
	usual := config.Default(t.QuayRoot).TLS
	return slices.Contains([]string{usual.CA, usual.CAKey, usual.Certificate, usual.Key}, path)
}

// ownCertificate is for a configuration that names the user's own files: they must be there.
func (t *target) ownCertificate(leaf, leafKey bool) {
	for _, f := range []struct {
		key, path string
		ok        bool
	}{{"tls.certificate", t.cfg.TLS.Certificate, leaf}, {"tls.key", t.cfg.TLS.Key, leafKey}} {
		if !f.ok {
			t.problem(fmt.Sprintf("%s of config.yaml is %s, which does not exist", f.key, f.path),
				"put the file there, or name a CA with tls.ca and tls.caKey to have it made")
		}
	}
	if !leaf || !leafKey {
		return
	}
	ca := t.cfg.TLS.CA
	if ca != "" {
		ca = t.Host.Path(ca)
	}
	refused, doubtful := tlsgen.CheckOwn(t.Host.Path(t.cfg.TLS.Certificate), t.Host.Path(t.cfg.TLS.Key), ca)
	if refused != nil {
		t.fault(refused, "replace the file")
	}
	if doubtful != nil {
		t.problems = append(t.problems, Problem{What: doubtful.Error(), Remedy: hintOf(doubtful, "complete the file"), Warning: true})
	}
}

// moveCAKey gives the CA's key a name that podman, skopeo and docker do not take for a client's: with rootCA.key beside
// rootCA.pem, as installs before had it, they refuse the directory (containers-certs.d(5)).
func (t *target) moveCAKey() {
	old, to := filepath.Join(t.QuayRoot, "quay-rootCA", "rootCA.key"), config.Default(t.QuayRoot).TLS.CAKey
	if !t.has(old) || t.text == nil && !t.has(t.cfg.TLS.CA) { // without both, nothing tells that it is an install's
		return
	}
	key, err := t.Host.ReadFile(old)
	if err != nil {
		return // LoadCA says why
	}
	if t.cfg.TLS.CAKey == old {
		text, cfg, ok := config.MoveCAKey(t.text, t.cfg, to)
		if !ok {
			return
		}
		t.text, t.cfg = text, cfg
	}
	if t.cfg.TLS.CAKey == to {
		t.certs.caKey, t.certs.oldKey = key, old
	}
}

func (t *target) has(path string) bool {
	if path == "" {
		return false
	}
	_, err := t.Host.StatTarget(path)
	return err == nil
}

// isFile is has for what will be opened by its name: opening a pipe would wait for ever.
func (t *target) isFile(path string) bool {
	info, err := t.Host.StatTarget(path)
	return path != "" && err == nil && info.Mode.IsRegular()
}

// caName is the common name of the CA. X.509 has room for 64 characters, and OpenSSL and GnuTLS insist on that.
func caName(hostname string) string {
	const before, after, room = "Mirror appliance CA (", ")", 64
	if most := room - len(before) - len(after); len(hostname) > most {
		hostname = hostname[:most-3] + "..."
	}
	return before + hostname + after
}

// certificateFiles are those that are ours to write or to own: with the user's own certificate, none but the CA's copy.
func (t *target) certificateFiles() []certificateFile {
	c := t.cfg.TLS
	if c.CAKey == "" {
		return t.caCopies()
	}
	files := []certificateFile{
		{c.CAKey, t.certs.caKey, 0o600, t.owner}, // before the certificate: see resolveCertificates
		{c.CA, t.caContent(), 0o644, t.admin},
	}
	if !t.foreign && (t.certs.leafPEM != nil || !t.linked()) {
		files = append(files,
			certificateFile{t.leafFile(c.Certificate), t.certs.leafPEM, 0o644, t.owner},
			certificateFile{t.leafFile(c.Key), t.certs.leafKey, 0o600, t.owner})
	}
	return append(files, t.caCopies()...)
}

// caContent is what the CA's certificate is written with: also the one that is there, if the service could change it.
func (t *target) caContent() []byte {
	if t.certs.caPEM != nil || t.changer == nil || !t.made(t.cfg.TLS.CA) {
		return t.certs.caPEM
	}
	content, err := t.Host.ReadFile(t.cfg.TLS.CA)
	if err != nil {
		return nil // said already
	}
	return content
}

// caCopies are the CA's certificate under the names that clients look for in a directory of certificates: *.crt is for
// podman, skopeo and docker (--cert-dir {quayRoot}/quay-rootCA), the hash of its subject for OpenSSL and what is made
// with it, such as curl (SSL_CERT_DIR, which Go's programs read whole).
func (t *target) caCopies() []certificateFile {
	ca := t.cfg.TLS.CA
	if ca == "" || !within(ca, t.QuayRoot) {
		return nil
	}
	content := t.certs.caPEM
	if content == nil {
		var err error
		if content, err = t.Host.ReadFile(ca); err != nil {
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
		copies = append(copies, certificateFile{name, content, 0o644, t.admin})
	}
	return copies
}
