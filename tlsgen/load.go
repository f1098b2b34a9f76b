package tlsgen

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/mirror-appliance/appliance/internal/regular"
)

// LoadCA reads an authority and checks that the certificate is one of a CA, and that the key belongs to it. It loads one
// that has expired, or is not valid yet: the clock may be wrong, and a registry whose certificate some clients refuse is
// better than none. Errors name the file and carry a hint.
func LoadCA(certFile, keyFile string) (*CA, error) {
	cert, certPEM, err := readCert(certFile)
	if err != nil {
		return nil, err
	}
	if !cert.BasicConstraintsValid || !cert.IsCA || cert.KeyUsage != 0 && cert.KeyUsage&x509.KeyUsageCertSign == 0 {
		return nil, fault(certFile, "the certificate is not one of a certificate authority",
			"give the CA's own certificate, not one that it signed", nil)
	}
	key, keyPEM, err := readKey(keyFile)
	if err != nil {
		return nil, err
	}
	if !belongs(key, cert) {
		return nil, fault(keyFile, "the key does not belong to the certificate in "+certFile,
			"put back the key that was made together with the CA's certificate", nil)
	}
	return &CA{cert: cert, key: key, certPEM: certPEM, keyPEM: keyPEM}, nil
}

// belongs reports whether a certificate was made for a key.
func belongs(key crypto.Signer, cert *x509.Certificate) bool {
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(cert.PublicKey)
}

func readCert(file string) (*x509.Certificate, []byte, error) {
	data, err := readFile(file)
	if err != nil {
		return nil, nil, err
	}
	return firstCert(file, data)
}

// firstCert returns the first certificate in data, parsed, and as PEM without the text around it.
func firstCert(file string, data []byte) (*x509.Certificate, []byte, error) {
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, nil, fault(file, "the certificate cannot be read",
				"look at it with: openssl x509 -noout -text -in "+file, err)
		}
		return cert, encodeCert(block.Bytes), nil
	}
	return nil, nil, fault(file, "no certificate in PEM form",
		"the file must hold a block that begins with -----BEGIN CERTIFICATE-----", nil)
}

func readKey(file string) (crypto.Signer, []byte, error) {
	data, err := readFile(file)
	if err != nil {
		return nil, nil, err
	}
	return firstKey(file, data)
}

// firstKey returns the private key in data, in any form that openssl writes without a passphrase.
func firstKey(file string, data []byte) (crypto.Signer, []byte, error) {
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "ENCRYPTED PRIVATE KEY" || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED") {
			return nil, nil, fault(file, "the key is protected by a passphrase, which a service cannot type",
				"write it without one: openssl pkey -in "+file+" -out NEW", nil)
		}
		key, err := parseKey(block)
		if err != nil {
			return nil, nil, fault(file, "the private key cannot be read",
				"look at it with: openssl pkey -noout -text -in "+file, err)
		}
		if key != nil {
			return key, pem.EncodeToMemory(block), nil
		}
	}
	return nil, nil, fault(file, "no private key in PEM form",
		"the file must hold a block that begins with -----BEGIN PRIVATE KEY-----", nil)
}

// parseKey returns nil for a block that is not a key, such as the parameters that openssl writes before one.
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

// readFile reads a regular file. It rejects others, whose reading may block or not end.
func readFile(file string) ([]byte, error) {
	data, err := regular.ReadFile(file)
	if err == nil {
		return data, byteOrderMark(file, data)
	}
	var refused *regular.RefusedError
	if errors.As(err, &refused) {
		return nil, fault(file, refused.Reason,
			"name a file that holds nothing but certificates or a key in PEM form", regular.ErrRefused)
	}
	// Without the name of the file, which fault has.
	var path *os.PathError
	cause := err
	if errors.As(err, &path) {
		cause = path.Err
	}
	return nil, fault(file, "cannot be read",
		"check that it exists and that the user of this process may read it: ls -l "+file, cause)
}
