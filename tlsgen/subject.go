package tlsgen

import (
	"crypto/sha1"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"unicode/utf16"
)

// SubjectHash is the name, without its .0, under which OpenSSL looks for a CA's certificate in a directory
// (SSL_CERT_DIR, openssl verify -CApath, curl --capath): openssl x509 -hash.
func SubjectHash(certPEM []byte) (string, error) {
	cert, _, err := firstCert("", certPEM)
	if err != nil {
		return "", err
	}
	canonical, err := canonicalSubject(cert)
	if err != nil {
		return "", fmt.Errorf("read the subject of the certificate: %w", err)
	}
	sum := sha1.Sum(canonical) // which tells names apart, and protects nothing
	return fmt.Sprintf("%08x", binary.LittleEndian.Uint32(sum[:])), nil
}

// attribute is one of a name, with the value as it is encoded.
type attribute struct {
	Type  asn1.ObjectIdentifier
	Value asn1.RawValue
}

type attributeSET []attribute

// canonicalSubject is the subject as OpenSSL compares it: text as UTF-8 in lower case without surplus blanks, and without
// the frame around the whole.
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
				plain := strings.Join(strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(" \t\n\v\f\r", r) }), " ")
				set[i].Value = asn1.RawValue{Tag: asn1.TagUTF8String, Bytes: []byte(lowerASCII(plain))}
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

// textOf gives a value of one of the kinds of text that OpenSSL compares as text. UniversalString and VisibleString are
// not among them: crypto/x509 parses no certificate that has one.
func textOf(v asn1.RawValue) (string, bool) {
	switch v.Tag {
	case asn1.TagUTF8String, asn1.TagPrintableString, asn1.TagIA5String:
		return string(v.Bytes), true
	case asn1.TagT61String:
		runes := make([]rune, len(v.Bytes)) // Latin 1, as everybody has it
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

func lowerASCII(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}
