package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// certDirs are where podman, skopeo and CRI-O look for a registry's certificates (containers-certs.d(5)), and where they
// would for the same registry written with or without the port of https.
func certDirs(address string) []string {
	addresses := []string{address}
	if host, ok := strings.CutSuffix(address, ":443"); ok {
		addresses = append(addresses, host)
	} else if !strings.Contains(address, ":") {
		addresses = append(addresses, address+":443")
	}
	var dirs []string
	for _, address := range addresses {
		if home, err := os.UserHomeDir(); err == nil {
			dirs = append(dirs, filepath.Join(home, ".config/containers/certs.d", address))
		}
		dirs = append(dirs, filepath.Join("/etc/containers/certs.d", address), filepath.Join("/etc/docker/certs.d", address))
	}
	return dirs
}

// trustFiles lists the *.crt of the directory named, or of the first of the usual ones that has any.
func trustFiles(named, address string) ([]string, error) {
	if named != "" {
		files, err := filepath.Glob(filepath.Join(named, "*.crt"))
		if err != nil {
			return nil, err
		}
		if len(files) == 0 {
			return nil, hint.New(
				fmt.Errorf("no certificate in %s: there is no file *.crt", named),
				"put the registry's CA there, as podman's --cert-dir has it")

		}
		return files, nil
	}
	for _, dir := range certDirs(address) {
		if files, err := filepath.Glob(filepath.Join(dir, "*.crt")); err == nil && len(files) > 0 {
			return files, nil
		}
	}
	return nil, nil
}

// trustPool is the system's authorities and those in files.
func trustPool(files []string) (*x509.CertPool, error) {
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	for _, file := range files {
		pem, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, hint.New(fmt.Errorf("the certificate %s is missing", file), "fetch it from https://HOST:PORT/ca.crt")
		}
		if err != nil {
			return nil, err
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, hint.New(fmt.Errorf("%s holds no certificate", file), "it must be PEM, as https://HOST:PORT/ca.crt is")
		}
	}
	return pool, nil
}
