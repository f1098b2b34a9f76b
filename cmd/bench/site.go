package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/tlsgen"
)

const (
	hostname = "bench.test" // in the certificate; every server is on 127.0.0.1
	user     = "bench"
	password = "bench-password"
)

// A site is a working directory with the one certificate that all servers show.
type site struct {
	dir   string
	roots *x509.CertPool
}

func (s *site) path(elem ...string) string { return filepath.Join(append([]string{s.dir}, elem...)...) }
func (s *site) cert() string               { return s.path("tls.cert") }
func (s *site) key() string                { return s.path("tls.key") }
func (s *site) ca() string                 { return s.path("ca.pem") }

func newSite(dir string) (*site, error) {
	ca, err := tlsgen.CreateCA("bench", time.Now())
	if err != nil {
		return nil, err
	}
	cert, key, err := ca.IssueLeaf([]string{hostname}, time.Now())
	if err != nil {
		return nil, err
	}
	s := &site{dir: dir, roots: ca.Pool()}
	for path, content := range map[string][]byte{s.cert(): cert, s.key(): key, s.ca(): ca.CertPEM()} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// openSite takes up a site that another process made.
func openSite(dir string) (*site, error) {
	s := &site{dir: dir, roots: x509.NewCertPool()}
	pem, err := os.ReadFile(s.ca())
	if err != nil {
		return nil, err
	}
	if !s.roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", s.ca())
	}
	return s, nil
}

// clientTLS is for every client alike. Which protocol it speaks is the caller's to say.
func (s *site) clientTLS(protocol string) *tls.Config {
	return &tls.Config{RootCAs: s.roots, ServerName: hostname, MinVersion: tls.VersionTLS12, NextProtos: []string{protocol}}
}

// fsType names the file system of a directory: where fsync costs nothing, figures of durable writes are worth nothing.
func fsType(dir string) string {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return "unknown"
	}
	switch fs.Type {
	case unix.EXT4_SUPER_MAGIC:
		return "ext4"
	case unix.XFS_SUPER_MAGIC:
		return "xfs"
	case unix.BTRFS_SUPER_MAGIC:
		return "btrfs"
	case unix.OVERLAYFS_SUPER_MAGIC:
		return "overlayfs"
	case unix.TMPFS_MAGIC:
		return "tmpfs (nothing is durable there: choose another --dir)"
	}
	return fmt.Sprintf("file system %#x", fs.Type)
}

// remove removes what a server kept.
func (s *site) remove(name string) error { return os.RemoveAll(s.path(name)) }
