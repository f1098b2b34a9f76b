//go:build several

package main_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/auth"
	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/registry/store/postgres"
)

// Each request of a client comes to another daemon, and is answered as by one.
func TestSeveral_requests(t *testing.T) {
	f := newTogether(t, 2)
	m := newTestImage("app", "v1", randomBytes(100<<10), randomBytes(1<<10))
	must(t, f.push(t.Context(), m))
	for range 2 { // each request by each daemon
		f.whole(t, m)
		f.next.Add(1)
	}

	t.Run("an upload in chunks of more than a part", func(t *testing.T) { f.chunks(t) })
	t.Run("tags", func(t *testing.T) { f.tags(t) })
	t.Run("tokens and users", func(t *testing.T) { f.logins(t) })
	t.Run("deletion and collection", func(t *testing.T) { f.deletes(t, m) })
	t.Run("clocks that differ", func(t *testing.T) { f.clocks(t) })
	for i := range f.sent {
		if f.sent[i].Load() < 20 {
			t.Errorf("daemon %d had %d requests: the balancer has not balanced", i, f.sent[i].Load())
		}
	}
	for _, d := range f.daemons {
		if report, err := d.admin.Verify(t.Context(), api.VerifyRequest{Content: true}, nil); err != nil || len(report.Problems) > 0 {
			t.Errorf("verify: %v, %v", report.Problems, err)
		}
	}
	for _, d := range f.daemons {
		d.stop(t)
	}
}

// whole asserts that an image is there, whole.
func (f *together) whole(t *testing.T, m *testImage) {
	t.Helper()
	if whole, err := f.pull(t.Context(), m); err != nil || !whole {
		t.Errorf("%s:%s is whole: %t, %v", m.repo, m.tag, whole, err)
	}
}

// chunks sends an upload whose parts come from different daemons.
func (f *together) chunks(t *testing.T) {
	content := randomBytes(30 << 20)
	d := digest.FromBytes(content)
	a, err := f.demand(t.Context(), http.StatusAccepted, http.MethodPost, "/v2/app/blobs/uploads/", nil)
	must(t, err)
	for rest := content; len(rest) > 0; {
		n := min(len(rest), 7<<20)
		a, err = f.demand(t.Context(), http.StatusAccepted, http.MethodPatch, a.header.Get("Location"), bytes.NewReader(rest[:n]))
		must(t, err)
		rest = rest[n:]
		state, err := f.demand(t.Context(), http.StatusNoContent, http.MethodGet, a.header.Get("Location"), nil)
		must(t, err)
		if want := fmt.Sprintf("0-%d", len(content)-len(rest)-1); state.header.Get("Range") != want {
			t.Fatalf("the other daemon has the bytes %s, not %s", state.header.Get("Range"), want)
		}
		f.next.Add(1) // or each chunk would come to the same one
	}
	_, err = f.demand(t.Context(), http.StatusCreated, http.MethodPut, withDigest(a.header.Get("Location"), d), nil)
	must(t, err)
	for range 2 {
		a, err := f.demand(t.Context(), http.StatusOK, http.MethodGet, "/v2/app/blobs/"+d.String(), nil)
		must(t, err)
		if digest.FromBytes(a.body) != d {
			t.Error("the blob has other bytes")
		}
	}
}

// tags moves and deletes a tag, and looks at it at the daemon that did not.
func (f *together) tags(t *testing.T) {
	for n := range 10 {
		m := newTestImage("moving", "latest", randomBytes(10+n))
		must(t, f.push(t.Context(), m))
		for range 2 {
			a, err := f.demand(t.Context(), http.StatusOK, http.MethodGet, m.path()+"latest", nil)
			must(t, err)
			if !bytes.Equal(a.body, m.body) {
				t.Errorf("after move %d a daemon has an older image", n)
			}
		}
	}
	_, err := f.demand(t.Context(), http.StatusAccepted, http.MethodDelete, "/v2/moving/manifests/latest", nil)
	must(t, err)
	for range 2 {
		_, err := f.demand(t.Context(), http.StatusNotFound, http.MethodGet, "/v2/moving/manifests/latest", nil)
		must(t, err)
		a, err := f.demand(t.Context(), http.StatusOK, http.MethodGet, "/v2/moving/tags/list", nil)
		must(t, err)
		if strings.Contains(string(a.body), "latest") {
			t.Errorf("a deleted tag is listed: %s", a.body)
		}
	}
}

// logins asks for a token at each daemon and uses it at the other, and changes a user.
func (f *together) logins(t *testing.T) {
	status := func(user, password, token string) int {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://localhost:8443/v2/app/tags/list", nil)
		must(t, err)
		if r.SetBasicAuth(user, password); token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		resp, err := f.http.Do(r)
		must(t, err)
		must(t, resp.Body.Close())
		return resp.StatusCode
	}
	for range 2 {
		a, err := f.demand(t.Context(), http.StatusOK, http.MethodGet, "/v2/auth?service=localhost:8443&scope=repository:app:pull", nil)
		must(t, err)
		var got struct{ Token string }
		must(t, json.Unmarshal(a.body, &got))
		for range 2 {
			if s := status("", "", got.Token); s != http.StatusOK {
				t.Errorf("a token is answered with %d", s)
			}
		}
		f.next.Add(1)
	}
	if s := status("", "", f.forged(t)); s != http.StatusUnauthorized {
		t.Errorf("a token that a dump of the database has signed is answered with %d", s)
	}
	_, err := f.daemons[0].admin.CreateUser(t.Context(), api.NewUser{Name: "robot", Role: "pull", Password: "its-first-password"})
	must(t, err)
	for range 2 {
		if s := status("robot", "its-first-password", ""); s != http.StatusOK {
			t.Errorf("a new user gets %d", s)
		}
	}
	_, err = f.daemons[1].admin.ChangeUser(t.Context(), "robot", api.UserChange{Password: "its-second-password"})
	must(t, err)
	for range 2 {
		if old, changed := status("robot", "its-first-password", ""), status("robot", "its-second-password", ""); old != http.StatusUnauthorized || changed != http.StatusOK {
			t.Errorf("after its password was changed, the old one gets %d and the new one %d", old, changed)
		}
		f.next.Add(1)
	}
	must(t, f.daemons[0].admin.DeleteUser(t.Context(), "robot"))
	for range 2 {
		if s := status("robot", "its-second-password", ""); s != http.StatusUnauthorized {
			t.Errorf("a deleted user gets %d", s)
		}
	}
}

// forged returns a token of user init, signed by one who has the database and not the key of the hosts.
func (f *together) forged(t *testing.T) string {
	t.Helper()
	db, err := sql.Open("pgx", f.server)
	must(t, err)
	defer db.Close() //nolint:errcheck // it has read what it should
	var secret []byte
	row := auth.Record{Role: string(auth.Admin)}
	must(t, db.QueryRowContext(t.Context(), `SELECT value FROM secrets WHERE name = 'upload-state'`).Scan(&secret))
	must(t, db.QueryRowContext(t.Context(), `SELECT password_hash FROM users WHERE name = 'init'`).Scan(&row.PasswordHash))
	forger := auth.New(stolen{row})
	forger.SignWith(secret)
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v2/auth?scope=repository:app:pull", nil)
	r.SetBasicAuth("init", faultPassword) // of the one whose token it is to be
	w := httptest.NewRecorder()
	forger.Tokens(func(h http.Handler) http.Handler { return h }).ServeHTTP(w, r)
	var got struct{ Token string }
	must(t, json.Unmarshal(w.Body.Bytes(), &got))
	return got.Token
}

// stolen is the row of a user of a stolen database.
type stolen struct{ auth.Record }

func (s stolen) Lookup(context.Context, string) (auth.Record, bool, error) {
	return s.Record, true, nil
}

// deletes deletes an image by one daemon, and collects by the other.
func (f *together) deletes(t *testing.T, m *testImage) {
	kept := newTestImage("kept", "v1", m.contents[0])
	must(t, f.push(t.Context(), kept))
	_, err := f.demand(t.Context(), http.StatusAccepted, http.MethodDelete, m.path()+m.digest.String(), nil)
	must(t, err)
	for i, d := range f.daemons {
		if _, err := d.admin.GC(t.Context(), api.GCRequest{}, nil); err != nil {
			t.Errorf("daemon %d: %v", i, err)
		}
	}
	for range 2 {
		f.whole(t, kept)
		if whole, err := f.pull(t.Context(), m); whole || err != nil {
			t.Errorf("a deleted image is whole: %t, %v", whole, err)
		}
	}
}

// clocks sets the clock of the database, and asks for what is told of it.
func (f *together) clocks(t *testing.T) {
	db, err := postgres.Beside(f.server, nil)
	must(t, err)
	defer db.Close()
	var now string
	must(t, db.QueryRowContext(t.Context(), `SELECT prosrc FROM pg_proc WHERE proname = 'appliance_now'`).Scan(&now))
	set := func(text string) {
		t.Helper()
		_, err := db.ExecContext(t.Context(), `CREATE OR REPLACE FUNCTION appliance_now() RETURNS bigint LANGUAGE sql VOLATILE AS $$ `+text+` $$`)
		must(t, err)
	}
	for change, want := range map[string]string{" + 20000000000": "behind that of the database", " - 20000000000": "ahead of that of the database", "": ""} {
		set(now + change)
		_, stdout, _ := outcome(t, f.daemons[1].command("doctor"))
		if told := strings.Contains(stdout, "the clock of this host is"); told != (want != "") || !strings.Contains(stdout, want) {
			t.Errorf("with the clock%s:\n%s", change, stdout)
		}
	}
	set(now)
}

// While clients push, a daemon is killed and the balancer finds out. What was acknowledged is there, at
// the other one and at the killed one when it has come up.
func TestSeveral_daemonIsKilled(t *testing.T) {
	f := newTogether(t, 2)
	var mu sync.Mutex
	var pushed []*testImage
	var cut atomic.Bool
	stop := make(chan struct{})
	var workers sync.WaitGroup
	for i := range 3 {
		workers.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				m := newTestImage(fmt.Sprint("app", i), fmt.Sprint("v", n), randomBytes(20<<10))
				err := f.push(t.Context(), m)
				var refused *refusal
				switch {
				case err == nil:
					mu.Lock()
					pushed = append(pushed, m)
					mu.Unlock()
				case cut.Load() && errors.As(err, &refused) && refused.status == http.StatusBadGateway: // of the balancer
				case cut.Load() && errors.As(err, &refused) && refused.status == http.StatusNotFound: // its upload had not been saved
				default:
					t.Error(err)
					return
				}
			}
		})
	}
	count := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(pushed)
	}
	until := func(n int) {
		for count() < n && !t.Failed() {
			if a, err := f.ask(t.Context(), http.MethodGet, "/v2/", nil); err == nil && a.status != http.StatusOK && a.status != http.StatusBadGateway {
				t.Errorf("/v2/ is answered %d", a.status)
			}
		}
	}
	until(5)
	cut.Store(true)
	f.daemons[1].kill()
	f.down.Store(2)
	until(count() + 5)
	f.daemons[1].start(t)
	f.down.Store(0)
	until(count() + 5)
	close(stop)
	workers.Wait()
	for range 2 {
		for _, m := range pushed {
			f.whole(t, m)
		}
		f.next.Add(1)
	}
	if report, err := f.daemons[0].admin.Verify(t.Context(), api.VerifyRequest{Content: true}, nil); err != nil || len(report.Problems) > 0 {
		t.Errorf("verify: %v, %v", report.Problems, err)
	}
}

// A daemon without the key, and a command that has to have the store alone, are refused while others run,
// and are told where.
func TestSeveral_refused(t *testing.T) {
	f := newTogether(t, 2)
	host, err := os.Hostname()
	must(t, err)
	where := "is in use by the appliance on " + host
	other := f.host(t, false)
	other.refuses(t, []string{"serve"}, where, "sharedKey", "appliance docs several")
	f.daemons[1].stop(t)
	f.daemons[1].refuses(t, []string{"gc", "--dry-run"}, where)
	to, _ := newFaulty(t, "").emptyStore(t, "copy")
	code, _, stderr := outcome(t, exec.Command(f.program, "store", "copy", "--from", config.Path(f.daemons[1].root), "--to", to))
	if code != 2 || !strings.Contains(stderr, where) {
		t.Errorf("store copy: exit code %d, %s", code, stderr)
	}
	named := f.host(t, true)
	named.cfg.Hostname = "other.example.com"
	text, err := named.cfg.Marshal()
	must(t, err)
	must(t, os.WriteFile(config.Path(named.root), text, 0o644))
	named.refuses(t, []string{"serve"}, "hostname", "other.example.com", f.daemons[0].cfg.Hostname, where[len("is in use by the appliance on "):]+" (process ")
	f.daemons[0].stop(t)
	if out, err := f.daemons[1].command("gc", "--dry-run").CombinedOutput(); err != nil {
		t.Errorf("once all are stopped: %v\n%s", err, out)
	}
	f.daemons[0].start(t)
}

// TestConformance_severalDaemons runs the suite of the OCI distribution specification, which `make conformance`
// builds and APPLIANCE_CONFORMANCE names, against two daemons.
func TestConformance_severalDaemons(t *testing.T) {
	program := os.Getenv("APPLIANCE_CONFORMANCE")
	if program == "" {
		t.Fatal("APPLIANCE_CONFORMANCE is empty: run `make conformance`")
	}
	f := newTogether(t, 2)
	dir := t.TempDir()
	suite := exec.Command(program)
	suite.Dir = dir
	suite.Env = append(os.Environ(), "OCI_VERSION=1.1", "OCI_REGISTRY="+strings.Replace(f.address, "127.0.0.1", "localhost", 1), "SSL_CERT_FILE="+f.cfg.TLS.CA,
		"OCI_REPO1=conformance/repo1", "OCI_REPO2=conformance/repo2", "OCI_USERNAME=init", "OCI_PASSWORD="+faultPassword,
		"OCI_RESULTS_DIR="+dir, "OCI_API_BLOBS_DIGEST_HEADER=true", "OCI_API_MANIFESTS_DIGEST_HEADER=true", "OCI_API_BLOBS_UPLOAD_CANCEL=true",
		"OCI_API_MANIFESTS_TAG_PARAM=true")
	out, err := suite.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Error(err)
	}
	for i := range f.sent {
		if n := f.sent[i].Load(); n < 500 {
			t.Errorf("daemon %d had %d requests", i, n)
		}
	}
}
