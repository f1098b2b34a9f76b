package tlsgen

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// options are for a registry in a directory of its own, as install lays it out.
func options(t *testing.T, ca *CA, names ...string) Options {
	t.Helper()
	dir := t.TempDir()
	return Options{
		Names: names, CA: ca, StateDir: filepath.Join(dir, "tls-state"),
		CertFile: filepath.Join(dir, "ssl.cert"), KeyFile: filepath.Join(dir, "ssl.key"),
	}
}

func start(t *testing.T, o Options) *Manager {
	t.Helper()
	m, err := NewManager(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// dial makes a handshake with the manager's server and gives what the client saw.
func dial(t *testing.T, m *Manager, client *tls.Config) (tls.ConnectionState, error) {
	t.Helper()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", m.TLSConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	served := make(chan error, 1)
	go func() {
		conn, err := listener.Accept()
		if err == nil {
			err = errors.Join(conn.(*tls.Conn).Handshake(), conn.Close())
		}
		served <- err
	}()
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: time.Minute}, "tcp", listener.Addr().String(), client)
	<-served
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer conn.Close()
	return conn.ConnectionState(), nil
}

func serial(t *testing.T, m *Manager, roots *x509.CertPool, name string) string {
	t.Helper()
	state, err := dial(t, m, &tls.Config{RootCAs: roots, ServerName: name})
	if err != nil {
		t.Fatal(err)
	}
	return state.PeerCertificates[0].SerialNumber.String()
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !holds(); {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func fileSerial(t *testing.T, o Options) string {
	t.Helper()
	_, cert, err := readPair(o.CertFile, o.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	return cert.Leaf.SerialNumber.String()
}

func TestManager_Handshakes(t *testing.T) {
	ca := newCA(t)
	m := start(t, options(t, ca, "registry.example.com", "localhost", "127.0.0.1"))
	for name, c := range map[string]struct {
		config *tls.Config
		fails  string
	}{
		"by name":             {config: &tls.Config{ServerName: "registry.example.com"}},
		"by second name":      {config: &tls.Config{ServerName: "localhost"}},
		"by address":          {config: &tls.Config{ServerName: "127.0.0.1"}}, // an address is never sent as SNI
		"TLS 1.2":             {config: &tls.Config{ServerName: "localhost", MaxVersion: tls.VersionTLS12}},
		"TLS 1.1":             {config: &tls.Config{ServerName: "localhost", MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, fails: "protocol version"},
		"unknown name":        {config: &tls.Config{ServerName: "other.example.com"}, fails: "not other.example.com"},
		"unknown name, quiet": {config: &tls.Config{ServerName: "other.example.com", InsecureSkipVerify: true}},
	} {
		t.Run(name, func(t *testing.T) {
			c.config.RootCAs = ca.Pool()
			c.config.NextProtos = []string{"h2"}
			state, err := dial(t, m, c.config)
			if c.fails != "" {
				if err == nil || !strings.Contains(err.Error(), c.fails) {
					t.Fatalf("error %v, want one about %q", err, c.fails)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if state.NegotiatedProtocol != "h2" || len(state.PeerCertificates) != 2 {
				t.Errorf("protocol %q, chain of %d", state.NegotiatedProtocol, len(state.PeerCertificates))
			}
		})
	}
}

func TestManager_Files(t *testing.T) {
	ca := newCA(t)
	o := options(t, ca, "r.example.com")
	m := start(t, o)
	for file, mode := range map[string]os.FileMode{o.CertFile: 0o644, o.KeyFile: 0o600} {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != mode {
			t.Errorf("%s has mode %v, want %v", file, info.Mode(), mode)
		}
	}
	certPEM, err := os.ReadFile(o.CertFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasSuffix(certPEM, ca.CertPEM()) {
		t.Error("the file does not hold the leaf followed by the CA")
	}
	if file, served := fileSerial(t, o), serial(t, m, ca.Pool(), "r.example.com"); file != served {
		t.Errorf("file holds %s, served is %s", file, served)
	}
	if !m.NotAfter().Equal(parse(t, certPEM).NotAfter) {
		t.Errorf("NotAfter %s", m.NotAfter())
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(o.CertFile), ".*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %q %v", left, err)
	}
}

// install writes a leaf beside the daemon's configuration, as the installer does.
func install(t *testing.T, o Options, signer *CA, now time.Time, names ...string) string {
	t.Helper()
	certPEM, keyPEM, err := signer.IssueLeaf(names, now)
	if err != nil {
		t.Fatal(err)
	}
	put(t, o.CertFile, certPEM)
	put(t, o.KeyFile, keyPEM)
	return parse(t, certPEM).SerialNumber.String()
}

func TestManager_Start(t *testing.T) {
	day := 24 * time.Hour
	ca := oldCA(t)
	other := newCA(t)
	for name, c := range map[string]struct {
		prepare func(t *testing.T, o Options) string // gives the serial of what was there
		kept    bool
	}{
		"adopts what install issued": {func(t *testing.T, o Options) string {
			return install(t, o, ca, time.Now(), "r.example.com", "localhost", "extra.example.com")
		}, true},
		"adopts a leaf of middle age": {func(t *testing.T, o Options) string {
			return install(t, o, ca, time.Now().Add(-200*day), "r.example.com", "localhost")
		}, true},
		"renews one that is due": {func(t *testing.T, o Options) string {
			return install(t, o, ca, time.Now().Add(-300*day), "r.example.com", "localhost")
		}, false},
		"replaces an expired one": {func(t *testing.T, o Options) string {
			return install(t, o, ca, time.Now().Add(-500*day), "r.example.com", "localhost")
		}, false},
		"replaces one that lacks a name": {func(t *testing.T, o Options) string {
			return install(t, o, ca, time.Now(), "r.example.com")
		}, false},
		"replaces one with another first name": {func(t *testing.T, o Options) string {
			return install(t, o, ca, time.Now(), "localhost", "r.example.com")
		}, false},
		"replaces one of another CA": {func(t *testing.T, o Options) string {
			return install(t, o, other, time.Now(), "r.example.com", "localhost")
		}, false},
		"replaces a torn pair": {func(t *testing.T, o Options) string {
			old := install(t, o, ca, time.Now(), "r.example.com", "localhost")
			_, keyPEM, err := ca.IssueLeaf([]string{"r.example.com"}, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			put(t, o.KeyFile, keyPEM)
			return old
		}, false},
		"replaces an empty file": {func(t *testing.T, o Options) string {
			old := install(t, o, ca, time.Now(), "r.example.com", "localhost")
			put(t, o.CertFile, nil)
			return old
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t, ca, "r.example.com", "localhost")
			before := c.prepare(t, o)
			m := start(t, o)
			served := serial(t, m, ca.Pool(), "localhost")
			if (served == before) != c.kept {
				t.Errorf("kept %v, want %v", served == before, c.kept)
			}
			if file := fileSerial(t, o); file != served {
				t.Errorf("file holds %s, served is %s", file, served)
			}
		})
	}
}

func TestManager_SetsAsideWhatItDidNotSign(t *testing.T) {
	ca, other := newCA(t), newCA(t)
	o := options(t, ca, "r.example.com")
	before := install(t, o, other, time.Now(), "r.example.com")
	start(t, o)
	aside := o
	aside.CertFile, aside.KeyFile = o.CertFile+".replaced", o.KeyFile+".replaced"
	if got := fileSerial(t, aside); got != before {
		t.Errorf("set aside %s, want %s", got, before)
	}
}

// A file that is in the place of ours may be the only copy, also when it cannot be used.
func TestManager_SetsAsideWhatItCannotUse(t *testing.T) {
	ca, other := newCA(t), newCA(t)
	for name, spoil := range map[string]func(t *testing.T, o Options){
		"a key with a passphrase": func(t *testing.T, o Options) {
			put(t, o.KeyFile, []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"))
		},
		"a key of something else": func(t *testing.T, o Options) { put(t, o.KeyFile, other.KeyPEM()) },
		"a broken certificate":    func(t *testing.T, o Options) { put(t, o.CertFile, []byte("-----BEGIN CERTIFICATE-----\nDER")) },
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t, ca, "r.example.com")
			install(t, o, other, time.Now(), "r.example.com")
			spoil(t, o)
			var before [][]byte
			for _, file := range []string{o.CertFile, o.KeyFile} {
				before = append(before, get(t, file))
			}
			m := start(t, o)
			serial(t, m, ca.Pool(), "r.example.com")
			for i, file := range []string{o.CertFile, o.KeyFile} {
				if !bytes.Equal(get(t, file+".replaced"), before[i]) {
					t.Errorf("%s was not kept", file)
				}
			}
		})
	}
}

// A start that fails between the two files must not make the next one take the key for our own.
func TestManager_SetsAsideTheKeyFirst(t *testing.T) {
	ca, other := newCA(t), newCA(t)
	o := options(t, ca, "r.example.com")
	install(t, o, other, time.Now(), "r.example.com")
	key := get(t, o.KeyFile)
	if err := os.Mkdir(o.KeyFile+".replaced", 0o700); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if m, err := NewManager(t.Context(), o); err == nil {
			m.Close()
			t.Error("started though the key cannot be kept")
		}
	}
	if !bytes.Equal(get(t, o.KeyFile), key) {
		t.Error("the key is lost")
	}
}

func get(t *testing.T, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// Before its own CA was made, a clock is wrong: a battery is empty, and no time
// server has answered yet.
func TestManager_ClockBeforeTheCA(t *testing.T) {
	day := 24 * time.Hour
	ca := oldCA(t)
	o := options(t, ca, "r.example.com")
	before := install(t, o, ca, time.Now().Add(-10*day), "r.example.com")
	o.Now = func() time.Time { return time.Unix(0, 0) }
	if got := serial(t, start(t, o), ca.Pool(), "r.example.com"); got != before {
		t.Error("the leaf, which clients accept, was replaced")
	}
}

func TestManager_Restart(t *testing.T) {
	ca := newCA(t)
	o := options(t, ca, "r.example.com")
	first := start(t, o)
	before := serial(t, first, ca.Pool(), "r.example.com")
	first.Close()

	t.Run("keeps the leaf", func(t *testing.T) {
		m := start(t, o)
		defer m.Close()
		if got := serial(t, m, ca.Pool(), "r.example.com"); got != before {
			t.Error("another leaf")
		}
	})
	t.Run("keeps the leaf when its storage is lost or torn", func(t *testing.T) {
		keys, err := filepath.Glob(filepath.Join(o.StateDir, "certificates", "*", "*", "*.key"))
		if err != nil || len(keys) != 1 {
			t.Fatalf("keys in the storage: %q %v", keys, err)
		}
		put(t, keys[0], ca.KeyPEM())
		m := start(t, o)
		defer m.Close()
		if got := serial(t, m, ca.Pool(), "r.example.com"); got != before {
			t.Error("another leaf")
		}
	})
	t.Run("issues for new names", func(t *testing.T) {
		o := o
		o.Names = []string{"r.example.com", "new.example.com"}
		m := start(t, o)
		defer m.Close()
		if got := serial(t, m, ca.Pool(), "new.example.com"); got == before {
			t.Error("the same leaf")
		}
	})
}

// uniqueName is for tests that renew. certmagic remembers failed renewals by name for
// the whole process, and Close makes the one under way fail; a second run in the same
// process would wait for it.
func uniqueName() string { return strings.ToLower(rand.Text()) + ".example.com" }

// renewing is a manager whose leaf is always due for renewal, and what makes certmagic
// look, as its clock does.
func renewing(t *testing.T, ca *CA) (m *Manager, o Options, look func()) {
	t.Helper()
	o = options(t, ca, uniqueName(), "127.0.0.1")
	o.lifetime = backdate + 10*time.Minute // backdated as it is, its last third has begun
	m = start(t, o)
	return m, o, func() {
		t.Helper()
		if err := m.source.(*managed).cache.RenewManagedCertificates(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestManager_Renews(t *testing.T) {
	ca := newCA(t)
	m, o, look := renewing(t, ca)
	for range 3 { // each renewal has to find its certificate where the one before put it
		before := serial(t, m, ca.Pool(), "127.0.0.1")
		eventually(t, "another leaf is served", func() bool {
			look() // which does nothing while the job of the renewal before has not ended, and that serves its leaf first
			return serial(t, m, ca.Pool(), o.Names[0]) != before
		})
		eventually(t, "the leaf in the file is served", func() bool { // the last look may have begun one more
			_, cert, err := readPair(o.CertFile, o.KeyFile)
			return err == nil && cert.Leaf.SerialNumber.String() == serial(t, m, ca.Pool(), "127.0.0.1")
		})
	}
	for file, mode := range map[string]os.FileMode{o.CertFile: 0o644, o.KeyFile: 0o600} {
		if info, err := os.Stat(file); err != nil || info.Mode() != mode {
			t.Errorf("%s: %v %v", file, info, err)
		}
	}
}

func TestManager_CloseEndsRenewals(t *testing.T) {
	ca := newCA(t)
	m, o, look := renewing(t, ca)
	look()
	m.Close()
	m.Close()                  // a second time does no harm
	before := fileSerial(t, o) // whole, whether the renewal came first or Close
	look()
	if err := m.source.(*managed).storage.Lock(context.Background(), "x"); !errors.Is(err, errClosed) {
		t.Errorf("a renewal may begin after Close: %v", err)
	}
	if ok, err := m.source.(*managed).storage.TryLock(context.Background(), "x"); ok || err != nil {
		t.Errorf("a renewal may begin after Close: %v %v", ok, err)
	}
	if got := fileSerial(t, o); got != before {
		t.Error("a renewal wrote the files after Close")
	}
}

func TestManager_UnwritableFile(t *testing.T) {
	o := options(t, newCA(t), "r.example.com")
	o.CertFile = filepath.Join(o.CertFile, "is", "no", "directory")
	_, err := NewManager(t.Context(), o)
	if hint.Of(err) == "" || !strings.Contains(err.Error(), o.CertFile) {
		t.Errorf("got %v", err)
	}
}
