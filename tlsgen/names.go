package tlsgen

import (
	"crypto/x509"
	"net"
	"slices"
	"strings"
)

// normalize returns names in the order and spelling of a certificate: DNS names in lower case, then addresses, each once. The
// order has to be stable, since certmagic renews the first name.
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
		return nil, fault("", "a certificate needs at least one name",
			"give the registry's hostname", nil)
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
