package tlsgen

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// shared are the files of a CA and what an install has copied of it.
type shared struct {
	dir, ca, key string
	copies       []string
}

func installed(t *testing.T, ca *CA) shared {
	t.Helper()
	dir := t.TempDir()
	s := shared{dir: dir, ca: put(t, filepath.Join(dir, "rootCA.pem"), ca.CertPEM()), key: put(t, filepath.Join(dir, "rootCA-key.pem"), ca.KeyPEM())}
	for _, name := range CACopies(s.ca, ca.CertPEM()) {
		s.copies = append(s.copies, put(t, name, ca.CertPEM()))
	}
	if len(s.copies) != 2 {
		t.Fatalf("the copies are %q", s.copies)
	}
	return s
}

func (s shared) take(t *testing.T, ca *CA) (log string) {
	t.Helper()
	var text bytes.Buffer
	if _, err := TakeCA(s.ca, s.key, ca.CertPEM(), ca.KeyPEM(), slog.New(slog.NewTextHandler(&text, nil))); err != nil {
		t.Fatal(err)
	}
	return text.String()
}

// mustBe fails unless each file by which a client finds a CA has this one.
func (s shared) mustBe(t *testing.T, ca *CA) {
	t.Helper()
	for _, name := range append(CACopies(s.ca, ca.CertPEM()), s.ca) {
		if !bytes.Equal(get(t, name), ca.CertPEM()) {
			t.Errorf("%s is of another CA", name)
		}
	}
}

// What podman, curl and OpenSSL read in the directory is the CA that the daemons share.
func TestTakeCA_copies(t *testing.T) {
	renamed, err := CreateCA("another", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for name, other := range map[string]*CA{"of the same name": newCA(t), "of another name": renamed} {
		t.Run(name, func(t *testing.T) {
			former := newCA(t)
			s := installed(t, former)
			s.take(t, other)
			s.mustBe(t, other)
			if same := s.copies[1] == CACopies(s.ca, other.CertPEM())[1]; same != (name == "of the same name") {
				t.Errorf("the names of the hashes are the same: %v", same)
			} else if _, err := os.Stat(s.copies[1]); err == nil != same {
				t.Errorf("the copy of the former CA: %v", err)
			}
			// A former version, or a person, has replaced the CA alone.
			for _, name := range CACopies(s.ca, other.CertPEM()) {
				put(t, name, former.CertPEM())
			}
			if log := s.take(t, other); log != "" {
				t.Errorf("the log is %s", log)
			}
			s.mustBe(t, other)
		})
	}
}

// A directory that no install has made has no copies, and gets none.
func TestTakeCA_withoutCopies(t *testing.T) {
	s := installed(t, newCA(t))
	for _, name := range s.copies {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	s.take(t, newCA(t))
	for _, name := range s.copies {
		if _, err := os.Stat(name); err == nil {
			t.Errorf("%s is made", name)
		}
	}
}

// A copy that cannot be written is a warning: the daemon needs none.
func TestTakeCA_unwritableCopy(t *testing.T) {
	s := installed(t, newCA(t))
	if err := os.Remove(s.copies[0]); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(s.copies[0], 0o755); err != nil {
		t.Fatal(err)
	}
	other := newCA(t)
	if log := s.take(t, other); !strings.Contains(log, "level=WARN") || !strings.Contains(log, s.copies[0]) || !strings.Contains(log, "hint=") {
		t.Errorf("the log is %s", log)
	}
	if !bytes.Equal(get(t, s.copies[1]), other.CertPEM()) {
		t.Errorf("%s is of another CA", s.copies[1])
	}
}

func TestManager_Trouble_copyOfAnotherCA(t *testing.T) {
	ca := newCA(t)
	s := installed(t, ca)
	o := options(t, ca, "registry.example.com")
	o.CAFile, o.CAKeyFile = s.ca, s.key
	m := start(t, o)
	if refused, soon := troubles(t, m); refused+soon != "" {
		t.Errorf("%s%s", refused, soon)
	}
	for _, name := range s.copies {
		put(t, name, newCA(t).CertPEM())
		if _, soon := troubles(t, m); !strings.Contains(soon, name+": it is not the CA of "+s.ca) {
			t.Errorf("of %s: %q", name, soon)
		}
		if _, notices := m.Trouble(); len(notices) == 1 && hint.Of(notices[0]) != "as root: cp "+s.ca+" "+name {
			t.Errorf("the hint is %q", hint.Of(notices[0]))
		}
		put(t, name, ca.CertPEM())
	}
}
