package installer

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/ansible-free/host"
	"github.com/mirror-appliance/appliance/registry"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/client"
	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/tlsgen"
)

// serving is an installation whose daemon runs until the end of the test.
func serving(t *testing.T) Installation {
	t.Helper()
	l, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	plan, err := PlanPrepare(t.Context(), Request{QuayRoot: root, Hostname: "localhost.localdomain", Port: l.Addr().(*net.TCPAddr).Port}, Deps{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := plan.Apply(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- registry.Run(ctx, plan.site.cfg, registry.Options{Listeners: []net.Listener{l}}) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	for deadline := time.Now().Add(time.Minute); checkHealth(t.Context(), plan.site.cfg) != nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the registry does not answer")
		}
	}
	return Installation{Config: plan.site.cfg, QuayRoot: root, InitUser: "init", InitPassword: "of-the-first-run", Generated: true}
}

// seeded is seedUsers of a run that is expected to do just that.
func (in Installation) seeded(t *testing.T, want seeding) {
	t.Helper()
	if done, err := foreseeUsers(t.Context(), in); err != nil || done != want {
		t.Errorf("seedUsers would do %+v, %v; want %+v", done, err, want)
	}
	if done, err := seedUsers(t.Context(), in); err != nil || done != want {
		t.Errorf("seedUsers did %+v, %v; want %+v", done, err, want)
	}
}

// TestSeedUsers_passwordNotShown has runs that are killed before they show the
// password that they generated.
func TestSeedUsers_passwordNotShown(t *testing.T) {
	in := serving(t)
	for i, password := range []string{"of-the-first-run", "of-the-second-run"} {
		in.InitPassword = password
		in.seeded(t, seeding{admin: "init", password: true, puller: i == 0, first: i == 0})
		if err := checkInitPassword(t.Context(), in); err != nil {
			t.Errorf("the password %s: %v", in.InitPassword, err)
		}
	}
	if err := os.Remove(in.notShown()); err != nil {
		t.Fatal(err)
	}
	in.InitPassword = "of-a-run-after-it-was-shown"
	in.seeded(t, seeding{admin: "init"})
}

// TestSeedUsers_oneAdministrator has the first run with --initUser, and the later ones without.
func TestSeedUsers_oneAdministrator(t *testing.T) {
	in := serving(t)
	later := in
	in.InitUser, in.Named = "admin.x", true
	in.seeded(t, seeding{admin: "admin.x", password: true, puller: true, first: true})
	later.InitPassword = "of-the-second-run" // the first was killed before it showed its own
	later.seeded(t, seeding{admin: "admin.x", password: true})
	if err := os.Remove(in.notShown()); err != nil {
		t.Fatal(err)
	}
	later.InitPassword = "of-the-third-run"
	later.seeded(t, seeding{admin: "admin.x"})
	if right, err := CheckLogin(t.Context(), in.Config, "admin.x", "of-the-second-run"); !right || err != nil {
		t.Errorf("its password is another: %v", err)
	}
	in.InitUser = "second"
	in.seeded(t, seeding{admin: "second", password: true})
}

// TestSeedUsers_puller spoils the login of the nodes: a run makes it right again.
func TestSeedUsers_puller(t *testing.T) {
	in := serving(t)
	control := client.NewUnix(in.Config.ControlSocket)
	defer control.Close()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	in.seeded(t, seeding{admin: "init", password: true, puller: true, first: true})
	must(os.Remove(in.notShown()))
	for name, spoil := range map[string]func(){
		"a lost file":    func() { must(os.Remove(PullSecretFile(in.QuayRoot))) },
		"an empty file":  func() { must(os.WriteFile(PullSecretFile(in.QuayRoot), nil, 0o600)) },
		"a removed user": func() { must(control.DeleteUser(t.Context(), PullerUser)) },
		"a changed password": func() {
			_, err := control.ChangeUser(t.Context(), PullerUser, api.UserChange{Password: "of-another"})
			must(err)
		},
	} {
		spoil()
		in.seeded(t, seeding{admin: "init", puller: true})
		login, err := readSecret(host.Local(), in.QuayRoot, in.Config)
		if right, err2 := CheckAuth(t.Context(), in.Config, login); !right || err != nil || err2 != nil {
			t.Errorf("after %s the login is refused: %v, %v", name, err, err2)
		}
		in.seeded(t, seeding{admin: "init"})
	}
	must(os.Remove(PullSecretFile(in.QuayRoot)))
	in.Adopted = true
	in.seeded(t, seeding{admin: "init", kept: true})
	in.Adopted = false
	_, err := control.ChangeUser(t.Context(), PullerUser, api.UserChange{Role: "push", Password: "of-another"})
	must(err)
	in.seeded(t, seeding{admin: "init", role: "push"}) // that of a mirror-registry, for one
}

// TestCheckInitPassword has a certificate of the user's own, which names the
// registry and nothing else.
func TestCheckInitPassword(t *testing.T) {
	ca, err := tlsgen.CreateCA("the user's", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	certPEM, keyPEM, err := ca.IssueLeaf([]string{"registry.example.com"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Server", api.Product)
		if _, password, _ := r.BasicAuth(); password != "right password" {
			w.WriteHeader(http.StatusUnauthorized)
			w.Write([]byte(`{"error":"user name and password are wanted, or were wrong"}`))
			return
		}
		w.Write([]byte(`{"address":"registry.example.com:8443"}`))
	}))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	server.StartTLS()
	defer server.Close()
	conf := config.Default(t.TempDir())
	conf.Hostname, conf.Port = "registry.example.com", server.Listener.Addr().(*net.TCPAddr).Port
	conf.TLS.CA, conf.TLS.CAKey, conf.TLS.Certificate = "", "", filepath.Join(t.TempDir(), "own.crt")
	if err := os.WriteFile(conf.TLS.Certificate, certPEM, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := checkInitPassword(t.Context(), Installation{Config: conf, InitUser: "init", InitPassword: "right password"}); err != nil {
		t.Errorf("the right password: %v", err)
	}
	err = checkInitPassword(t.Context(), Installation{Config: conf, InitUser: "init", InitPassword: "wrong password"})
	if err == nil || !strings.Contains(err.Error(), "has another password") {
		t.Errorf("the wrong password: %v", err)
	}
}

// TestSeedPuller_SecretFirst ends with the user's creation, as an install that is killed does.
func TestSeedPuller_SecretFirst(t *testing.T) {
	conf := config.Default(t.TempDir())
	secret := filepath.Join(t.TempDir(), "quay-config", "pull-secret.json")
	if err := os.Mkdir(filepath.Dir(secret), 0o700); err != nil {
		t.Fatal(err)
	}
	there := false
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, err := os.Stat(secret)
		there = err == nil
		w.WriteHeader(http.StatusInternalServerError)
	}))
	socket := filepath.Join(t.TempDir(), "s")
	server.Listener.Close()
	var err error
	if server.Listener, err = net.Listen("unix", socket); err != nil {
		t.Fatal(err)
	}
	server.Start()
	defer server.Close()
	control := client.NewUnix(socket)
	defer control.Close()
	in := Installation{Config: conf, QuayRoot: filepath.Dir(filepath.Dir(secret))}
	if err := seedPuller(t.Context(), control, in, false); err == nil {
		t.Error("the user was made")
	}
	if !there {
		t.Error("the user was to be made before its secret was kept")
	}
}

// TestSeedPuller_DefaultPort: a node looks for the login under the name that the
// image reference has.
func TestSeedPuller_DefaultPort(t *testing.T) {
	root := t.TempDir()
	conf := config.Default(root)
	conf.Hostname, conf.Port = "registry.example.com", 443
	secret := PullSecretFile(root)
	if err := os.Mkdir(filepath.Dir(secret), 0o700); err != nil {
		t.Fatal(err)
	}
	control := client.NewUnix(filepath.Join(root, "nobody-listens"))
	defer control.Close()
	if err := seedPuller(t.Context(), control, Installation{Config: conf, QuayRoot: root}, false); err == nil {
		t.Error("the user was made")
	}
	content, err := os.ReadFile(secret)
	if err != nil || !strings.Contains(string(content), `"registry.example.com":`) || !strings.Contains(string(content), `"registry.example.com:443":`) {
		t.Errorf("the secret has %s, %v", content, err)
	}
}

// TestWriteSecret has the service, to which the directory belongs, wait for root with a link.
func TestWriteSecret(t *testing.T) {
	dir := t.TempDir()
	precious, secret := filepath.Join(dir, "precious"), filepath.Join(dir, "config", "secret")
	for _, err := range []error{
		os.WriteFile(precious, []byte("root's"), 0o644), os.Mkdir(filepath.Dir(secret), 0o700), os.Symlink(precious, secret),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	owner := os.Geteuid()
	if owner == 0 {
		owner = 65534
		if err := os.Chown(filepath.Dir(secret), owner, owner); err != nil {
			t.Fatal(err)
		}
	}
	if err := writeSecret(secret, []byte("password")); err != nil {
		t.Fatal(err)
	}
	if kept, err := os.ReadFile(precious); err != nil || string(kept) != "root's" {
		t.Errorf("what the link named has %q, %v", kept, err)
	}
	if written, err := os.ReadFile(secret); err != nil || string(written) != "password" {
		t.Errorf("the secret is %q, %v", written, err)
	}
	info, err := os.Lstat(secret)
	if err != nil {
		t.Fatal(err)
	}
	if uid := info.Sys().(*syscall.Stat_t).Uid; info.Mode() != 0o600 || int(uid) != owner {
		t.Errorf("the secret is %s, of %d, want it of %d", info.Mode(), uid, owner)
	}
	if left, err := os.ReadDir(filepath.Dir(secret)); err != nil || len(left) != 1 {
		t.Errorf("left are %v, %v", left, err)
	}
}

// What an install would do about users is foretold, also where it does nothing else.
func TestPlan_Pending_users(t *testing.T) {
	t.Parallel()
	b := newBox(t, false)
	b.install()
	const login = "/root/quay-install/quay-config/pull-secret.json"
	for want, would := range map[string]seeding{
		"": {admin: "init"},
		"give the user puller a new password, that of " + login + ": clusters need it in the place of the old one": {admin: "init", puller: true},
		"create the user puller (pull), whose login for clusters is in " + login:                                   {admin: "init", puller: true, first: true},
		"create the users admin.x (admin) and puller (pull)":                                                       {admin: "admin.x", puller: true, password: true, first: true},
		"create the user admin.x (admin), or give it a new password where no run has shown the last":               {admin: "admin.x", password: true},
	} {
		b.deps.Foresee = func(context.Context, Installation) (seeding, error) { return would, nil }
		lines, err := b.plan(b.request()).Pending(t.Context())
		if got := strings.Join(lines, "\n"); err != nil || got != want {
			t.Errorf("%+v: %q, %v; want %q", would, got, err, want)
		}
	}
	b.deps.Foresee = func(context.Context, Installation) (seeding, error) {
		return seeding{}, errors.New("it does not answer")
	}
	if lines, err := b.plan(b.request()).Pending(t.Context()); err != nil || len(lines) > 0 {
		t.Errorf("without an answer: %q, %v", lines, err)
	}
}
