package registry_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"golang.org/x/crypto/bcrypt"

	"github.com/mirror-appliance/appliance/registry"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/client"
	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/registry/store/storetest"
	"github.com/mirror-appliance/appliance/tlsgen"
)

const (
	host     = "registry.test:8443"
	password = "long-enough"
)

// running is a daemon as a client sees it: over TLS, and over its control socket.
type running struct {
	cfg    *config.Config
	http   *http.Client // trusts the CA, and reaches the daemon whatever the host
	admin  *client.Client
	roots  *x509.CertPool
	addr   string
	log    *buffer
	access *buffer
	stop   context.CancelFunc
	ended  chan error // has what Run returned
}

// start runs a daemon until the test ends. It has three users, named as their roles.
func start(t *testing.T, change ...func(*config.Config)) *running {
	t.Helper()
	cfg, roots := configure(t)
	for _, c := range change {
		c(cfg)
	}
	r := run(t, cfg, roots)
	r.users(t)
	return r
}

// users makes three users, named as their roles. Their hashes are those that a computer makes fastest.
func (r *running) users(t *testing.T) {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	must(t, err)
	for _, role := range []string{"admin", "push", "pull"} {
		_, err := r.admin.CreateUser(t.Context(), api.NewUser{Name: role, Role: role, PasswordHash: string(hash)})
		must(t, err)
	}
}

// restart ends a daemon, and runs another on what it has left.
func (r *running) restart(t *testing.T) *running {
	t.Helper()
	r.end(t)
	return run(t, r.cfg, r.roots)
}

func run(t *testing.T, cfg *config.Config, roots *x509.CertPool) *running {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	return runOn(t, cfg, roots, l)
}

func runOn(t *testing.T, cfg *config.Config, roots *x509.CertPool, l net.Listener) *running {
	t.Helper()
	r := beginOn(t, cfg, roots, l)
	// The listener was there before the daemon, so this waits until it serves.
	want := http.StatusOK
	if cfg.MinFree > 1<<50 { // more than any disk has: every push is refused
		want = http.StatusServiceUnavailable
	}
	if status, body := r.get(t, "/health/instance"); status != want {
		t.Fatalf("health is %d %s\n%s", status, body, r.log)
	}
	return r
}

// beginOn begins a daemon, which may not serve yet.
func beginOn(t *testing.T, cfg *config.Config, roots *x509.CertPool, l net.Listener) *running {
	t.Helper()
	r := &running{cfg: cfg, roots: roots, addr: l.Addr().String(), log: &buffer{}, access: &buffer{}, ended: make(chan error, 1)}
	r.http = r.client(&tls.Config{RootCAs: roots, ServerName: cfg.Hostname})
	r.admin = client.NewUnix(cfg.ControlSocket)
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	go func() {
		r.ended <- registry.Run(ctx, cfg, registry.Options{
			Log: slog.New(slog.NewTextHandler(r.log, nil)), AccessLog: slog.New(slog.NewTextHandler(r.access, nil)),
			Listeners: []net.Listener{l}, Version: "v0-test", Mirror: mirrorPlain,
		})
	}()
	t.Cleanup(func() { r.end(t) })
	return r
}

func configure(t *testing.T) (*config.Config, *x509.CertPool) {
	t.Helper()
	root := t.TempDir()
	cfg := config.Default(root)
	cfg.Hostname = "registry.test"
	cfg.GC.Interval = 0
	cfg.GC.GracePeriod = 0
	sockets, err := os.MkdirTemp("", "sock") // t.TempDir can be too long for a socket
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(sockets) })
	cfg.ControlSocket = filepath.Join(sockets, "s")
	for _, dir := range []string{cfg.Storage, filepath.Dir(cfg.Database), filepath.Dir(cfg.TLS.Certificate), filepath.Dir(cfg.TLS.CA), cfg.TLS.State} {
		must(t, os.MkdirAll(dir, 0o700))
	}
	ca, err := tlsgen.CreateCA("test", time.Now())
	must(t, err)
	must(t, os.WriteFile(cfg.TLS.CA, ca.CertPEM(), 0o644))
	must(t, os.WriteFile(cfg.TLS.CAKey, ca.KeyPEM(), 0o600))
	onServers(t, cfg, storetest.New(t, root))
	return cfg, ca.Pool()
}

// onServers has a daemon keep its rows and blobs where the environment has the tests of the store keep theirs.
func onServers(t *testing.T, cfg *config.Config, at storetest.Place) {
	t.Helper()
	if os.Getenv("APPLIANCE_TEST_DATABASE")+os.Getenv("APPLIANCE_TEST_STORAGE") == "" {
		return
	}
	gc := cfg.GC
	cfg.GC.GracePeriod = time.Minute // the least that a file may have
	cfg.StorageCredentials = at.Credentials
	text, err := cfg.Marshal()
	must(t, err)
	text = bytes.Replace(text, []byte("\nstorage: "+cfg.Storage), []byte("\nstorage: "+at.Storage), 1)
	if strings.HasPrefix(at.Database, "postgres:") {
		text = bytes.Replace(text, []byte("\ndatabase: "+cfg.Database), []byte("\ndatabase: "+at.Database), 1)
	}
	parsed, err := config.Parse("config.yaml", text)
	must(t, err)
	*cfg = *parsed
	cfg.GC = gc
}

// client is a client of its own, with its own connections.
func (r *running) client(c *tls.Config) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", r.addr)
		},
		TLSClientConfig: c, ForceAttemptHTTP2: len(c.NextProtos) == 0,
	}}
}

// end drains the daemon, once, and asserts that it ended well.
func (r *running) end(t *testing.T) {
	t.Helper()
	if r.stop == nil {
		return
	}
	r.http.CloseIdleConnections()
	r.admin.Close()
	r.stop()
	r.stop = nil
	if err := <-r.ended; err != nil {
		t.Errorf("the daemon ended with %v\n%s", err, r.log)
	}
}

// get asks without a login.
func (r *running) get(t *testing.T, path string) (int, string) {
	t.Helper()
	return r.as(t, "", http.MethodGet, path)
}

// as asks as a user, "" without a login.
func (r *running) as(t *testing.T, user, method, path string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "https://"+host+path, nil)
	must(t, err)
	if user != "" {
		req.SetBasicAuth(user, password)
	}
	resp, err := r.http.Do(req)
	must(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	must(t, err)
	return resp.StatusCode, string(body)
}

// remote are the options with which go-containerregistry acts as a user.
func (r *running) remote(t *testing.T, user, pw string) []remote.Option {
	return []remote.Option{
		remote.WithContext(t.Context()), remote.WithTransport(r.http.Transport),
		remote.WithAuth(&authn.Basic{Username: user, Password: pw}),
	}
}

func tag(t *testing.T, s string) name.Tag {
	t.Helper()
	ref, err := name.NewTag(host + "/" + s)
	must(t, err)
	return ref
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// buffer is a log that can be read while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
