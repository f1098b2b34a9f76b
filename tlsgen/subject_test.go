package tlsgen

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestSubjectHash asks OpenSSL, where it is installed, under which name it looks for a certificate.
func TestSubjectHash(t *testing.T) {
	known, err := CreateCA("registry.example.com", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := subjectHash(known.CertPEM()); err != nil || got != "bef3558d" {
		t.Errorf("got %s, %v", got, err)
	}
	if _, err := subjectHash([]byte("no certificate")); err == nil {
		t.Error("text has a subject")
	}
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("there is no openssl")
	}
	dir := t.TempDir()
	hash := func(pem []byte) string {
		t.Helper()
		file := filepath.Join(dir, "cert.pem")
		put(t, file, pem)
		out, err := exec.Command(openssl, "x509", "-noout", "-hash", "-in", file).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return strings.TrimSpace(string(out))
	}
	same := func(what string, pem []byte) {
		t.Helper()
		if got, err := subjectHash(pem); err != nil || got != hash(pem) {
			t.Errorf("%s: got %s, %v; OpenSSL says %s", what, got, err, hash(pem))
		}
	}
	for _, name := range []string{"registry.example.com", "  Two  Blanks\tAnd A Tab ", "Straße.Example", "x"} {
		ca, err := CreateCA(name, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		same(name, ca.CertPEM())
	}
	for name, subject := range map[string][]string{
		"several parts":    {"-subj", "/C=DE/O=Some Org/OU=Some Unit/CN=R.Example.Com/emailAddress=A@B.example"},
		"two in one part":  {"-multivalue-rdn", "-subj", "/O=Some Org+OU=Unit/CN=x"},
		"in UTF-8":         {"-utf8", "-subj", "/O=Größe/CN=İstanbul"},
		"as T61 or as BMP": {"-subj", "/O=Gr\xf6\xdfe/CN=x"},
	} {
		file, key := filepath.Join(dir, "own.pem"), filepath.Join(dir, "own.key")
		args := append([]string{"req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1", "-keyout", key, "-out", file}, subject...)
		if out, err := exec.Command(openssl, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
		pem, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		same(name, pem)
	}
	for name, value := range map[string]asn1.RawValue{
		"in BMP":    {Tag: asn1.TagBMPString, Bytes: []byte("\x00G\x00r\x00\xf6\x04\x10")},
		"in T61":    {Tag: asn1.TagT61String, Bytes: []byte("Gr\xf6\xdfe")},
		"as digits": {Tag: asn1.TagNumericString, Bytes: []byte("1 2")}, // which OpenSSL leaves as they are
	} {
		same(name, subjectOf(t, value))
	}
}

// subjectOf is a certificate whose common name is encoded like this.
func subjectOf(t *testing.T, value asn1.RawValue) []byte {
	t.Helper()
	subject, err := asn1.Marshal([]attributeSET{{{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: value}}})
	if err != nil {
		t.Fatal(err)
	}
	ca := newCA(t)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{RawSubject: subject, NotBefore: ca.cert.NotBefore, NotAfter: ca.cert.NotAfter}, ca.cert, ca.key.Public(), ca.key)
	if err != nil {
		t.Fatal(err)
	}
	return encodeCert(der)
}
