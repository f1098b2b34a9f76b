package tlsgen

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
)

// CheckOwn looks at a certificate and key that are the user's own as clients will. caFile names what clients are given to
// trust, "" if they know the issuer already. refused is what no client accepts; doubtful may be right where clients know
// more than this host.
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
		err = &Error{File: certFile, Problem: "the certificate was not signed by the CA in " + caFile, Remedy: "name the CA that signed it in tls.ca, or leave tls.ca empty if clients know it already"}
	}
	return err, nil
}

// notForServers knows a certificate that was made for clients: it says what it is for, and that is not servers.
func notForServers(file string, cert *tls.Certificate) error {
	uses := cert.Leaf.ExtKeyUsage
	if len(uses) == 0 || slices.Contains(uses, x509.ExtKeyUsageServerAuth) || slices.Contains(uses, x509.ExtKeyUsageAny) {
		return nil
	}
	what := "for something else than servers"
	if slices.Contains(uses, x509.ExtKeyUsageClientAuth) {
		what = "for clients only"
	}
	return &Error{File: file, Problem: "the certificate is " + what + ": its extended key usage lacks serverAuth, and every client refuses it", Remedy: "ask your CA for a server certificate (extendedKeyUsage = serverAuth)"}
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
	if err != nil {
		return nil, err
	}
	if _, _, err := firstCert(caFile, data); err != nil {
		return nil, err
	}
	roots.AppendCertsFromPEM(data)
	return roots, nil
}

// leadsTo verifies a chain as of the day when it began: what has expired is told elsewhere.
func leadsTo(cert *tls.Certificate, roots *x509.CertPool) error {
	between := x509.NewCertPool()
	for _, c := range chainOf(cert)[1:] {
		between.AddCert(c)
	}
	_, err := cert.Leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: cert.Leaf.NotBefore, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	return err
}

// incomplete knows a chain that ends before an authority of roots, and not with one of its own.
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
	return &Error{
		File:    file,
		Problem: fmt.Sprintf("the chain is incomplete: the certificate of the issuer %q is missing, and this host does not know it", at.Issuer),
		Remedy:  "if it is an intermediate certificate, append it to the file, after the server's own; if it is the root, name its file in tls.ca",
	}
}

// chainOf parses what a certificate file holds, the leaf first. What cannot be parsed is left out.
func chainOf(cert *tls.Certificate) []*x509.Certificate {
	chain := []*x509.Certificate{cert.Leaf}
	for _, der := range cert.Certificate[1:] {
		if c, err := x509.ParseCertificate(der); err == nil {
			chain = append(chain, c)
		}
	}
	return chain
}

// byteOrderMark knows what editors of Windows put at the beginning of a text, and what no reader of PEM takes.
func byteOrderMark(file string, data []byte) error {
	switch {
	case bytes.HasPrefix(data, []byte("\xef\xbb\xbf")):
		return &Error{File: file, Problem: "the file begins with a byte order mark (BOM), which readers of PEM do not take", Remedy: `remove it: sed -i '1s/^\xEF\xBB\xBF//' ` + file}
	case bytes.HasPrefix(data, []byte("\xff\xfe")), bytes.HasPrefix(data, []byte("\xfe\xff")):
		return &Error{File: file, Problem: "the file is UTF-16 text, which readers of PEM do not take", Remedy: "write it as plain ASCII: iconv -f UTF-16 -t ASCII " + file}
	}
	return nil
}
