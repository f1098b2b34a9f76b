package tlsgen

import (
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
	if got, err := SubjectHash(known.CertPEM()); err != nil || got != "bef3558d" {
		t.Errorf("got %s, %v", got, err)
	}
	if _, err := SubjectHash([]byte("no certificate")); err == nil {
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
		out, err := exec.Command(openssl, "x509", "-noout", "-hash", "-in", file).Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(out))
	}
	same := func(what string, pem []byte) {
		t.Helper()
		if got, err := SubjectHash(pem); err != nil || got != hash(pem) {
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
}
