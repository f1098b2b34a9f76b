package tlsgen

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
)

// leafFirst returns the certificates of a file in the order of a handshake: the one that a key
// belongs to, what signed it, and so on, then the others. Many CAs hand out a file that begins with
// the root. A file without the key's certificate, or in order already, is returned as it is.
func leafFirst(data []byte, key crypto.Signer) []byte {
	var before, blocks []*pem.Block
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			before = append(before, block)
		}
	}
	left := slices.Clone(before)
	take := func(fits func(*x509.Certificate) bool) *x509.Certificate {
		for i, block := range left {
			if c, err := x509.ParseCertificate(block.Bytes); err == nil && fits(c) {
				blocks, left = append(blocks, block), slices.Delete(left, i, i+1)
				return c
			}
		}
		return nil
	}
	// The key of a CA is not the server's, unless the CA is the server's certificate as well.
	at := take(func(c *x509.Certificate) bool {
		return belongs(key, c) && (!c.IsCA || bytes.Equal(c.Raw, before[0].Bytes))
	})
	if at == nil {
		return data
	}
	for at != nil {
		signed := at
		at = take(func(c *x509.Certificate) bool {
			return bytes.Equal(c.RawSubject, signed.RawIssuer) && signed.CheckSignatureFrom(c) == nil
		})
	}
	if blocks = append(blocks, left...); slices.Equal(blocks, before) {
		return data
	}
	var ordered []byte
	for _, block := range blocks {
		ordered = append(ordered, encodeCert(block.Bytes)...)
	}
	return ordered
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
