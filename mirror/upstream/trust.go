package upstream

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

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

// TrustError reports a certificate file that cannot be used. It does not wrap the cause: "no such
// file" is not "no such image".
type TrustError struct{ text, hint string }

func (e *TrustError) Error() string { return e.text }

// Hint returns what to do about it.
func (e *TrustError) Hint() string { return e.hint }

// Kind is as in readError.
func (e *TrustError) Kind() string { return "tls" }

// untrusted returns the error of a file, or of a directory, that is something to TLS.
func untrusted(what, file string, cause error, hint string) *TrustError {
	return &TrustError{fmt.Sprintf("%s %s: %v", what, file, regular.Reason(cause)), hint}
}

// inCertDir is how a directory of certificates is filled.
const inCertDir = "put the registry's CA there as *.crt, and a client's certificate as *.cert and *.key, as podman's --cert-dir has them"

// TrustFiles returns the *.crt and *.cert files of dir, or, without dir, those of the first
// directory of the registry that has any. An error is a *TrustError.
func TrustFiles(dir, registry string) (Trust, error) {
	if dir != "" {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return Trust{}, untrusted("directory of certificates", dir, err, "name a directory that can be read; "+inCertDir)
		}
		files, err := trustIn(dir, entries)
		if err == nil && files.empty() {
			err = &TrustError{fmt.Sprintf("no certificate in %s: there is no file *.crt or *.cert", dir), inCertDir}
		}
		return files, err
	}
	for _, dir := range certDirs(registry) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue // it is not there, or not for this user
		}
		if files, err := trustIn(dir, entries); err != nil || !files.empty() {
			return files, err
		}
	}
	return Trust{}, nil
}

func (t Trust) empty() bool { return len(t.CAs)+len(t.Clients) == 0 }

// trustIn returns the certificate files of a directory. A key without a certificate is an error, as
// it is to podman.
func trustIn(dir string, entries []os.DirEntry) (t Trust, err error) {
	var keys []string
	for _, e := range entries {
		file := filepath.Join(dir, e.Name())
		switch filepath.Ext(file) {
		case ".crt":
			t.CAs = append(t.CAs, file)
		case ".cert":
			t.Clients = append(t.Clients, file)
		case ".key":
			keys = append(keys, file)
		}
	}
	for _, key := range keys {
		if cert := strings.TrimSuffix(key, ".key") + ".cert"; !slices.Contains(t.Clients, cert) {
			return Trust{}, untrusted("client key", key, fmt.Errorf("there is no %s beside it", filepath.Base(cert)),
				"put the client's certificate there under that name; a CA is named *.crt")
		}
	}
	return t, nil
}

// TLSConfig returns a configuration that trusts the CAs of the system and in files, or any
// certificate, and has the client's certificates. The error of a file is a *TrustError.
func TLSConfig(files Trust, anyCertificate bool) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: anyCertificate} // only if the user says so
	for _, cert := range files.Clients {
		pair, err := clientPair(cert, strings.TrimSuffix(cert, ".cert")+".key")
		if err != nil {
			return nil, err
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
			return nil, untrusted("CA file", file, err,
				"name a readable file with the CA's certificate in PEM form (-----BEGIN CERTIFICATE-----); openssl x509 -inform der -in "+file+" -out NEW makes it of one in DER")
		}
	}
	config.RootCAs = pool
	return config, nil
}

// clientPair reads a client's certificate and its key.
func clientPair(cert, key string) (tls.Certificate, error) {
	const form = "put a client's certificate as *.cert and its key as *.key beside it, both in PEM form and readable"
	certPEM, err := regular.ReadFile(cert)
	if err != nil {
		return tls.Certificate{}, untrusted("client certificate", cert, err, form)
	}
	keyPEM, err := regular.ReadFile(key)
	if err != nil {
		return tls.Certificate{}, untrusted("client key", key, err, form)
	}
	if bytes.Contains(keyPEM, []byte("BEGIN ENCRYPTED PRIVATE KEY")) || bytes.Contains(keyPEM, []byte("Proc-Type: 4,ENCRYPTED")) {
		return tls.Certificate{}, untrusted("client key", key, errors.New("it is encrypted"),
			"openssl pkey -in "+key+" -out NEW writes it without a passphrase: put that in its place")
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		advice := form
		if strings.Contains(err.Error(), "does not match") {
			advice = "put the key of this certificate beside it: openssl x509 -noout -pubkey -in " + cert + " and openssl pkey -pubout -in " + key + " print the same then"
		}
		return tls.Certificate{}, untrusted("client certificate", cert, errors.New(strings.TrimPrefix(err.Error(), "tls: ")), advice)
	}
	return pair, nil
}

// Expired returns the error of the first file whose certificate, or of several CAs each, is out of date.
// Whether the registry minds is known only when it is asked.
func (t Trust) Expired(now time.Time) error {
	for _, file := range t.CAs {
		if all := certificatesIn(file); len(all) > 0 && !slices.ContainsFunc(all, func(c *x509.Certificate) bool { return now.Before(c.NotAfter) }) {
			return expiredFile("CA file", file, all[0])
		}
	}
	for _, file := range t.Clients {
		if all := certificatesIn(file); len(all) > 0 && now.After(all[0].NotAfter) { // the others are its issuers
			return expiredFile("client certificate", file, all[0])
		}
	}
	return nil
}

func expiredFile(what, file string, cert *x509.Certificate) error {
	return untrusted(what, file, fmt.Errorf("it has expired on %s", cert.NotAfter.UTC().Format(time.DateOnly)),
		"have it renewed, and put the new one in its place; check this machine's clock")
}

// certificatesIn returns the certificates in a file, none if it cannot be read, which TLSConfig reports.
func certificatesIn(file string) (all []*x509.Certificate) {
	text, err := regular.ReadFile(file)
	if err != nil {
		return nil
	}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if cert, err := x509.ParseCertificate(block.Bytes); err == nil {
			all = append(all, cert)
		}
	}
	return all
}
