package tlsgen

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/internal/hint"
)

func troubles(t *testing.T, m *Manager) (refused, soon string) {
	t.Helper()
	text := func(all []error) (s string) {
		for _, err := range all {
			if hint.Of(err) == "" {
				t.Errorf("no hint in %v", err)
			}
			s += err.Error() + "\n"
		}
		return s
	}
	r, s := m.Trouble()
	return text(r), text(s)
}

// The hostname in the configuration is edited: the old name goes on being served, to
// all who trust the CA.
func TestManager_nameThatTheCAMayNotSignFor(t *testing.T) {
	ca := constrained(t, "old.example.com", "localhost")
	o := options(t, ca, "old.example.com", "localhost")
	before := start(t, o)
	want := serial(t, before, ca.Pool(), "old.example.com")
	if refused, soon := troubles(t, before); refused+soon != "" {
		t.Errorf("%s%s", refused, soon)
	}
	before.Close()
	o.Names = []string{"new.example.com", "localhost"}
	m := start(t, o)
	if got := serial(t, m, ca.Pool(), "old.example.com"); got != want {
		t.Error("the old certificate was replaced")
	}
	serial(t, m, ca.Pool(), "localhost")
	if refused, _ := troubles(t, m); !strings.Contains(refused, `"new.example.com"`) {
		t.Errorf("refused: %q", refused)
	}
}

func TestManager_CAOutOfItsTime(t *testing.T) {
	now := time.Now()
	for name, c := range map[string]struct {
		now           time.Time
		refused, soon string
	}{
		"expired":           {now.Add(caLifetime + 24*time.Hour), "the CA expired at", ""},
		"not yet valid":     {now.Add(-1000 * 24 * time.Hour), "the CA is valid from", ""},
		"expires in months": {now.Add(caLifetime - caNotice + time.Hour), "", "the CA expires at"},
		"expires in a day":  {now.Add(caLifetime - 24*time.Hour), "", "the CA expires at"},
		"long before":       {now.Add(caLifetime - caNotice - 24*time.Hour), "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			ca := constrained(t, "r.example.com", "localhost")
			o := options(t, ca, "r.example.com", "localhost")
			o.Now = func() time.Time { return c.now }
			m := start(t, o)
			if _, err := dial(t, m, &tls.Config{ServerName: "r.example.com", RootCAs: ca.Pool(), Time: func() time.Time { return ca.cert.NotAfter.Add(-time.Minute) }}); name == "expired" && err != nil {
				t.Errorf("a client with another clock: %v", err)
			}
			refused, soon := troubles(t, m)
			if !strings.Contains(refused, c.refused) || (refused == "") != (c.refused == "") || !strings.Contains(soon, c.soon) || (soon == "") != (c.soon == "") {
				t.Errorf("refused %q, soon %q", refused, soon)
			}
		})
	}
}

// What a CA that has expired had signed goes on being served, and its files stay as they are.
func TestManager_expiredCAKeepsItsCertificate(t *testing.T) {
	ca := constrained(t, "r.example.com", "localhost")
	o := options(t, ca, "r.example.com", "localhost")
	start(t, o).Close()
	want := fileSerial(t, o)
	o.Now = func() time.Time { return time.Now().Add(caLifetime + 24*time.Hour) }
	m := start(t, o)
	if got := serial(t, m, ca.Pool(), "r.example.com"); got != want || fileSerial(t, o) != want {
		t.Error("the certificate was replaced")
	}
}

func TestManager_ownCertificateOutOfItsTime(t *testing.T) {
	root := issue(t, "the site's CA", nil, true)
	leaf := issue(t, "r.example.com", root, false, x509.ExtKeyUsageServerAuth)
	o := options(t, nil, "r.example.com")
	put(t, o.CertFile, leaf.pem)
	put(t, o.KeyFile, leaf.keyPEM(t))
	o.CAFile = put(t, o.CertFile+".ca", root.pem)
	for _, c := range []struct {
		now           time.Time
		refused, soon string
	}{
		{time.Now(), "", "the CA expires at,the certificate expires at"}, // in an hour
		{time.Now().Add(-2 * time.Hour), "the CA is valid from,the certificate is valid from", ""},
		{time.Now().Add(2 * time.Hour), "the CA expired at,the certificate expired at", ""},
	} {
		o.Now = func() time.Time { return c.now }
		m := start(t, o)
		refused, soon := troubles(t, m)
		for _, p := range slices.Concat(split(c.refused), split(c.soon)) {
			if !strings.Contains(refused+soon, p) {
				t.Errorf("%q is missing in %q, %q", p, refused, soon)
			}
		}
		if (refused == "") != (c.refused == "") || (soon == "") != (c.soon == "") {
			t.Errorf("refused %q, soon %q", refused, soon)
		}
		m.Close()
	}
	t.Run("the remedy is another CA of the site's", func(t *testing.T) {
		o.Now = time.Now
		_, soon := start(t, o).Trouble()
		if len(soon) == 0 || !strings.HasPrefix(hint.Of(soon[0]), "get a certificate of a new CA") {
			t.Errorf("soon: %v", soon)
		}
	})
	t.Run("a FIFO as the CA is not read", func(t *testing.T) {
		o.CAFile = filepath.Join(t.TempDir(), "ca")
		fifo(t, o.CAFile)
		m := start(t, o)
		if refused, _ := troubles(t, m); strings.Contains(refused, "the CA") || !m.CANotAfter().IsZero() {
			t.Errorf("refused %q, the CA ends at %s", refused, m.CANotAfter())
		}
	})
}

func split(s string) []string { return strings.Split(s, ",") }

// A certificate that is due and cannot be renewed, be it that the disk is full, is served.
func TestManager_renewalFailsAtTheStart(t *testing.T) {
	ca := constrained(t, "r.example.com", "localhost")
	o := options(t, ca, "r.example.com", "localhost")
	certPEM, keyPEM, err := ca.issueLeaf(o.Names, time.Now(), backdate+time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	put(t, o.CertFile, certPEM)
	put(t, o.KeyFile, keyPEM)
	want := fileSerial(t, o)
	o.Now = func() time.Time {
		if _, err := os.Stat(o.StateDir); err == nil {
			return ca.NotAfter().Add(time.Hour) // so that the CA signs nothing more
		}
		return time.Now()
	}
	m := start(t, o)
	if got := serial(t, m, ca.Pool(), "r.example.com"); got != want {
		t.Error("another certificate is served")
	}
}

// A certificate of ours that is near its end has not been renewed for months: something is in the
// way.
func TestManager_tellsThatRenewalFails(t *testing.T) {
	ca := constrained(t, "r.example.com", "localhost")
	o := options(t, ca, "r.example.com", "localhost")
	start(t, o).Close()
	for days, want := range map[int]string{31: "", 29: "the certificate expires at"} {
		o.Now = func() time.Time { return time.Now().Add(leafLifetime - time.Duration(days)*24*time.Hour) }
		m := start(t, o) // certmagic, whose clock is another, does not renew it
		refused, soon := troubles(t, m)
		if refused != "" || !strings.Contains(soon, want) || (soon == "") != (want == "") {
			t.Errorf("%d days before the end: refused %q, soon %q", days, refused, soon)
		}
		m.Close()
	}
}

// Clients that do not check names use the user's own certificate all the same.
func TestManager_Trouble_ownName(t *testing.T) {
	ca := newCA(t)
	for name, want := range map[string]string{"r.example.com": "", "other.example.com": "not for r.example.com: it is for other.example.com"} {
		o, _ := watchedOptions(t)
		install(t, o, ca, time.Now(), name)
		refused, notices := troubles(t, start(t, o))
		if refused != "" || !strings.Contains(notices, want) || want == "" && notices != "" {
			t.Errorf("%s: refused %q, notices %q", name, refused, notices)
		}
	}
}
