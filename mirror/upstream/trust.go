package upstream

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/regular"
)

// certDirs returns the directories of a registry's certificates for podman, skopeo and CRI-O
// (containers-certs.d(5)), with and without the port of HTTPS.
func certDirs(registry string) []string {
	names := []string{registry}
	if host, ok := strings.CutSuffix(registry, ":443"); ok {
		names = append(names, host)
	} else if !strings.Contains(registry, ":") {
		names = append(names, registry+":443")
	}
	var all []string
	for _, name := range names {
		if home, err := os.UserHomeDir(); err == nil {
			all = append(all, filepath.Join(home, ".config/containers/certs.d", name))
		}
		all = append(all, filepath.Join("/etc/containers/certs.d", name), filepath.Join("/etc/docker/certs.d", name))
	}
	return all
}

// Trust names the certificate files of a registry.
type Trust struct {
	CAs     []string // PEM files of CAs that are trusted besides the system's
	Clients []string // *.cert files with this client's certificates; each has its key beside it, *.key
	Bundle  []byte   // more CAs in PEM form
}

// TrustFiles returns the *.crt and *.cert files of dir, or, without dir, those of the first
// directory of the registry that has any.
func TrustFiles(dir, registry string) (Trust, error) {
	if dir != "" {
		files, err := trustIn(dir)
		if err == nil && files.empty() {
			err = hint.New(fmt.Errorf("no certificate in %s: there is no file *.crt or *.cert", dir),
				"put the registry's CA there as *.crt, and a client's certificate as *.cert and *.key, as podman's --cert-dir has them")
		}
		return files, err
	}
	for _, dir := range certDirs(registry) {
		if files, err := trustIn(dir); err != nil || !files.empty() {
			return files, err
		}
	}
	return Trust{}, nil
}

func (t Trust) empty() bool { return len(t.CAs)+len(t.Clients) == 0 }

// trustIn returns the certificate files of a directory. A key without a certificate is an error, as
// it is to podman.
func trustIn(dir string) (t Trust, err error) {
	var keys []string
	for pattern, found := range map[string]*[]string{"*.crt": &t.CAs, "*.cert": &t.Clients, "*.key": &keys} {
		if *found, err = filepath.Glob(filepath.Join(dir, pattern)); err != nil {
			return Trust{}, err
		}
	}
	for _, key := range keys {
		if cert := strings.TrimSuffix(key, ".key") + ".cert"; !slices.Contains(t.Clients, cert) {
			return Trust{}, hint.New(fmt.Errorf("client key %s: there is no %s beside it", key, filepath.Base(cert)),
				"put the client's certificate there under that name; a CA is named *.crt")
		}
	}
	return t, nil
}

// TLSConfig returns a configuration that trusts the CAs of the system and in files, or any
// certificate, and has the client's certificates.
func TLSConfig(files Trust, anyCertificate bool) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: anyCertificate} // only if the user says so
	for _, cert := range files.Clients {
		pair, err := tls.LoadX509KeyPair(cert, strings.TrimSuffix(cert, ".cert")+".key")
		if err != nil {
			return nil, hint.New(fmt.Errorf("client certificate %s: %w", cert, regular.Reason(err)),
				"put its key beside it, with the name *.key, both in PEM form and readable")
		}
		config.Certificates = append(config.Certificates, pair)
	}
	if len(files.CAs)+len(files.Bundle) == 0 {
		return config, nil
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if len(files.Bundle) > 0 && !pool.AppendCertsFromPEM(files.Bundle) {
		return nil, errors.New("no PEM certificate in the bundle of CAs")
	}
	for _, file := range files.CAs {
		pem, err := regular.ReadFile(file)
		if err == nil && !pool.AppendCertsFromPEM(pem) {
			err = errors.New("no PEM certificate in it")
		}
		if err != nil {
			return nil, hint.New(fmt.Errorf("CA file %s: %w", file, regular.Reason(err)),
				"name a readable file with the CA's certificate in PEM form (-----BEGIN CERTIFICATE-----); openssl x509 -inform der -in "+file+" -out NEW makes it of one in DER")
		}
	}
	config.RootCAs = pool
	return config, nil
}
