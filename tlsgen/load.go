package tlsgen

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/caddyserver/certmagic"

	"github.com/mirror-appliance/appliance/internal/durable"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/regular"
)

// LoadCA reads an authority and checks that it is one. Of several certificates in certFile, as
// during a rotation, it takes the one of the key. It loads one that has expired or is not valid yet,
// since the clock may be wrong. Errors carry a hint.
func LoadCA(certFile, keyFile string) (*CA, error) {
	certPEM, err := readFile(certFile)
	if err != nil {
		return nil, err
	}
	keyPEM, err := readFile(keyFile)
	if err != nil {
		return nil, err
	}
	return parseCA(certFile, keyFile, certPEM, keyPEM)
}

// ParseCA is LoadCA for the content of the files. The authority has a KeyPEM.
func ParseCA(certPEM, keyPEM []byte) (*CA, error) {
	ca, err := parseCA("the certificate", "the key", certPEM, keyPEM)
	if err == nil {
		ca.keyPEM = keyPEM
	}
	return ca, err
}

func parseCA(certFile, keyFile string, certPEM, keyPEM []byte) (*CA, error) {
	cert, err := firstCert(certFile, certPEM)
	if err != nil {
		return nil, err
	}
	key, err := firstKey(keyFile, keyPEM)
	if err != nil {
		return nil, err
	}
	for block, rest := pem.Decode(certPEM); block != nil; block, rest = pem.Decode(rest) {
		if c, err := x509.ParseCertificate(block.Bytes); err == nil && belongs(key, c) {
			cert = c
			break
		}
	}
	if !cert.BasicConstraintsValid || !cert.IsCA ||
		cert.KeyUsage != 0 && cert.KeyUsage&x509.KeyUsageCertSign == 0 {
		return nil, fault(certFile, "the certificate is not one of a certificate authority",
			"give the CA's own certificate, not one that it signed", nil)
	}
	if !belongs(key, cert) {
		return nil, fault(keyFile, "the key does not belong to the certificate in "+certFile,
			"put back the key that was made together with the CA's certificate", nil)
	}
	return &CA{cert: cert, key: key}, nil
}

// belongs reports whether a certificate was made for a key.
func belongs(key crypto.Signer, cert *x509.Certificate) bool {
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(cert.PublicKey)
}

func readCert(file string) (*x509.Certificate, error) {
	data, err := readFile(file)
	if err != nil {
		return nil, err
	}
	return firstCert(file, data)
}

// firstCert returns the first certificate in data.
func firstCert(file string, data []byte) (*x509.Certificate, error) {
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fault(file, "the certificate cannot be read",
				"look at it with: openssl x509 -noout -text -in "+file, err)
		}
		return cert, nil
	}
	return nil, fault(file, "no certificate in PEM form",
		"the file must hold a block that begins with -----BEGIN CERTIFICATE-----", nil)
}

func readKey(file string) (crypto.Signer, error) {
	data, err := readFile(file)
	if err != nil {
		return nil, err
	}
	return firstKey(file, data)
}

// keyKinds are the names of PEM blocks with a key, usable here or not.
var keyKinds = []string{"PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY", "DSA PRIVATE KEY",
	"ENCRYPTED PRIVATE KEY"}

// firstKey returns the private key in data, in any form that openssl writes without a passphrase.
// It skips other blocks, such as the parameters that openssl writes before a key.
func firstKey(file string, data []byte) (crypto.Signer, error) {
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if !slices.Contains(keyKinds, block.Type) {
			continue
		}
		if strings.Contains(block.Type+block.Headers["Proc-Type"], "ENCRYPTED") {
			return nil, fault(file, "the key is protected by a passphrase, which a service cannot type",
				"write it without one: openssl pkey -in "+file+" -out NEW", nil)
		}
		key, err := certmagic.PEMDecodePrivateKey(pem.EncodeToMemory(block))
		if err != nil {
			return nil, fault(file, "the private key cannot be read",
				"look at it with: openssl pkey -noout -text -in "+file, err)
		}
		return key, nil
	}
	return nil, fault(file, "no private key in PEM form",
		"the file must hold a block that begins with -----BEGIN PRIVATE KEY-----", nil)
}

// readFile reads a regular file. It rejects others, whose reading may block or not end.
func readFile(file string) ([]byte, error) {
	data, err := regular.ReadFile(file)
	switch {
	case err == nil:
		return data, byteOrderMark(file, data)
	case errors.Is(err, regular.ErrRefused):
		return nil, fault(file, regular.Reason(err).Error(),
			"name a file that holds nothing but certificates or a key in PEM form", regular.ErrRefused)
	}
	return nil, fault(file, "cannot be read",
		"check that it exists and that the user of this process may read it: ls -l "+file,
		regular.Reason(err))
}

// fault returns a problem with a remedy for the administrator. file and cause may be empty.
func fault(file, problem, remedy string, cause error) error {
	if file != "" {
		problem = file + ": " + problem
	}
	err := errors.New(problem)
	if cause != nil {
		err = fmt.Errorf("%s: %w", problem, cause)
	}
	return hint.New(err, remedy)
}

// keyPair is a chain and its key in PEM form.
type keyPair struct{ certPEM, keyPEM []byte }

// readPair reads a certificate chain and its key and checks that they belong together. The chain is
// in the order in which it is served, whatever that of the file is.
func readPair(certFile, keyFile string) (keyPair, *tls.Certificate, error) {
	certPEM, err := readFile(certFile)
	if err != nil {
		return keyPair{}, nil, err
	}
	keyPEM, err := readFile(keyFile)
	if err != nil {
		return keyPair{}, nil, err
	}
	// Each on its own first, for the sake of the message.
	if _, err := firstCert(certFile, certPEM); err != nil {
		return keyPair{}, nil, err
	}
	key, err := firstKey(keyFile, keyPEM)
	if err != nil {
		return keyPair{}, nil, err
	}
	certPEM = leafFirst(certPEM, key)
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return keyPair{}, nil, fault(certFile,
			"the certificate and the key in "+keyFile+" do not make a pair",
			"give the key that the certificate was made for; these two print the same: openssl x509 "+
				"-noout -pubkey -in "+certFile+", openssl pkey -pubout -in "+keyFile, err)
	}
	return keyPair{certPEM, keyPEM}, &cert, nil
}

// writePair writes the key, then the certificate. A crash between the two leaves a pair that does
// not match, which the next start replaces.
func writePair(o Options, pair keyPair) error {
	if err := writeFile(o.KeyFile, pair.keyPEM, 0o600); err != nil {
		return err
	}
	return writeFile(o.CertFile, pair.certPEM, 0o644)
}

// writeFile replaces a file in one step, with a mode that does not depend on the umask.
func writeFile(file string, data []byte, mode os.FileMode) error {
	target := through(file)
	tmp, err := os.CreateTemp(filepath.Dir(target), "."+filepath.Base(target)+".*")
	if err != nil {
		return unwritable(file, err)
	}
	if err = tmp.Chmod(mode); err != nil {
		err = errors.Join(err, tmp.Close(), os.Remove(tmp.Name()))
	} else {
		err = durable.WriteFile(target, tmp, data)
	}
	if err != nil {
		return unwritable(file, err)
	}
	return nil
}

// through returns the target of a link at file. Root's install makes such links to a directory that
// the daemon may write to.
func through(file string) string {
	target, err := os.Readlink(file)
	if err != nil {
		return file
	}
	if filepath.IsAbs(target) {
		return target
	}
	return filepath.Join(filepath.Dir(file), target)
}

func unwritable(file string, err error) error {
	return fault(file, "cannot be written",
		"check the owner of "+filepath.Dir(file)+" and the space on its file system", err)
}
