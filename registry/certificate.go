package registry

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/regular"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/sealed"
	"github.com/mirror-appliance/appliance/tlsgen"
)

// readKey reads the key that the daemons of one database have, if there are several.
func (d *daemon) readKey(context.Context) (err error) {
	if d.cfg.Shared() {
		d.key, err = sealed.ReadKey(d.cfg.SharedKey)
	}
	return err
}

// openCA returns the CA that signs, nil if the certificate is the user's own, and what daemons of one
// database share of both, nil if there is one daemon.
func (d *daemon) openCA(ctx context.Context) (*tlsgen.CA, tlsgen.Shared, error) {
	t := d.cfg.TLS
	if !d.cfg.Shared() {
		if t.CAKey == "" {
			return nil, nil, nil
		}
		ca, err := tlsgen.LoadCA(t.CA, t.CAKey)
		if err != nil {
			return nil, nil, fmt.Errorf("load the CA: %w", err)
		}
		return ca, nil, nil
	}
	if t.CAKey == "" {
		return nil, nil, nil
	}
	shared, ca, err := sealed.Open(ctx, sealed.Options{
		Rows: d.store.Shared().Sealed, Key: d.key, CAFile: t.CA, KeyFile: t.CAKey, Hostname: d.cfg.Hostname, Log: d.log,
		Alone: func(ctx context.Context) (sealed.Alone, error) { return d.store.Alone(ctx, "certificate") },
	})
	return ca, shared, err
}

// certificateAdmin is what the control API does with the certificate of a daemon.
type certificateAdmin struct{ *daemon }

// Describe describes what is served.
func (a certificateAdmin) Describe() (api.Certificate, error) {
	served, err := a.tls.Served()
	if err != nil {
		return api.Certificate{}, err
	}
	t := a.cfg.TLS
	c := api.Certificate{CertificateInfo: describe(served), Renews: t.CAKey != "", ACME: t.ACME.Directory,
		CAFile: t.CA, CA: authorities(t.CA, served)}
	c.File, c.Key = a.tls.Files()
	c.Issued = c.ACME != "" && c.Key != t.Key
	refused, notices := a.tls.Trouble()
	for _, err := range slices.Concat(refused, notices) {
		c.Trouble = append(c.Trouble, api.Trouble{Problem: err.Error(), Hint: hint.Of(err)})
	}
	return c, nil
}

// Renew replaces the certificate.
func (a certificateAdmin) Renew(ctx context.Context) error { return a.tls.Renew(ctx) }

func describe(c *x509.Certificate) api.CertificateInfo {
	return api.CertificateInfo{
		Subject: c.Subject.String(), Names: tlsgen.Names(c), Issuer: c.Issuer.String(),
		Serial: fmt.Sprintf("%X", c.SerialNumber), NotBefore: c.NotBefore, NotAfter: c.NotAfter,
		DaysLeft:    int(math.Floor(time.Until(c.NotAfter).Hours() / 24)),
		Fingerprint: fingerprint(c),
	}
}

// fingerprint is what openssl x509 -fingerprint -sha256 prints.
func fingerprint(c *x509.Certificate) string {
	return strings.ReplaceAll(fmt.Sprintf("% X", sha256.Sum256(c.Raw)), " ", ":")
}

// authorities describes the certificates that /ca.crt has, none if it cannot be read.
func authorities(path string, served *x509.Certificate) (all []api.Authority) {
	if path == "" {
		return nil
	}
	data, err := regular.ReadFile(path)
	if err != nil {
		return nil
	}
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if c, err := x509.ParseCertificate(block.Bytes); err == nil && block.Type == "CERTIFICATE" {
			all = append(all, api.Authority{CertificateInfo: describe(c), Signs: served.CheckSignatureFrom(c) == nil})
		}
	}
	return all
}
