package upstream

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
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

// TrustFiles returns the *.crt files of dir, or, without dir, those of the first directory of the
// registry that has any.
func TrustFiles(dir, registry string) ([]string, error) {
	if dir != "" {
		files, err := filepath.Glob(filepath.Join(dir, "*.crt"))
		if err == nil && len(files) == 0 {
			err = hint.New(fmt.Errorf("no certificate in %s: there is no file *.crt", dir),
				"put the registry's CA there, as podman's --cert-dir has it")
		}
		return files, err
	}
	for _, dir := range certDirs(registry) {
		if files, err := filepath.Glob(filepath.Join(dir, "*.crt")); err == nil && len(files) > 0 {
			return files, nil
		}
	}
	return nil, nil
}

// TLSConfig returns a configuration that trusts the CAs of the system and in files, or any
// certificate.
func TLSConfig(files []string, anyCertificate bool) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: anyCertificate} // only if the user says so
	if len(files) == 0 {
		return config, nil
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	for _, file := range files {
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
