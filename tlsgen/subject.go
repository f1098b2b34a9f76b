package tlsgen

import (
	"crypto/fips140"
	"crypto/sha1"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"unicode/utf16"
)

// subjectHash returns what openssl x509 -hash prints: with .0, the name by which OpenSSL finds a
// CA's certificate in a directory (SSL_CERT_DIR, openssl verify -CApath, curl --capath).
func subjectHash(certPEM []byte) (string, error) {
	cert, err := firstCert("", certPEM)
	if err != nil {
		return "", err
	}
	canonical, err := canonicalSubject(cert)
	if err != nil {
		return "", fmt.Errorf("read the subject of the certificate: %w", err)
	}
	var sum [sha1.Size]byte
	fips140.WithoutEnforcement(func() { sum = sha1.Sum(canonical) }) // OpenSSL's name for a file, not for security
	return fmt.Sprintf("%08x", binary.LittleEndian.Uint32(sum[:])), nil
}

// attribute is an attribute of a name, with its encoded value.
type attribute struct {
	Type  asn1.ObjectIdentifier
	Value asn1.RawValue
}

type attributeSET []attribute

// canonicalSubject returns the subject as OpenSSL compares it: text as UTF-8 in lower case without
// surplus blanks, and without the outer sequence.
func canonicalSubject(cert *x509.Certificate) ([]byte, error) {
	var sets []attributeSET
	if _, err := asn1.Unmarshal(cert.RawSubject, &sets); err != nil {
		return nil, err
	}
	var all []byte
	for _, set := range sets {
		set = slices.Clone(set)
		for i, a := range set {
			if text, ok := textOf(a.Value); ok {
				words := strings.Join(strings.FieldsFunc(text, isBlank), " ")
				plain := []byte(strings.Map(lowerASCII, words))
				set[i].Value = asn1.RawValue{Tag: asn1.TagUTF8String, Bytes: plain}
			}
		}
		one, err := asn1.Marshal(set)
		if err != nil {
			return nil, err
		}
		all = append(all, one...)
	}
	return all, nil
}

// textOf returns a value of a type that OpenSSL compares as text. UniversalString and VisibleString
// are missing, since crypto/x509 does not parse a certificate that has one.
func textOf(v asn1.RawValue) (string, bool) {
	switch v.Tag {
	case asn1.TagUTF8String, asn1.TagPrintableString, asn1.TagIA5String:
		return string(v.Bytes), true
	case asn1.TagT61String:
		runes := make([]rune, len(v.Bytes)) // in practice Latin 1
		for i, b := range v.Bytes {
			runes[i] = rune(b)
		}
		return string(runes), true
	case asn1.TagBMPString:
		units := make([]uint16, len(v.Bytes)/2)
		for i := range units {
			units[i] = binary.BigEndian.Uint16(v.Bytes[2*i:])
		}
		return string(utf16.Decode(units)), true
	}
	return "", false
}

func isBlank(r rune) bool { return strings.ContainsRune(" \t\n\v\f\r", r) }

func lowerASCII(r rune) rune {
	if 'A' <= r && r <= 'Z' {
		return r + 'a' - 'A'
	}
	return r
}
