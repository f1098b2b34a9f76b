package tlsgen

import (
	"crypto/tls"
	"errors"
	"os"
	"path/filepath"

	"github.com/mirror-appliance/appliance/internal/durable"
)

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
	if _, _, err := firstCert(certFile, certPEM); err != nil {
		return keyPair{}, nil, err
	}
	if _, _, err := firstKey(keyFile, keyPEM); err != nil {
		return keyPair{}, nil, err
	}
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return keyPair{}, nil, &Error{File: certFile, Problem: "the certificate and the key in " + keyFile + " do not make a pair", Remedy: "the file must begin with the server's own certificate, and the key must be the one made for it", Err: err}
	}
	return keyPair{certPEM: certPEM, keyPEM: keyPEM}, &cert, nil
}

// writePair writes the key first: a crash between the two leaves a pair that does not match, which the next start
// sees and replaces.
func writePair(o Options, pair keyPair) error {
	if err := writeFile(o.KeyFile, pair.keyPEM, 0o600); err != nil {
		return err
	}
	return writeFile(o.CertFile, pair.certPEM, 0o644)
}

// writeFile replaces a file in one step, so that a reader sees the old or the new content and a crash loses neither.
func writeFile(file string, data []byte, mode os.FileMode) error {
	if err := replace(through(file), data, mode); err != nil {
		return unwritable(file, err)
	}
	return nil
}

// through is where a link at file leads: where an install made by root has links to a directory of the daemon's, that
// is where the daemon may write.
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

func replace(file string, data []byte, mode os.FileMode) error {
	tmp, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".*")
	if err != nil {
		return err
	}
	// Not left to the umask: every user may read the certificate, and only the owner the key.
	if err := tmp.Chmod(mode); err != nil {
		return errors.Join(err, tmp.Close(), os.Remove(tmp.Name()))
	}
	return durable.WriteFile(file, tmp, data)
}

func rename(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return unwritable(from, err)
	}
	return nil
}

func unwritable(file string, err error) error {
	return &Error{File: file, Problem: "cannot be written", Remedy: "check the owner of " + filepath.Dir(file) + " and the space on its file system", Err: err}
}
