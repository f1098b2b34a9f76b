package role_test

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/role"
	"github.com/mirror-appliance/appliance/registry/store"
)

const password = "long-enough"

// appliance is a family over a real store, served with TLS.
type appliance struct {
	*role.Family
	t      *testing.T
	dir    string
	id     string // which stays when the process has ended
	store  *store.Store
	server *httptest.Server
	log    *bytes.Buffer

	list      sync.Mutex // guards followers alone: it is read while the process is being ended, under mu
	followers []role.Peer
	mu        sync.Mutex
	going     []string // what the other lacks
	pushed    []string // content: what was acknowledged
	behind    func() error
	version   string // without a family: it is older
	stop      context.CancelFunc
	notes     *killing
	seal      *role.Seal
}

// killing is the notes of a process that can be killed at a write: before it, or after it.
type killing struct {
	of     role.Notes
	mu     sync.Mutex
	writes int
	at     int // the write at which it is killed; 0: at none
	after  bool
	dead   bool
}

var errKilled = errors.New("killed")

func (k *killing) Note(ctx context.Context, name string) (string, error) { return k.of.Note(ctx, name) }

func (k *killing) SetNote(ctx context.Context, name, text string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.dead {
		return errKilled
	}
	k.writes++
	if k.at == k.writes && !k.after {
		k.dead = true
		return errKilled
	}
	err := k.of.SetNote(ctx, name, text)
	if k.at == k.writes {
		k.dead = true
		return errKilled
	}
	return err
}

func (k *killing) killed() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.dead
}

func newAppliance(t *testing.T) *appliance {
	t.Helper()
	a := &appliance{t: t, dir: t.TempDir(), log: &bytes.Buffer{}, behind: func() error { return nil }}
	a.serve()
	a.start()
	t.Cleanup(func() { a.kill(); a.server.Close() })
	return a
}

// serve listens at an address that stays the same over restarts.
func (a *appliance) serve() {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/status", func(w http.ResponseWriter, r *http.Request) {
		user, given, _ := r.BasicAuth()
		w.Header().Set("Server", api.Product)
		refuse := func(status int) {
			w.WriteHeader(status)
			_ = json.NewEncoder(w).Encode(api.Refusal{Problem: "refused"})
		}
		switch {
		case given != password:
			refuse(http.StatusUnauthorized)
			return
		case user != "admin":
			refuse(http.StatusForbidden)
			return
		}
		s := api.Status{Address: a.address(), Version: "v0"}
		if a.version == "" {
			now := a.Describe()
			s.Family = &now
		}
		_ = json.NewEncoder(w).Encode(s)
	})
	mux.HandleFunc("POST /api/v1/family", func(w http.ResponseWriter, r *http.Request) { a.ServeHTTP(w, r) })
	a.server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		up := a.Family != nil && !a.notes.killed()
		a.mu.Unlock()
		if !up {
			panic(http.ErrAbortHandler)
		}
		mux.ServeHTTP(w, r)
		if a.notes.killed() { // the answer is lost
			panic(http.ErrAbortHandler)
		}
	}))
}

func (a *appliance) address() string { return strings.TrimPrefix(a.server.URL, "https://") }

func (a *appliance) ca() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.server.Certificate().Raw}))
}

// start starts the process.
func (a *appliance) start() {
	a.t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	s, err := store.Open(ctx, store.Options{Database: filepath.Join(a.dir, "db"), Storage: filepath.Join(a.dir, "blobs")})
	must(a.t, err)
	notes := &killing{of: s}
	f, err := role.Open(ctx, role.Options{Notes: notes, Address: a.address(), Seal: a.seal, Log: slog.New(slog.NewTextHandler(a.log, nil)),
		Followers: func(context.Context) ([]role.Peer, error) {
			a.list.Lock()
			defer a.list.Unlock()
			return a.followers, nil
		},
		Compare: func(context.Context, api.FollowRequest) (api.Difference, error) {
			return api.Difference{Going: len(a.going), First: a.going}, nil
		},
		CatchUp: func(context.Context) error { return a.behind() },
		Behind:  func() string { return "last equal to it at noon" },
	})
	must(a.t, err)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.Family, a.store, a.notes, a.stop, a.id = f, s, notes, stop, f.State().ID
}

// kill ends the process: nothing but what is in the database stays.
func (a *appliance) kill() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.Family == nil {
		return
	}
	a.stop()
	must(a.t, a.store.Close())
	a.Family = nil
}

func (a *appliance) restart() {
	a.t.Helper()
	a.kill()
	a.start()
}

// talk asks the others as a daemon does at its start, and goes on.
func (a *appliance) talk() {
	ctx, stop := context.WithCancel(context.Background())
	before := a.stop
	ended := make(chan struct{})
	f := a.Family
	f.Ask()
	a.stop = func() { stop(); before(); <-ended }
	go func() {
		defer close(ended)
		_ = f.Talk(ctx)
	}()
}

// request is what an administrator asks of a follower of first.
func request(first *appliance) api.FollowRequest {
	return api.FollowRequest{Address: first.address(), User: "admin", Password: password, CA: first.ca()}
}

// follows makes a a follower of first.
func (a *appliance) follows(first *appliance) {
	a.t.Helper()
	_, err := a.Follow(a.t.Context(), request(first))
	must(a.t, err)
	a.register(first)
}

// register is what the engine of a follower does with the first request.
func (a *appliance) register(first *appliance) {
	a.t.Helper()
	s := a.State()
	first.has(role.Peer{ID: s.ID, Address: a.address(), CA: a.ca(), Token: s.First.Token})
}

// has gives it a follower.
func (a *appliance) has(p role.Peer) {
	a.t.Helper()
	a.list.Lock()
	a.followers = append(others(a.followers, p.ID), p)
	a.list.Unlock()
	must(a.t, a.Registered(a.t.Context(), p))
}

// forget drops the row of a follower, as when that leaves.
func (a *appliance) forget(other *appliance) {
	a.list.Lock()
	defer a.list.Unlock()
	a.followers = others(a.followers, other.id)
}

func others(all []role.Peer, id string) []role.Peer {
	return slices.DeleteFunc(slices.Clone(all), func(p role.Peer) bool { return p.ID == id })
}

// removes is what an administrator does with a follower.
func (a *appliance) removes(other *appliance) {
	a.t.Helper()
	a.forget(other)
	must(a.t, a.Removed(a.t.Context(), other.id))
}

// asks restarts it, and returns once it has asked the others.
func (a *appliance) asks() {
	a.t.Helper()
	a.restart()
	a.talk()
	_ = a.Check(a.t.Context())
}

// moves gives it another address.
func (a *appliance) moves() {
	a.t.Helper()
	a.kill()
	a.server.Close()
	a.serve()
	a.start()
}

func (a *appliance) promote(force bool) (api.Promoted, error) {
	return a.Promote(context.Background(), api.PromoteRequest{Force: force}, func(api.PromoteProgress) {})
}

func (a *appliance) mustBe(want role.Role) {
	a.t.Helper()
	if s := a.State(); s.Role != want {
		a.t.Errorf("%s is %s, want %s: %+v", a.address(), s.Role, want, s.Known)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// otherCA is a certificate that no appliance of the tests has.
const otherCA = `-----BEGIN CERTIFICATE-----
MIIBeDCCAR2gAwIBAgIUdPHdhTUVBTeCKu47rD00N1O0I3YwCgYIKoZIzj0EAwIw
EDEOMAwGA1UEAwwFb3RoZXIwIBcNMjYxMTMwMDkxMDIyWhgPMjEyNjExMDYwOTEw
MjJaMBAxDjAMBgNVBAMMBW90aGVyMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE
uIodPFS042xTXkjKu5DfOpV0eAz+sU4qRU5W8XB0x1YSA1YjUuNCjNLxpz6OXTfF
JyFEgGA42sLvsKiSer2IQaNTMFEwHQYDVR0OBBYEFAsOId+iL8b/AtKRzPtoQPM0
oZ8jMB8GA1UdIwQYMBaAFAsOId+iL8b/AtKRzPtoQPM0oZ8jMA8GA1UdEwEB/wQF
MAMBAf8wCgYIKoZIzj0EAwIDSQAwRgIhAM21hmpSTLEDilTj3QOBQLY3Jk1Arxjv
eOvAZQGmW7JWAiEA/GI1ZuwngnmCYYKhbxWfgpG7j9mQslD5YMynu1mFw68=
-----END CERTIFICATE-----
`
