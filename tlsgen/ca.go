package tlsgen

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/certmagic"
)

const (
	// caLifetime outlives the machine: clients' trust stores hold the root, and changing it means touching all of them.
	caLifetime = 20 * 365 * 24 * time.Hour
	// leafLifetime keeps a day away from 398 days, beyond which some clients refuse a certificate.
	leafLifetime = 397 * 24 * time.Hour
	// backdate is how far a client's clock may be behind ours.
	backdate = time.Hour

	organization = "Mirror appliance"
)

// CA is a certificate authority: a certificate that may sign leaves, and its key.
type CA struct {
	cert    *x509.Certificate
	key     crypto.Signer
	certPEM []byte
	keyPEM  []byte
}

// CreateCA makes a self-signed authority that may sign leaves and nothing below them, and those for names only: its
// key, which a daemon holds, is worth nothing for other hosts of the clients that trust it. Without names it may sign
// for any.
func CreateCA(commonName string, now time.Time, names ...string) (*CA, error) {
	const room = 64 // ub-common-name, RFC 5280: OpenSSL and GnuTLS refuse more
	if len(commonName) > room {
		return nil, &Error{Problem: fmt.Sprintf("the name of a CA has at most %d characters, %q has %d", room, commonName, len(commonName)), Remedy: "choose a shorter one"}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate CA key: %w", err)
	}
	// No serial number and no subject key id: x509 makes both, the first of 159 random bits.
	template := &x509.Certificate{
		Subject:               pkix.Name{Organization: []string{organization}, CommonName: commonName},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(caLifetime),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	if err := constrain(template, names); err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("sign CA certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read back CA certificate: %w", err)
	}
	keyPEM, err := certmagic.PEMEncodePrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode CA key: %w", err)
	}
	return &CA{cert: cert, key: key, certPEM: encodeCert(der), keyPEM: keyPEM}, nil
}

// CertPEM is the certificate, as clients put it in their trust stores.
func (c *CA) CertPEM() []byte { return c.certPEM }

// KeyPEM is the private key.
func (c *CA) KeyPEM() []byte { return c.keyPEM }

// constrain has the certificate say for which names it may sign. A kind of name that is not mentioned would be free,
// so that addresses are all excluded if there are none among names.
func constrain(template *x509.Certificate, names []string) error {
	if len(names) == 0 {
		return nil
	}
	names, err := normalize(names)
	if err != nil {
		return err
	}
	template.PermittedDNSDomainsCritical = true
	for _, name := range names {
		if ip := net.ParseIP(name); ip == nil {
			template.PermittedDNSDomains = append(template.PermittedDNSDomains, name)
		} else {
			template.PermittedIPRanges = append(template.PermittedIPRanges, single(ip))
		}
	}
	if len(template.PermittedIPRanges) == 0 {
		template.ExcludedIPRanges = []*net.IPNet{
			{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)},
			{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)},
		}
	}
	if len(template.PermittedDNSDomains) == 0 {
		template.ExcludedDNSDomains = []string{""} // all
	}
	return nil
}

func single(ip net.IP) *net.IPNet {
	if v4 := ip.To4(); v4 != nil {
		ip = v4
	}
	return &net.IPNet{IP: ip, Mask: net.CIDRMask(8*len(ip), 8*len(ip))}
}

// Refuses lists those of the names for which clients accept no certificate of this authority, by its name constraints.
func (c *CA) Refuses(names []string) (refused []string) {
	at := c.cert.NotBefore // what has expired is told elsewhere
	for _, name := range names {
		chain, err := c.sign([]string{name}, c.key.Public(), at, leafLifetime)
		if err != nil {
			continue
		}
		leaf, _, err := firstCert("", chain)
		if err != nil {
			continue
		}
		_, err = leaf.Verify(x509.VerifyOptions{Roots: c.Pool(), CurrentTime: leaf.NotBefore})
		var invalid x509.CertificateInvalidError
		if errors.As(err, &invalid) && invalid.Reason == x509.CANotAuthorizedForThisName {
			refused = append(refused, name)
		}
	}
	return refused
}

// permitted lists the names that the authority's constraints give, where they give any.
func (c *CA) permitted() []string {
	names := slices.Clone(c.cert.PermittedDNSDomains)
	for _, block := range c.cert.PermittedIPRanges {
		if ones, bits := block.Mask.Size(); ones == bits {
			names = append(names, block.IP.String())
		}
	}
	return slices.DeleteFunc(names, func(name string) bool { return name == "" || strings.HasPrefix(name, ".") })
}

// NotAfter says until when the authority, and with it everything it signs, is valid.
func (c *CA) NotAfter() time.Time { return c.cert.NotAfter }

// Pool holds this authority alone, for clients that are to trust it.
func (c *CA) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(c.cert)
	return pool
}

// IssueLeaf makes a key and a server certificate for names (DNS names and IP addresses). certPEM is the leaf
// followed by the CA, which is what a server sends.
func (c *CA) IssueLeaf(names []string, now time.Time) (certPEM, keyPEM []byte, err error) {
	return c.issueLeaf(names, now, leafLifetime)
}

func (c *CA) issueLeaf(names []string, now time.Time, lifetime time.Duration) (certPEM, keyPEM []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("generate server key: %w", err)
	}
	if certPEM, err = c.sign(names, key.Public(), now, lifetime); err != nil {
		return nil, nil, err
	}
	if keyPEM, err = certmagic.PEMEncodePrivateKey(key); err != nil {
		return nil, nil, fmt.Errorf("encode server key: %w", err)
	}
	return certPEM, keyPEM, nil
}

// sign makes the leaf for a public key and puts the CA behind it.
func (c *CA) sign(names []string, pub crypto.PublicKey, now time.Time, lifetime time.Duration) ([]byte, error) {
	names, err := normalize(names)
	if err != nil {
		return nil, err
	}
	if now.After(c.cert.NotAfter) {
		return nil, &Error{Problem: fmt.Sprintf("the CA expired at %s and can sign nothing any more", c.cert.NotAfter.Format(time.RFC3339)), Remedy: "make a new CA and give it to the clients"}
	}
	// The common name stays empty: certmagic takes it for the first name and would renew for that.
	// The organization keeps the subject from being empty, which would make the names a critical extension.
	from := latest(now.Add(-backdate), c.cert.NotBefore)
	template := &x509.Certificate{
		Subject:               pkix.Name{Organization: []string{organization}},
		NotBefore:             from,
		NotAfter:              earliest(from.Add(lifetime), c.cert.NotAfter),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, c.cert, pub, c.key)
	if err != nil {
		return nil, fmt.Errorf("sign certificate for %q: %w", names, err)
	}
	return append(encodeCert(der), c.certPEM...), nil
}

func encodeCert(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earliest(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
