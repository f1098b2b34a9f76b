package tlsgen

import (
	"crypto/tls"
	"errors"
	"os"
	"path/filepath"

	"github.com/mirror-appliance/appliance/internal/durable"
)

// keyPair is a chain and its key in PEM form.
type keyPair struct{ certPEM, keyPEM []byte }

// readPair reads a certificate chain and its key and checks that they belong together.
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
	if _, err := firstKey(keyFile, keyPEM); err != nil {
		return keyPair{}, nil, err
	}
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return keyPair{}, nil, fault(certFile,
			"the certificate and the key in "+keyFile+" do not make a pair",
			"the file must begin with the server's own certificate, and the key must be its key", err)
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
