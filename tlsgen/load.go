package tlsgen

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/mirror-appliance/appliance/internal/regular"
)

// LoadCA reads an authority and checks that it can do its work: the certificate is one of a CA, and the
// key belongs to it. One that has expired, or is not valid yet, is loaded: the clock may be wrong, and a registry whose
// certificate some clients refuse is better than none. Its errors name the file and carry a hint.
func LoadCA(certFile, keyFile string) (*CA, error) {
	cert, certPEM, err := readCert(certFile)
	if err != nil {
		return nil, err
	}
	if !cert.BasicConstraintsValid || !cert.IsCA || cert.KeyUsage != 0 && cert.KeyUsage&x509.KeyUsageCertSign == 0 {
		return nil, &Error{File: certFile, Problem: "the certificate is not one of a certificate authority", Remedy: "give the CA's own certificate, not one that it signed"}
	}
	key, keyPEM, err := readKey(keyFile)
	if err != nil {
		return nil, err
	}
	if !belongs(key, cert) {
		return nil, &Error{File: keyFile, Problem: "the key does not belong to the certificate in " + certFile, Remedy: "put back the key that was made together with the CA's certificate"}
	}
	return &CA{cert: cert, key: key, certPEM: certPEM, keyPEM: keyPEM}, nil
}

// belongs reports whether a key is the one that a certificate was made for.
func belongs(key crypto.Signer, cert *x509.Certificate) bool {
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(cert.PublicKey)
}

// Info is what a certificate says of itself.
type Info struct {
	Names     []string // DNS names and addresses
	Subject   string
	Issuer    string
	NotBefore time.Time
	NotAfter  time.Time
	IsCA      bool
}

// Inspect reads the first certificate of a PEM file.
func Inspect(certFile string) (Info, error) {
	cert, _, err := readCert(certFile)
	if err != nil {
		return Info{}, err
	}
	return Info{
		Names: namesOf(cert), Subject: cert.Subject.String(), Issuer: cert.Issuer.String(),
		NotBefore: cert.NotBefore, NotAfter: cert.NotAfter, IsCA: cert.IsCA,
	}, nil
}

func readCert(file string) (*x509.Certificate, []byte, error) {
	data, err := readFile(file)
	if err != nil {
		return nil, nil, err
	}
	return firstCert(file, data)
}

// firstCert gives the first certificate in data, parsed and as PEM without anything around it.
func firstCert(file string, data []byte) (*x509.Certificate, []byte, error) {
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, nil, &Error{File: file, Problem: "the certificate cannot be read", Remedy: "look at it with: openssl x509 -noout -text -in " + file, Err: err}
		}
		return cert, encodeCert(block.Bytes), nil
	}
	return nil, nil, &Error{File: file, Problem: "no certificate in PEM form", Remedy: "the file must hold a block that begins with -----BEGIN CERTIFICATE-----"}
}

func readKey(file string) (crypto.Signer, []byte, error) {
	data, err := readFile(file)
	if err != nil {
		return nil, nil, err
	}
	return firstKey(file, data)
}

// firstKey gives the private key in data, which may have any of the forms that openssl writes without a passphrase.
func firstKey(file string, data []byte) (crypto.Signer, []byte, error) {
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "ENCRYPTED PRIVATE KEY" || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED") {
			return nil, nil, &Error{File: file, Problem: "the key is protected by a passphrase, which a service cannot type", Remedy: "write it without one: openssl pkey -in " + file + " -out NEW"}
		}
		key, err := parseKey(block)
		if err != nil {
			return nil, nil, &Error{File: file, Problem: "the private key cannot be read", Remedy: "look at it with: openssl pkey -noout -text -in " + file, Err: err}
		}
		if key != nil {
			return key, pem.EncodeToMemory(block), nil
		}
	}
	return nil, nil, &Error{File: file, Problem: "no private key in PEM form", Remedy: "the file must hold a block that begins with -----BEGIN PRIVATE KEY-----"}
}

// parseKey gives nil for a block that is no key, such as the parameters openssl puts in front of one.
func parseKey(block *pem.Block) (crypto.Signer, error) {
	var key any
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	default:
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a key of type %T cannot sign", key)
	}
	return signer, nil
}

// readFile reads a regular file. It refuses the others, whose reading may wait for good or have no end.
func readFile(file string) ([]byte, error) {
	data, err := regular.ReadFile(file)
	if err == nil {
		return data, byteOrderMark(file, data)
	}
	var refused *regular.RefusedError
	if errors.As(err, &refused) {
		return nil, &Error{File: file, Problem: refused.Why, Remedy: "name a file that holds nothing but certificates or a key in PEM form", Err: regular.ErrRefused}
	}
	// The error of os names the file already; ours does too, so only the cause is kept.
	var path *os.PathError
	cause := err
	if errors.As(err, &path) {
		cause = path.Err
	}
	return nil, &Error{File: file, Problem: "cannot be read", Remedy: "check that it exists and that the user of this process may read it: ls -l " + file, Err: cause}
}
