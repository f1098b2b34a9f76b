package tlsgen

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// A renewal that is asked for is in the files and served when Renew returns, also after a restart.
func TestManager_Renew(t *testing.T) {
	ca := newCA(t)
	o := options(t, ca, uniqueName())
	m := start(t, o)
	seen := map[string]bool{fileSerial(t, o): true}
	key := string(get(t, o.KeyFile))
	for range 3 {
		if err := m.Renew(t.Context()); err != nil {
			t.Fatal(err)
		}
		got := serial(t, m, ca.Pool(), o.Names[0])
		if seen[got] || got != fileSerial(t, o) {
			t.Fatalf("serves %s, seen %v; the file has %s", got, seen, fileSerial(t, o))
		}
		seen[got] = true
		if next := string(get(t, o.KeyFile)); next == key {
			t.Error("the key is the old one")
		} else {
			key = next
		}
	}
	if n := len(m.source.(*managed).cache.AllMatchingCertificates(o.Names[0])); n != 1 {
		t.Errorf("%d certificates are kept", n)
	}
	last := fileSerial(t, o)
	m.Close()
	if got := serial(t, start(t, o), ca.Pool(), o.Names[0]); got != last {
		t.Error("after a restart another one is served")
	}
}

func TestManager_RenewOfWhatItCannot(t *testing.T) {
	ca := newCA(t)
	own := options(t, nil, "r.example.com")
	install(t, own, ca, time.Now(), "r.example.com")
	late := options(t, ca, "r.example.com")
	late.Now = func() time.Time { return time.Now().Add(caLifetime + time.Hour) }
	for want, o := range map[string]Options{"the certificate is your own": own, "the CA has expired": late} {
		if err := start(t, o).Renew(t.Context()); err == nil || !strings.Contains(err.Error(), want) || hint.Of(err) == "" {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// While a CA is rotated, its file has two; the key decides which one signs.
func TestLoadCA_ofSeveral(t *testing.T) {
	old, next := newCA(t), newCA(t)
	both := putFile(t, "ca.pem", old.CertPEM(), next.CertPEM())
	for _, want := range []*CA{old, next} {
		ca, err := LoadCA(both, putFile(t, "ca.key", want.KeyPEM()))
		if err != nil || !bytes.Equal(ca.CertPEM(), want.CertPEM()) {
			t.Errorf("got another one: %v", err)
		}
	}
	if _, err := LoadCA(both, putFile(t, "ca.key", newCA(t).KeyPEM())); err == nil || !strings.Contains(err.Error(), "does not belong") {
		t.Errorf("with a key of neither: %v", err)
	}
}
