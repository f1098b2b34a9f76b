//go:build postgres

package registry

import (
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/registry/auth"
	"github.com/mirror-appliance/appliance/registry/auth/logintest"
	"github.com/mirror-appliance/appliance/registry/store/migrations"
	"github.com/mirror-appliance/appliance/registry/store/postgres"
	"github.com/mirror-appliance/appliance/registry/store/postgres/postgrestest"
	"github.com/mirror-appliance/appliance/registry/store/sharedrows"
)

// twoDaemons returns the rows of one database by two connections, and the proxy of the second.
func twoDaemons(t *testing.T, server *postgrestest.Server) (one, other *sharedrows.Set, proxy *postgrestest.Proxy) {
	t.Helper()
	_, address, err := server.Database(t.Context(), "")
	must(t, err)
	proxy, err = server.Proxy()
	must(t, err)
	t.Cleanup(func() { must(t, proxy.Close()) })
	return sharedBy(t, address), sharedBy(t, proxy.Address(address)), proxy
}

// sharedBy returns the rows of a database by a connection of its own.
func sharedBy(t *testing.T, address string) *sharedrows.Set {
	t.Helper()
	db, err := postgres.Open(t.Context(), postgres.Options{Address: address, Migrations: migrations.Postgres(), Own: migrations.Own(), Several: true})
	must(t, err)
	t.Cleanup(func() { must(t, db.Close()) })
	return sharedrows.New(db)
}

func startServer(t *testing.T) *postgrestest.Server {
	t.Helper()
	server, err := postgrestest.Start(t.Context())
	must(t, err)
	t.Cleanup(func() { must(t, server.Stop()) })
	return server
}

func TestPostgres_logins(t *testing.T) {
	server := startServer(t)
	logintest.Run(t, func(t *testing.T) (one, other auth.Logins) {
		a, b, _ := twoDaemons(t, server)
		return sharedLogins{a.Logins}, sharedLogins{b.Logins}
	})

	a, b, proxy := twoDaemons(t, server)
	began := time.Now()
	now := auth.LoginRecord{Token: auth.LoginToken{1}, User: "init", Began: began, Used: began}
	idle := auth.LoginRecord{Token: auth.LoginToken{2}, User: "init", Began: began, Used: began.Add(-3 * time.Hour)}
	old := auth.LoginRecord{Token: auth.LoginToken{3}, User: "init", Began: began.Add(-13 * time.Hour), Used: began}
	for _, l := range []auth.LoginRecord{now, idle, old} {
		must(t, sharedLogins{a.Logins}.Add(t.Context(), l, auth.LoginLimits{User: 32, All: 1024}))
	}
	t.Run("uses within a minute are not written", func(t *testing.T) {
		for range 3 { // the connection prepares its statements
			_, _, err := sharedLogins{b.Logins}.Get(t.Context(), now.Token)
			must(t, err)
		}
		before := proxy.Answers.Load()
		for n := range 60 {
			must(t, sharedLogins{b.Logins}.Use(t.Context(), now, began.Add(time.Duration(n)*time.Second)))
		}
		if n := proxy.Answers.Load() - before; n != 0 {
			t.Errorf("%d round trips for 60 uses within a minute", n)
		}
	})
	t.Run("those that are over are swept", func(t *testing.T) {
		used, start := auth.LoginsOver(began)
		must(t, b.Logins.Sweep(t.Context(), used, start))
		for _, l := range []auth.LoginRecord{now, idle, old} {
			if _, ok, err := (sharedLogins{a.Logins}).Get(t.Context(), l.Token); ok != (l == now) || err != nil {
				t.Errorf("login %d is there: %t, %v", l.Token[0], ok, err)
			}
		}
	})
}
