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
	// caLifetime outlives the machine: to replace the root, the trust store of each
	// client has to be changed.
	caLifetime = 20 * 365 * 24 * time.Hour
	// leafLifetime is a day below 398 days, above which some clients refuse a certificate.
	leafLifetime = 397 * 24 * time.Hour
	// backdate bounds how far a client's clock may be behind this host's.
	backdate = time.Hour

	organization = "Mirror appliance"
)

// CA is a certificate authority: a certificate that may sign leaves, and its key.
type CA struct {
	cert   *x509.Certificate
	key    crypto.Signer
	keyPEM []byte // of one that was created
}

// CreateCA makes a self-signed authority that may sign leaves for names, or for any name if there
// are none. The constraint makes its key worthless for other hosts of the clients that trust it.
func CreateCA(commonName string, now time.Time, names ...string) (*CA, error) {
	const room = 64 // ub-common-name, RFC 5280: OpenSSL and GnuTLS refuse more
	if len(commonName) > room {
		return nil, fault("", fmt.Sprintf("the name of a CA has at most %d characters, %q has %d",
			room, commonName, len(commonName)), "choose a shorter one", nil)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate CA key: %w", err)
	}
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
	return &CA{cert, key, keyPEM}, nil
}

// CertPEM returns the certificate, as clients put it in their trust stores.
func (c *CA) CertPEM() []byte { return encodeCert(c.cert.Raw) }

// KeyPEM returns the private key of an authority that CreateCA or ParseCA has returned.
func (c *CA) KeyPEM() []byte { return c.keyPEM }

// constrain sets the names that the certificate may sign for. A kind of name that is not mentioned
// is unconstrained, so that all addresses are excluded if there are none among names.
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

// Refuses returns the names for which clients accept no certificate of this authority, by its name
// constraints.
func (c *CA) Refuses(names []string) (refused []string) {
	at := c.cert.NotBefore // what has expired is told elsewhere
	for _, name := range names {
		chain, err := c.sign([]string{name}, c.key.Public(), at, leafLifetime)
		if err != nil {
			continue
		}
		leaf, err := firstCert("", chain)
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

// permitted returns the names of the authority's constraints.
func (c *CA) permitted() []string {
	names := slices.Clone(c.cert.PermittedDNSDomains)
	for _, block := range c.cert.PermittedIPRanges {
		if ones, bits := block.Mask.Size(); ones == bits {
			names = append(names, block.IP.String())
		}
	}
	return slices.DeleteFunc(names, func(name string) bool {
		return name == "" || strings.HasPrefix(name, ".")
	})
}

// Signed reports whether the authority has signed a certificate.
func (c *CA) Signed(leaf *x509.Certificate) bool { return leaf.CheckSignatureFrom(c.cert) == nil }

// NotBefore returns the begin of the authority's validity.
func (c *CA) NotBefore() time.Time { return c.cert.NotBefore }

// NotAfter returns the end of the authority's validity.
func (c *CA) NotAfter() time.Time { return c.cert.NotAfter }

// Pool returns a pool of this authority alone, for clients that are to trust it.
func (c *CA) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(c.cert)
	return pool
}

// IssueLeaf makes a key and a server certificate for names (DNS names and IP addresses). certPEM is
// the chain that a server sends: the leaf, then the CA.
func (c *CA) IssueLeaf(names []string, now time.Time) (certPEM, keyPEM []byte, err error) {
	return c.issueLeaf(names, now, leafLifetime)
}

func (c *CA) issueLeaf(names []string, now time.Time, lifetime time.Duration) (
	certPEM, keyPEM []byte, err error) {
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

// sign returns the chain for a public key: the leaf, then the CA.
func (c *CA) sign(names []string, pub crypto.PublicKey, now time.Time, lifetime time.Duration) (
	[]byte, error) {
	names, err := normalize(names)
	if err != nil {
		return nil, err
	}
	if now.After(c.cert.NotAfter) {
		return nil, fault("", "the CA expired at "+c.cert.NotAfter.Format(time.RFC3339)+" and can sign "+
			"nothing any more", "make a new CA and give it to the clients", nil)
	}
	// No common name, for which certmagic would renew. An organization, since with an empty subject
	// the names would be a critical extension.
	from, until := now.Add(-backdate), c.cert.NotAfter
	if from.Before(c.cert.NotBefore) {
		from = c.cert.NotBefore
	}
	if end := from.Add(lifetime); end.Before(until) {
		until = end
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{Organization: []string{organization}},
		NotBefore:             from,
		NotAfter:              until,
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
	return append(encodeCert(der), c.CertPEM()...), nil
}

func encodeCert(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// normalize returns names in the order and spelling of a certificate: DNS names in lower case, then
// addresses, each once. The order has to be stable, since certmagic renews the first name.
func normalize(names []string) ([]string, error) {
	var hosts, addresses []string
	for _, name := range names {
		name = strings.ToLower(strings.TrimSuffix(strings.TrimSpace(name), "."))
		ip := net.ParseIP(name)
		switch {
		case name == "":
			return nil, fault("", "a certificate cannot be made for an empty name",
				"give the registry's hostname", nil)
		case ip != nil && !slices.Contains(addresses, ip.String()):
			addresses = append(addresses, ip.String())
		case ip == nil && !slices.Contains(hosts, name):
			hosts = append(hosts, name)
		}
	}
	if len(hosts)+len(addresses) == 0 {
		return nil, fault("", "a certificate needs a name", "give the registry's hostname", nil)
	}
	return append(hosts, addresses...), nil
}

// namesOf returns the names of a certificate in certmagic's order.
func namesOf(cert *x509.Certificate) []string {
	names := make([]string, 0, len(cert.DNSNames)+len(cert.IPAddresses))
	for _, name := range cert.DNSNames {
		names = append(names, strings.ToLower(name))
	}
	for _, ip := range cert.IPAddresses {
		names = append(names, ip.String())
	}
	return names
}

// uncovered returns the names for which a client would not accept cert.
func uncovered(cert *x509.Certificate, names []string) []string {
	var missing []string
	for _, name := range names {
		if cert.VerifyHostname(name) != nil {
			missing = append(missing, name)
		}
	}
	return missing
}
