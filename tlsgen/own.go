package tlsgen

import (
	"crypto/tls"
	"fmt"
	"strings"
	"time"
)

// Own is a user's own certificate chain and key, as ReadOwn has judged them.
type Own struct {
	CertPEM, KeyPEM []byte // the chain in the order in which it is served

	file string
	cert *tls.Certificate
}

// ReadOwn reads a user's own certificate and key. It rejects those that no client accepts from any
// server: without a key that belongs to it, with a passphrase, for clients only. Errors carry a
// hint.
func ReadOwn(certFile, keyFile string) (*Own, error) {
	pair, cert, err := readPair(certFile, keyFile)
	if err != nil {
		return nil, err
	}
	if err := notForServers(certFile, cert); err != nil {
		return nil, err
	}
	return &Own{CertPEM: pair.certPEM, KeyPEM: pair.keyPEM, file: certFile, cert: cert}, nil
}

// OwnFile returns the file that has the user's own certificate: certFile or, where that does not go
// with the key, the file beside it by the other of the two names that people use, ssl.cert and
// ssl.crt.
func OwnFile(certFile, keyFile string) string {
	other, isCert := strings.CutSuffix(certFile, ".cert")
	if isCert {
		other += ".crt"
	} else if other, isCert = strings.CutSuffix(certFile, ".crt"); isCert {
		other += ".cert"
	} else {
		return certFile
	}
	if _, _, err := readPair(certFile, keyFile); err == nil {
		return certFile
	}
	if _, _, err := readPair(other, keyFile); err == nil {
		return other
	}
	return certFile
}

// CheckTime returns an error for a certificate that has expired or is not valid yet.
func (o *Own) CheckTime(now time.Time) error {
	switch leaf := o.cert.Leaf; {
	case now.After(leaf.NotAfter):
		return fault(o.file, "the certificate expired at "+leaf.NotAfter.Format(time.RFC3339),
			"get a new one from the CA that made it; check this host's clock as well", nil)
	case now.Before(leaf.NotBefore):
		return fault(o.file, "the certificate is valid from "+leaf.NotBefore.Format(time.RFC3339)+" only",
			"check this host's clock, or wait until then", nil)
	}
	return nil
}

// CheckName returns an error for a certificate that clients reject by its names.
func (o *Own) CheckName(hostname string) error {
	if len(uncovered(o.cert.Leaf, []string{hostname})) == 0 {
		return nil
	}
	names := strings.Join(namesOf(o.cert.Leaf), ", ")
	if names == "" {
		names = fmt.Sprintf("no host name (subject %q has no alternative names, and clients read nothing "+
			"else)", o.cert.Leaf.Subject)
	}
	return fault(o.file, fmt.Sprintf("the certificate is not for %s: it is for %s", hostname, names),
		"get a certificate with this name among its alternative names (SAN), install with a "+
			"--quayHostname that it has, or skip this check with --sslCheckSkip", nil)
}

// CheckChain verifies the chain as clients do that trust caFile, or the authorities of this host if
// there is none. Every client rejects refused; clients that trust more CAs may accept doubtful.
func (o *Own) CheckChain(caFile string) (refused, doubtful error) {
	roots, err := rootsWith(caFile)
	if err != nil {
		return err, nil
	}
	err = incomplete(o.file, o.cert, roots)
	if caFile == "" {
		return nil, err
	}
	if err == nil && leadsTo(o.cert, roots) != nil {
		err = fault(o.file, "the certificate was not signed by the CA in "+caFile,
			"name the CA that signed it in tls.ca, or leave tls.ca empty if clients know it already", nil)
	}
	return err, nil
}

// CheckKnown returns an error for a certificate that the authorities of this host have not signed.
func (o *Own) CheckKnown() error {
	roots, err := rootsWith("")
	if err == nil && leadsTo(o.cert, roots) != nil {
		err = fault(o.file, fmt.Sprintf("this host does not know the issuer of the certificate, %q",
			o.cert.Leaf.Issuer), "clients that do not know it either need its certificate: name its file "+
			"in tls.ca of config.yaml, which serves it at /ca.crt and gives it to clusters", nil)
	}
	return err
}
