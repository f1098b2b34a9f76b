package image

import (
	"fmt"
	"net/netip"
	"strings"
)

const (
	maxHostname = 253 // bytes, of RFC 1035
	maxLabel    = 63
)

// CheckHostname returns an error unless s can be the name of the host that a registry runs on: a DNS name as RFC 1123 has
// it, in either case. An address is refused, since certificates and image references ask for a name, and so is a name
// whose last part is a number, which resolvers and certificate checks take for an address.
func CheckHostname(s string) error {
	if _, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return fmt.Errorf("%q is an IP address, not a DNS name", s)
	}
	if len(s) > maxHostname {
		return fmt.Errorf("a DNS name has at most %d characters, this has %d", maxHostname, len(s))
	}
	labels := strings.Split(s, ".")
	for _, label := range labels {
		if !validLabel(label) {
			return fmt.Errorf("%q is not a DNS name: between its dots are letters, digits and inner hyphens only, at most %d", s, maxLabel)
		}
	}
	if strings.Trim(labels[len(labels)-1], "0123456789") == "" {
		return fmt.Errorf("%q is not a DNS name: its last part is a number", s)
	}
	return nil
}

func validLabel(s string) bool {
	if s == "" || len(s) > maxLabel || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for _, c := range []byte(s) {
		if !(c == '-' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z') {
			return false
		}
	}
	return true
}
