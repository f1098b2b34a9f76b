//go:build postgres

package postgres

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/pgurl"
	"github.com/mirror-appliance/appliance/registry/store/database"
	"github.com/mirror-appliance/appliance/registry/store/postgres/postgrestest"
)

// login makes a user with a password, and returns options with that user and a file of passwords.
func (f *fixture) login(t *testing.T) (o Options, file string) {
	f.beside(`DROP ROLE IF EXISTS login; CREATE ROLE login SUPERUSER LOGIN PASSWORD 'first'`)
	file = filepath.Join(t.TempDir(), "pgpass")
	f.must(os.WriteFile(file, []byte("*:*:*:login:first\n"), 0o600))
	o = f.options
	o.Address = strings.Replace(o.Address, "appliance@", "login@", 1)
	return o, file
}

func TestOpen_password(t *testing.T) {
	f := newFixture(t)
	f.must(f.Close())
	f.DB = nil
	o, file := f.login(t)
	named := o
	named.Address += "&passfile=" + file
	opens := func(o Options) error {
		db, err := Open(f.ctx, o)
		if err == nil {
			err = db.Close()
		}
		return err
	}
	f.must(opens(named))
	t.Setenv("PGPASSFILE", file)
	f.must(opens(o))
	t.Setenv("PGPASSFILE", "")
	home := t.TempDir()
	t.Setenv("HOME", home)
	var down *database.UnavailableError
	if err := opens(o); !errors.As(err, &down) || hint.Of(err) == "" {
		t.Errorf("without a password: %v", err)
	}
	f.must(os.WriteFile(filepath.Join(home, ".pgpass"), []byte("*:*:*:login:first\n"), 0o600))
	f.must(opens(o))

	for _, c := range []struct {
		what  string
		spoil func() error
	}{
		{"others may read", func() error { return os.Chmod(file, 0o640) }},
		{"cannot be read", func() error { return os.Rename(file, file+".away") }},
	} {
		what := c.what
		f.must(c.spoil())
		if err := opens(named); err == nil || !strings.Contains(err.Error(), "the login of the database") || !strings.Contains(hint.Of(err), "chmod 600 "+file) {
			t.Errorf("%s: %v, %q", what, err, hint.Of(err))
		}
	}
	f.must(os.WriteFile(file, []byte("*:*:*:login:wrong\n"), 0o600))
	named.Starting = f.ctx // a wrong password is not waited for
	if err := opens(named); !errors.As(err, &down) || codeOf(err) != "28P01" || strings.Contains(err.Error()+hint.Of(err), "wrong") || !strings.Contains(hint.Of(err), "PGPASSWORD in the environment") {
		t.Errorf("a wrong password: %v", err)
	}
}

// A password is read again for each connection.
func TestDB_passwordChanges(t *testing.T) {
	f := newFixture(t)
	f.must(f.Close())
	f.DB = nil
	o, file := f.login(t)
	o.Address += "&passfile=" + file
	db, err := Open(f.ctx, o)
	f.must(err)
	defer func() { f.must(db.Close()) }()
	f.beside(`ALTER ROLE login PASSWORD 'second'`)
	f.must(os.WriteFile(file, []byte("*:*:*:login:second\n"), 0o600))
	f.beside(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'login'`)
	f.must(db.Share(f.ctx, insertNote("a", 1)))
}

// Open waits for a server that is not up yet while it is told to.
func TestOpen_waitsForTheServer(t *testing.T) {
	ctx := t.Context()
	server, err := postgrestest.Start(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	}()
	_, address, err := server.Database(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Halt(); err != nil {
		t.Fatal(err)
	}
	o := Options{Address: address, Migrations: versions(2)}
	var down *database.UnavailableError
	if _, err := Open(ctx, o); !errors.As(err, &down) || hint.Of(err) != pgurl.Unreachable { // no command connects again
		t.Errorf("unasked: %v, hint %q", err, hint.Of(err))
	}
	ended, end := context.WithCancel(ctx)
	end()
	o.Starting = ended
	if _, err := Open(ctx, o); !errors.Is(err, context.Canceled) {
		t.Errorf("while the daemon is to end: %v", err)
	}
	o.Starting = ctx
	opened := make(chan error, 1)
	go func() {
		db, err := Open(ctx, o)
		if err == nil {
			err = db.Close()
		}
		opened <- err
	}()
	select {
	case err := <-opened:
		t.Fatalf("it did not wait: %v", err)
	default:
	}
	if err := server.Begin(ctx); err != nil {
		t.Fatal(err)
	}
	if err := <-opened; err != nil {
		t.Error(err)
	}
}

// The end of a start does not wait for a server that accepts connections and answers nothing.
func TestOpen_endsWithTheStart(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	starting, end := context.WithCancel(t.Context())
	go func() {
		if conn, err := l.Accept(); err == nil {
			defer conn.Close()
			end()
			<-t.Context().Done()
		}
	}()
	o := Options{Address: "postgres://login@" + l.Addr().String() + "/appliance?sslmode=disable", Migrations: versions(2), Starting: starting}
	o.Waiting = func(_ string, err error) {
		if err != nil {
			t.Errorf("the attempt went on until it failed: %v", err)
		}
	}
	if _, err := Open(t.Context(), o); !errors.Is(err, context.Canceled) {
		t.Errorf("Open gives %v", err)
	}
}
