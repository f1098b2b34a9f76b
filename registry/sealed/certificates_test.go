//go:build postgres

package sealed

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/store/database"
	"github.com/mirror-appliance/appliance/registry/store/migrations"
	"github.com/mirror-appliance/appliance/registry/store/postgres"
	"github.com/mirror-appliance/appliance/registry/store/postgres/postgrestest"
	"github.com/mirror-appliance/appliance/registry/store/sharedrows"
	"github.com/mirror-appliance/appliance/tlsgen"
)

const balancer = "registry.example.com"

// site is a database that daemons share.
type site struct {
	t       *testing.T
	server  *postgrestest.Server
	address string
}

func newSite(t *testing.T) *site { return (&site{t: t, server: testServer}).begin() }

func (s *site) begin() *site {
	s.t.Helper()
	var err error
	_, s.address, err = s.server.Database(s.t.Context(), "")
	must(s.t, err)
	return s
}

// testServer runs while the tests do.
var testServer *postgrestest.Server

func TestMain(m *testing.M) {
	code, err := runTests(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func runTests(m *testing.M) (code int, err error) {
	if testServer, err = postgrestest.Start(context.Background()); err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, testServer.Stop()) }()
	return m.Run(), nil
}

// host has files and a connection to the database of its own.
type host struct {
	*site
	db       *postgres.DB
	dir      string
	key      *Key
	hostname string
	log      *bytes.Buffer

	*tlsgen.Manager
	certificates *Certificates
	ca           *tlsgen.CA
}

func (s *site) host(key string) *host {
	s.t.Helper()
	db, err := postgres.Open(s.t.Context(), postgres.Options{Address: s.address, Migrations: migrations.Postgres(), Own: migrations.Own(), Several: true})
	must(s.t, err)
	h := &host{site: s, db: db, dir: s.t.TempDir(), key: readKey(s.t, key), hostname: balancer, log: new(bytes.Buffer)}
	s.t.Cleanup(func() { h.stop(); _ = db.Close() }) // a test may have stopped the server
	return h
}

// alone is postgres.Alone as the store has it.
type alone struct{ *postgres.Alone }

func (a alone) Within(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithCancel(ctx)
}

func (h *host) file(name string) string { return filepath.Join(h.dir, name) }

func (h *host) start() (err error) {
	log := slog.New(slog.NewTextHandler(h.log, nil))
	h.certificates, h.ca, err = Open(context.Background(), Options{Rows: sharedrows.New(h.db).Sealed, Key: h.key, CAFile: h.file("ca.pem"), KeyFile: h.file("ca-key.pem"), Hostname: h.hostname, Log: log,
		Alone: func(ctx context.Context) (Alone, error) {
			held, err := h.db.Alone(ctx, "certificate")
			return alone{held}, err
		}})
	if err != nil {
		return err
	}
	h.Manager, err = tlsgen.NewManager(context.Background(), tlsgen.Options{Names: []string{h.hostname, "localhost"}, CA: h.ca, CertFile: h.file("ssl.cert"), KeyFile: h.file("ssl.key"),
		StateDir: h.file("state"), CAFile: h.file("ca.pem"), CAKeyFile: h.file("ca-key.pem"), Shared: h.certificates, Log: log})
	return err
}

func (h *host) stop() {
	if h.Manager != nil {
		must(h.t, h.Close())
		h.Manager = nil
	}
}

// began starts a host, and returns it.
func (h *host) began() *host {
	h.t.Helper()
	must(h.t, h.start())
	return h
}

func (h *host) read(name string) string {
	h.t.Helper()
	text, err := os.ReadFile(h.file(name))
	must(h.t, err)
	return string(text)
}

func (h *host) serial() string {
	h.t.Helper()
	served, err := h.Served()
	must(h.t, err)
	return served.SerialNumber.String()
}

var files = map[string]os.FileMode{"ca.pem": 0o644, "ca-key.pem": 0o600, "ssl.cert": 0o644, "ssl.key": 0o600}

// equal asserts that two hosts serve the same and have the same files.
func (h *host) equal(other *host) {
	h.t.Helper()
	if h.serial() != other.serial() {
		h.t.Error("they serve different certificates")
	}
	for name, mode := range files {
		if h.read(name) != other.read(name) {
			h.t.Errorf("their %s differ", name)
		}
		if info, err := os.Stat(other.file(name)); err != nil || info.Mode() != mode {
			h.t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
}

// rows returns all that the table has.
func (h *host) rows() (all string) {
	h.t.Helper()
	must(h.t, database.Query(h.t.Context(), h.db.Reader(), func(rows *sql.Rows) error {
		var name, key string
		var value []byte
		err := rows.Scan(&name, &key, &value)
		all += name + key + string(value)
		return err
	}, `SELECT * FROM sealed`))
	return all
}

func TestCertificates(t *testing.T) {
	s := newSite(t)
	first := s.host("a").began()
	second := s.host("a").began()
	first.equal(second)
	if rows := first.rows(); len(rows) < 1000 || strings.Contains(rows, "PRIVATE") || strings.Contains(rows, "BEGIN") || strings.Contains(rows, "-key") {
		t.Errorf("the rows are %q", rows)
	}

	before := first.serial()
	must(t, first.Renew(t.Context()))
	if second.serial() != before || first.serial() == before {
		t.Error("it was renewed at the wrong daemon")
	}
	must(t, second.Refresh(t.Context()))
	first.equal(second)
	must(t, second.Renew(t.Context()))
	must(t, first.Refresh(t.Context()))
	first.equal(second)

	third := s.host("a").began() // takes what was renewed
	first.equal(third)
}

// Daemons that start at once have one CA and one certificate, whichever of them is the first.
func TestCertificates_atOnce(t *testing.T) {
	s := newSite(t)
	hosts := []*host{s.host("a"), s.host("a"), s.host("a")}
	var all sync.WaitGroup
	for _, h := range hosts {
		all.Go(func() {
			if err := h.start(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if t.Failed() {
		return
	}
	for _, h := range hosts[1:] {
		hosts[0].equal(h)
	}
}

// An install on another host has made another CA, which some clients trust.
func TestCertificates_anotherCA(t *testing.T) {
	s := newSite(t)
	first := s.host("a").began()
	second := s.host("a")
	other, err := tlsgen.CreateCA("another", time.Now())
	must(t, err)
	must(t, errors.Join(os.WriteFile(second.file("ca.pem"), other.CertPEM(), 0o644), os.WriteFile(second.file("ca-key.pem"), other.KeyPEM(), 0o600)))
	leaf, key, err := other.IssueLeaf([]string{balancer, "localhost"}, time.Now())
	must(t, err)
	must(t, errors.Join(os.WriteFile(second.file("ssl.cert"), leaf, 0o644), os.WriteFile(second.file("ssl.key"), key, 0o600)))
	second.began()
	first.equal(second)
	if second.read("ca.pem.replaced") != string(other.CertPEM()) || second.read("ca-key.pem.replaced") != string(other.KeyPEM()) || second.read("ssl.key.replaced") != string(key) {
		t.Error("what was replaced is not kept")
	}
	if !strings.Contains(second.log.String(), "clients that trust only the former") || strings.Contains(second.log.String(), "PRIVATE") {
		t.Errorf("the log is %s", second.log)
	}
}

// The first daemon's files are those of an install.
func TestCertificates_ofTheFirst(t *testing.T) {
	s := newSite(t)
	first := s.host("a")
	ca, err := tlsgen.CreateCA("installed", time.Now())
	must(t, err)
	must(t, errors.Join(os.WriteFile(first.file("ca.pem"), ca.CertPEM(), 0o644), os.WriteFile(first.file("ca-key.pem"), ca.KeyPEM(), 0o600)))
	first.began()
	first.equal(s.host("a").began())
	if first.read("ca.pem") != string(ca.CertPEM()) {
		t.Error("the CA is another one")
	}
	must(t, os.Remove(first.file("ca.pem")))
	lacking := newSite(t).host("a")
	must(t, os.WriteFile(lacking.file("ca-key.pem"), ca.KeyPEM(), 0o600))
	if err := lacking.start(); err == nil || !strings.Contains(err.Error(), "ca.pem") || hint.Of(err) == "" {
		t.Errorf("with half of a CA: %v", err)
	}
}

func TestCertificates_anotherKey(t *testing.T) {
	s := newSite(t)
	first := s.host("a").began()
	other := s.host("b")
	if err := other.start(); err == nil || !strings.Contains(err.Error(), "have another key than") || !strings.Contains(hint.Of(err), "appliance cert unshare") {
		t.Errorf("with another key: %v", err)
	}
	if _, err := os.Stat(other.file("ca.pem")); err == nil {
		t.Error("it has written files")
	}
	if first.serial() == "" {
		t.Error("nothing is served")
	}
}

// All daemons have the hostname of the balancer.
func TestCertificates_anotherHostname(t *testing.T) {
	for _, names := range [][]string{{balancer, "localhost"}, nil} { // those that the CA may sign for
		s := newSite(t)
		first, other := s.host("a"), s.host("a")
		ca, err := tlsgen.CreateCA("installed", time.Now(), names...)
		must(t, err)
		must(t, errors.Join(os.WriteFile(first.file("ca.pem"), ca.CertPEM(), 0o644), os.WriteFile(first.file("ca-key.pem"), ca.KeyPEM(), 0o600)))
		first.began()
		other.hostname = "other.example.com"
		if err := other.start(); err == nil || !strings.Contains(err.Error(), "for "+balancer) && !strings.Contains(err.Error(), "for other") || !strings.Contains(hint.Of(err), "one hostname, that of the balancer") {
			t.Errorf("a CA for %q: %v", names, err)
		}
	}
}

// Rows that were swapped do not decrypt, and running daemons go on with what they have.
func TestCertificates_changedRows(t *testing.T) {
	s := newSite(t)
	first := s.host("a").began()
	served := first.serial()
	v, err := first.certificates.rows.Get(t.Context(), leafRow)
	must(t, err)
	_, err = first.certificates.rows.Clear(t.Context())
	must(t, err)
	_, err = first.certificates.rows.Add(t.Context(), caRow, *v)
	must(t, err)
	if err := first.Refresh(t.Context()); err == nil || !strings.Contains(err.Error(), "does not decrypt") {
		t.Errorf("swapped: %v", err)
	}
	if _, notices := first.Trouble(); len(notices) != 1 || first.serial() != served {
		t.Errorf("its troubles are %v", notices)
	}
	if err := s.host("a").start(); err == nil || !strings.Contains(err.Error(), "does not decrypt") {
		t.Errorf("a start: %v", err)
	}
}

// The key of the daemons is changed: the rows are removed, and daemons restart one after the other.
func TestCertificates_unshare(t *testing.T) {
	s := newSite(t)
	first, second := s.host("a").began(), s.host("a").began()
	ca, served := first.read("ca.pem"), first.serial()
	n, err := first.certificates.rows.Clear(t.Context())
	if must(t, err); n != 2 {
		t.Errorf("%d rows", n)
	}
	must(t, errors.Join(first.Refresh(t.Context()), second.Refresh(t.Context())))
	if err := first.Renew(t.Context()); err == nil || first.serial() != served {
		t.Errorf("it is renewed for itself: %v", err)
	}
	first.stop()
	first.key = readKey(t, "b")
	first.began()
	if first.serial() != served || first.read("ca.pem") != ca {
		t.Error("it is another one")
	}
	if err := second.Refresh(t.Context()); err == nil || !strings.Contains(err.Error(), "have another key than") || second.serial() != served {
		t.Errorf("with the old key: %v", err)
	}
	second.stop()
	second.key = readKey(t, "b")
	second.began()
	first.equal(second)

	// With the same key no restart is needed.
	_, err = first.certificates.rows.Clear(t.Context())
	must(t, err)
	first.stop()
	first.began()
	must(t, second.Refresh(t.Context()))
	must(t, second.Renew(t.Context()))
	must(t, first.Refresh(t.Context()))
	first.equal(second)

	// Another CA is taken at the next start.
	_, err = first.certificates.rows.Clear(t.Context())
	must(t, err)
	first.stop()
	for name := range files {
		must(t, os.Remove(first.file(name)))
	}
	first.began()
	if err := second.Refresh(t.Context()); err == nil || !strings.Contains(err.Error(), "another CA") || second.read("ca.pem") != ca {
		t.Errorf("of another CA: %v", err)
	}
	second.stop()
	second.began()
	first.equal(second)
}

// While the database does not answer, nothing is renewed, and what is there is served.
func TestCertificates_withoutDatabase(t *testing.T) {
	server, err := postgrestest.Start(t.Context())
	must(t, err)
	t.Cleanup(func() { must(t, server.Stop()) })
	s := (&site{t: t, server: server}).begin()
	first := s.host("a").began()
	served := first.serial()
	must(t, s.server.Halt())
	if err := first.Renew(t.Context()); err == nil || first.serial() != served {
		t.Errorf("renewed: %v", err)
	}
	if err := first.Refresh(t.Context()); err == nil {
		t.Error("it is refreshed")
	}
	must(t, s.server.Begin(t.Context()))
	for first.Refresh(t.Context()) != nil { // until the pool has connected again
	}
	must(t, first.Renew(t.Context()))
	first.equal(s.host("a").began())
}
