package main_test

import (
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/cmd/sample-upstream/sample"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/config"
)

// newUpstream starts a sample upstream, and returns its host:port too.
func newUpstream(t *testing.T) (upstream *httptest.Server, source string) {
	t.Helper()
	upstream = httptest.NewUnstartedServer(nil)
	source = upstream.Listener.Addr().String()
	content, err := sample.New(source)
	must(t, err)
	upstream.Config.Handler = content.Handler()
	upstream.Start()
	t.Cleanup(upstream.Close)
	return upstream, source
}

// syncs configures a daemon that mirrors an image set by itself, from sources that are read where
// registries.conf says.
func (f *faulty) syncs(t *testing.T, set, registriesConf string) config.Sync {
	t.Helper()
	dir := t.TempDir()
	of := config.Sync{ImageSet: filepath.Join(dir, "set.yaml"), Workspace: filepath.Join(dir, "ws"), Interval: time.Hour}
	must(t, os.WriteFile(of.ImageSet, []byte("kind: ImageSetConfiguration\napiVersion: mirror.openshift.io/v2alpha1\nmirror:\n"+set), 0o600))
	conf := filepath.Join(dir, "registries.conf")
	must(t, os.WriteFile(conf, []byte(registriesConf), 0o600))
	t.Setenv("CONTAINERS_REGISTRIES_CONF", conf)
	f.cfg.Sync = []config.Sync{of}
	text, err := f.cfg.Marshal()
	must(t, err)
	must(t, os.WriteFile(config.Path(f.root), text, 0o644))
	return of
}

// site is an appliance that mirrors from a sample upstream by the commands.
type site struct {
	*faulty
	dir, source, address string
	upstream             *httptest.Server
	env                  []string // of its clients
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{faulty: newFaulty(t, ""), dir: t.TempDir()}
	s.upstream, s.source = newUpstream(t)
	_, port, err := net.SplitHostPort(s.socket.Name())
	must(t, err)
	s.address = "localhost:" + port
	text, err := os.ReadFile(config.Path(s.root))
	must(t, err)
	text = []byte(strings.Replace(string(text), "port: 8443", "port: "+port, 1))
	must(t, os.WriteFile(config.Path(s.root), text, 0o644))
	s.start(t)
	hash := quickHash(t)
	for _, role := range []string{"admin", "pull", "init"} {
		_, err := s.admin.CreateUser(t.Context(), api.NewUser{Name: role, Role: strings.Replace(role, "init", "admin", 1), PasswordHash: hash})
		must(t, err)
	}
	return s
}

// configure starts the daemon again with another configuration.
func (s *site) configure(t *testing.T, change func(*config.Config)) {
	t.Helper()
	s.stop(t)
	text, err := os.ReadFile(config.Path(s.root))
	must(t, err)
	cfg, err := config.Parse("config.yaml", text)
	must(t, err)
	change(cfg)
	text, err = cfg.Marshal()
	must(t, err)
	must(t, os.WriteFile(config.Path(s.root), text, 0o644))
	s.start(t)
}

// run runs a client to its end.
func (s *site) run(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	return outcome(t, s.client(args...))
}

// client is a command of the program, which needs no --quayRoot.
func (s *site) client(args ...string) *exec.Cmd {
	c := exec.Command(s.program, args...)
	c.Dir = s.dir
	c.Env = append(os.Environ(), "HOME="+s.dir, "REGISTRY_AUTH_FILE=", "SSL_CERT_FILE="+s.cfg.TLS.CA, "CONTAINERS_REGISTRIES_CONF=/dev/null")
	c.Env = append(c.Env, s.env...)
	return c
}

// works is run of a command that must succeed.
func (s *site) works(t *testing.T, args ...string) (stdout string) {
	t.Helper()
	code, stdout, stderr := s.run(t, args...)
	if code != 0 {
		t.Fatalf("%q ended with %d\n%s\n%s", args, code, stdout, stderr)
	}
	return stdout
}

// set writes an image set.
func (s *site) set(t *testing.T, name, mirror string) (file string) {
	t.Helper()
	file = filepath.Join(s.dir, name)
	text := "kind: ImageSetConfiguration\napiVersion: mirror.openshift.io/v2alpha1\nmirror:\n" + strings.ReplaceAll(mirror, "HOST", s.source)
	must(t, os.WriteFile(file, []byte(text), 0o600))
	return file
}

// mirror mirrors an image set into the appliance.
func (s *site) mirror(t *testing.T, set string, flags ...string) {
	t.Helper()
	s.works(t, append([]string{"mirror", "-c", set, "docker://" + s.address, "--workspace", "file://" + s.dir + "/ws",
		"--src-tls-verify=false", "--dest-creds", "admin:" + faultPassword}, flags...)...)
}
