package tlsgen

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
)

// CheckOwn checks a user's own certificate and key as clients do. caFile is the CA that clients
// trust, if any. Every client rejects refused; clients that trust more CAs may accept doubtful.
func CheckOwn(certFile, keyFile, caFile string) (refused, doubtful error) {
	_, cert, err := readPair(certFile, keyFile)
	if err != nil {
		return err, nil
	}
	if err := notForServers(certFile, cert); err != nil {
		return err, nil
	}
	roots, err := rootsWith(caFile)
	if err != nil {
		return err, nil
	}
	err = incomplete(certFile, cert, roots)
	if caFile == "" {
		return nil, err
	}
	if err == nil && leadsTo(cert, roots) != nil {
		err = fault(certFile, "the certificate was not signed by the CA in "+caFile,
			"name the CA that signed it in tls.ca, or leave tls.ca empty if clients know it already", nil)
	}
	return err, nil
}

// notForServers returns an error for a certificate whose extended key usage lacks servers.
func notForServers(file string, cert *tls.Certificate) error {
	uses := cert.Leaf.ExtKeyUsage
	if len(uses) == 0 || slices.Contains(uses, x509.ExtKeyUsageServerAuth) ||
		slices.Contains(uses, x509.ExtKeyUsageAny) {
		return nil
	}
	what := "for something else than servers"
	if slices.Contains(uses, x509.ExtKeyUsageClientAuth) {
		what = "for clients only"
	}
	return fault(file, "the certificate is "+what+
		": its extended key usage lacks serverAuth, and every client refuses it",
		"ask your CA for a server certificate (extendedKeyUsage = serverAuth)", nil)
}

func rootsWith(caFile string) (*x509.CertPool, error) {
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if caFile == "" {
		return roots, nil
	}
	data, err := readFile(caFile)
	if err == nil {
		_, err = firstCert(caFile, data)
	}
	if err != nil {
		return nil, err
	}
	roots.AppendCertsFromPEM(data)
	return roots, nil
}

// leadsTo verifies a chain at the beginning of its validity: expiry is checked elsewhere.
func leadsTo(cert *tls.Certificate, roots *x509.CertPool) error {
	between := x509.NewCertPool()
	for _, c := range chainOf(cert)[1:] {
		between.AddCert(c)
	}
	_, err := cert.Leaf.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: cert.Leaf.NotBefore,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	return err
}

// incomplete returns an error for a chain that ends neither at an authority of roots nor with a
// self-signed one.
func incomplete(file string, cert *tls.Certificate, roots *x509.CertPool) error {
	if !errors.As(leadsTo(cert, roots), new(x509.UnknownAuthorityError)) {
		return nil
	}
	at := cert.Leaf
	for range cert.Certificate {
		if bytes.Equal(at.RawIssuer, at.RawSubject) {
			return nil
		}
		for _, c := range chainOf(cert) {
			if bytes.Equal(c.RawSubject, at.RawIssuer) && at.CheckSignatureFrom(c) == nil {
				at = c
				break
			}
		}
	}
	return fault(file, fmt.Sprintf("the chain is incomplete: the certificate of the issuer %q "+
		"is missing, and this host does not know it", at.Issuer),
		"if it is an intermediate certificate, append it to the file, after the server's own; "+
			"if it is the root, name its file in tls.ca", nil)
}

// chainOf parses the certificates of a file, the leaf first. It skips those that cannot be parsed.
func chainOf(cert *tls.Certificate) []*x509.Certificate {
	chain := []*x509.Certificate{cert.Leaf}
	for _, der := range cert.Certificate[1:] {
		if c, err := x509.ParseCertificate(der); err == nil {
			chain = append(chain, c)
		}
	}
	return chain
}

// byteOrderMark rejects the bytes that editors on Windows put before a text.
func byteOrderMark(file string, data []byte) error {
	switch {
	case bytes.HasPrefix(data, []byte("\xef\xbb\xbf")):
		return fault(file, "the file begins with a byte order mark (BOM), which PEM does not allow",
			`remove it: sed -i '1s/^\xEF\xBB\xBF//' `+file, nil)
	case bytes.HasPrefix(data, []byte("\xff\xfe")), bytes.HasPrefix(data, []byte("\xfe\xff")):
		return fault(file, "the file is UTF-16 text, which PEM is not",
			"write it as plain ASCII: iconv -f UTF-16 -t ASCII "+file, nil)
	}
	return nil
}
