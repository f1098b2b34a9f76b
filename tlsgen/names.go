package tlsgen

import (
	"crypto/x509"
	"net"
	"slices"
	"strings"
)

// normalize brings names into the order and the spelling in which a certificate gives them back: DNS names in
// lower case, then addresses, each once. certmagic renews the first one, so the order has to be stable.
func normalize(names []string) ([]string, error) {
	var hosts, addresses []string
	for _, name := range names {
		name = strings.ToLower(strings.TrimSuffix(strings.TrimSpace(name), "."))
		ip := net.ParseIP(name)
		switch {
		case name == "":
			return nil, &Error{Problem: "a certificate cannot be made for an empty name", Remedy: "give the registry's hostname"}
		case ip != nil && !slices.Contains(addresses, ip.String()):
			addresses = append(addresses, ip.String())
		case ip == nil && !slices.Contains(hosts, name):
			hosts = append(hosts, name)
		}
	}
	if len(hosts)+len(addresses) == 0 {
		return nil, &Error{Problem: "a certificate needs at least one name", Remedy: "give the registry's hostname"}
	}
	return append(hosts, addresses...), nil
}

// namesOf lists what a certificate was made for, in the order certmagic sees it.
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

// uncovered lists the names that a client would not accept cert for.
func uncovered(cert *x509.Certificate, names []string) []string {
	var missing []string
	for _, name := range names {
		if cert.VerifyHostname(name) != nil {
			missing = append(missing, name)
		}
	}
	return missing
}
