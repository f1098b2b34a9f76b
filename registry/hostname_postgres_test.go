//go:build postgres

package registry

import (
	"testing"

	"github.com/mirror-appliance/appliance/registry/store/migrations"
	"github.com/mirror-appliance/appliance/registry/store/postgres"
	"github.com/mirror-appliance/appliance/registry/store/sharedrows"
)

// The daemons that run have one hostname. Once none runs, another may be given.
func TestPostgres_hostname(t *testing.T) {
	server := startServer(t)
	_, address, err := server.Database(t.Context(), "")
	must(t, err)
	open := func() *postgres.DB {
		db, err := postgres.Open(t.Context(), postgres.Options{Address: address, Migrations: migrations.Postgres(), Own: migrations.Own(), Several: true})
		must(t, err)
		t.Cleanup(func() { _ = db.Close() }) // the test closes some
		return db
	}
	is := func(db *postgres.DB, hostname, want string) {
		t.Helper()
		other, at, err := sharedrows.New(db).Hostname.Claim(t.Context(), db.Member(), hostname)
		if must(t, err); other != want || (at == "") != (want == "") {
			t.Errorf("%s is refused for %q at %q, want %q", hostname, other, at, want)
		}
	}
	leave := func(db *postgres.DB) {
		must(t, db.Leave(t.Context()))
		must(t, db.Close())
	}
	a := open()
	is(a, "a.example.com", "")
	b := open()
	is(b, "a.example.com", "")
	is(b, "b.example.com", "a.example.com")
	is(a, "a.example.com", "")
	leave(a)
	is(b, "b.example.com", "")
	c := open()
	is(c, "a.example.com", "b.example.com")
	leave(c)
	leave(b)
	d := open()
	is(d, "a.example.com", "")
	leave(d)
}
