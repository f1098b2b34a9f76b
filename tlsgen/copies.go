package tlsgen

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mirror-appliance/appliance/internal/durable"
	"github.com/mirror-appliance/appliance/internal/hint"
)

// CACopies returns the names of the copies of a CA by which clients find it in its directory: *.crt for podman, skopeo
// and docker (--cert-dir), the hash of its subject for OpenSSL and curl (SSL_CERT_DIR).
func CACopies(caFile string, caPEM []byte) (names []string) {
	if name := strings.TrimSuffix(caFile, filepath.Ext(caFile)) + ".crt"; name != caFile {
		names = append(names, name)
	}
	if hash, err := subjectHash(caPEM); err == nil {
		names = append(names, filepath.Join(filepath.Dir(caFile), hash+".0"))
	}
	return names
}

// copyCA makes the copies that an install has made of a former CA equal to its successor.
func copyCA(caFile string, former, caPEM []byte) error {
	old, now := CACopies(caFile, former), CACopies(caFile, caPEM)
	if !slices.ContainsFunc(slices.Concat(old, now), func(name string) bool { return !missing(name) }) {
		return nil
	}
	var errs []error
	for _, name := range now {
		if has, err := readFile(name); err != nil || !bytes.Equal(has, caPEM) {
			errs = append(errs, writeFile(name, caPEM, 0o644))
		}
	}
	for _, name := range old {
		if !slices.Contains(now, name) {
			errs = append(errs, durable.IgnoreMissing(os.Remove(name)))
		}
	}
	return errors.Join(errs...)
}

// differing returns an error if a copy of the CA is of another one.
func (m *Manager) differing() error {
	caPEM, err := readFile(m.o.CAFile)
	if err != nil {
		return nil // told at the start
	}
	for _, name := range CACopies(m.o.CAFile, caPEM) {
		if has, err := readFile(name); err == nil && !bytes.Equal(has, caPEM) {
			return fault(name, "it is not the CA of "+m.o.CAFile+", and clients that use this directory refuse the certificate",
				"as root: "+hint.Words("cp", m.o.CAFile, name), nil)
		}
	}
	return nil
}
