package tlsgen

import (
	"crypto/tls"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// lines collects a log.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) count(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), what)
}

func watchedOptions(t *testing.T) (Options, *lines) {
	o := options(t, nil, "r.example.com")
	log := &lines{}
	o.Log = slog.New(slog.NewTextHandler(log, nil))
	o.pollEvery = time.Hour // notifications have to do it
	return o, log
}

// swap replaces both files as certbot and cert-manager do, by renaming.
func swap(t *testing.T, o Options, signer *CA, now time.Time, names ...string) string {
	t.Helper()
	next := options(t, nil)
	before := install(t, next, signer, now, names...)
	for from, to := range map[string]string{next.CertFile: o.CertFile, next.KeyFile: o.KeyFile} {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	return before
}

func TestManager_OwnFiles(t *testing.T) {
	ca := oldCA(t)
	o, log := watchedOptions(t)
	first := install(t, o, ca, time.Now(), "r.example.com")
	m := start(t, o)
	if got := serial(t, m, ca.Pool(), "r.example.com"); got != first {
		t.Fatalf("serves %s, want %s", got, first)
	}
	if _, err := os.Stat(o.StateDir); err == nil {
		t.Error("there is a state directory, which only a CA needs")
	}

	second := swap(t, o, ca, time.Now(), "r.example.com")
	eventually(t, "the new certificate is served", func() bool { return serial(t, m, ca.Pool(), "r.example.com") == second })

	put(t, o.CertFile, []byte("-----BEGIN CERT")) // half a file
	eventually(t, "the broken file is complained about", func() bool { return log.count("no certificate in PEM form") == 1 })
	if got := serial(t, m, ca.Pool(), "r.example.com"); got != second {
		t.Error("a broken file replaced the good one")
	}

	swap(t, o, ca, time.Now().Add(-1000*24*time.Hour), "r.example.com")
	eventually(t, "the expired certificate is complained about", func() bool { return log.count("expired at") == 1 })
	if got := serial(t, m, ca.Pool(), "r.example.com"); got != second {
		t.Error("an expired certificate replaced the good one")
	}

	third := swap(t, o, ca, time.Now(), "other.example.com")
	eventually(t, "the repaired pair is served", func() bool {
		cert, err := m.source.current()
		return err == nil && cert.Leaf.SerialNumber.String() == third
	})
	if log.count("does not cover") != 1 {
		t.Error("no warning that the certificate is for another name")
	}
	if log.count("BEGIN") > 0 {
		t.Error("the log holds key material")
	}
}

func TestManager_OwnFilesWithoutNotification(t *testing.T) {
	ca := newCA(t)
	o, log := watchedOptions(t)
	o.pollEvery = 10 * time.Millisecond
	// Behind a link into another directory nothing is notified.
	real := options(t, nil)
	install(t, real, ca, time.Now(), "r.example.com")
	for link, target := range map[string]string{o.CertFile: real.CertFile, o.KeyFile: real.KeyFile} {
		if err := os.Symlink(target, link); err != nil {
			t.Fatal(err)
		}
	}
	m := start(t, o)
	second := swap(t, real, ca, time.Now(), "r.example.com")
	eventually(t, "the new certificate is served", func() bool { return serial(t, m, ca.Pool(), "r.example.com") == second })

	const wrong = "do not make a pair"
	before := log.count(wrong) // a look between the two renames may have found half a pair
	put(t, real.KeyFile, ca.KeyPEM())
	eventually(t, "the wrong key is complained about", func() bool { return log.count(wrong) > before })
	m.Close()
	for range 3 {
		m.source.(*watched).reload()
	}
	if log.count(wrong) > before+1 {
		t.Error("complained about the same problem again and again")
	}
}

func TestManager_OwnFilesThatCannotBeServed(t *testing.T) {
	ca, other := newCA(t), newCA(t)
	o, _ := watchedOptions(t)
	install(t, o, ca, time.Now(), "r.example.com")
	put(t, o.KeyFile, other.KeyPEM())
	_, err := NewManager(t.Context(), o)
	if hint.Of(err) == "" || !strings.Contains(err.Error(), "do not make a pair") {
		t.Errorf("got %v", err)
	}
}

func TestManager_OwnExpiredCertificateIsServedAtStart(t *testing.T) {
	ca := oldCA(t)
	o, log := watchedOptions(t)
	install(t, o, ca, time.Now().Add(-1000*24*time.Hour), "r.example.com")
	m := start(t, o)
	if _, err := dial(t, m, &tls.Config{InsecureSkipVerify: true}); err != nil {
		t.Fatal(err)
	}
	if log.count("has expired") != 1 {
		t.Error("no warning")
	}
}

// People call the file ssl.crt as well, and leave the old one beside it.
func TestManager_OwnFileByItsOtherName(t *testing.T) {
	ca := newCA(t)
	o, _ := watchedOptions(t)
	first := install(t, o, ca, time.Now(), "r.example.com")
	other := strings.TrimSuffix(o.CertFile, ".cert") + ".crt"
	if err := os.Rename(o.CertFile, other); err != nil {
		t.Fatal(err)
	}
	m := start(t, o)
	if got := serial(t, m, ca.Pool(), "r.example.com"); got != first {
		t.Errorf("serves %s, want %s", got, first)
	}
	swap(t, o, ca, time.Now(), "r.example.com") // now it fits the key, and the other does not
	eventually(t, "the new certificate is served", func() bool {
		return serial(t, m, ca.Pool(), "r.example.com") == fileSerial(t, o)
	})
	next := options(t, nil)
	second := install(t, next, ca, time.Now(), "r.example.com")
	for from, to := range map[string]string{next.CertFile: other, next.KeyFile: o.KeyFile} {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the one under the other name is served", func() bool { return serial(t, m, ca.Pool(), "r.example.com") == second })
	m.Close()
	if got := serial(t, start(t, o), ca.Pool(), "r.example.com"); got != second {
		t.Error("a restart serves another one")
	}
}
