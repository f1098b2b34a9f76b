// Package storetest gives the tests of other packages a store to open: SQLite and files, or what the environment names as
// for the tests of the store itself. APPLIANCE_TEST_DATABASE=postgres has a server of PostgreSQL run meanwhile,
// APPLIANCE_TEST_STORAGE=s3 a bucket for each store.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/mirror-appliance/appliance/registry/store"
	"github.com/mirror-appliance/appliance/registry/store/blobs3/s3test"
	"github.com/mirror-appliance/appliance/registry/store/postgres/postgrestest"
)

// onServer is the server that Run has started, nil for SQLite.
var onServer *testServer

// testServer is a server with a database that all are copies of.
type testServer struct {
	*postgrestest.Server
	template string
}

// Run runs the tests of a package, and ends the process: TestMain calls it.
func Run(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	switch name := os.Getenv("APPLIANCE_TEST_DATABASE"); name {
	case "":
		return m.Run(), nil
	case "postgres":
	default:
		return 1, fmt.Errorf("APPLIANCE_TEST_DATABASE is %q: it is postgres or empty", name)
	}
	server, err := postgrestest.Start(context.Background())
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	onServer = &testServer{Server: server}
	if onServer.template, err = server.Template(context.Background(), migrate); err != nil {
		return 1, err
	}
	return m.Run(), nil
}

// migrate makes the tables in an empty database.
func migrate(ctx context.Context, address string) error {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	s, err := store.Open(ctx, store.Options{Database: address, Storage: dir})
	if err != nil {
		return err
	}
	return s.Close()
}

// Place is where a store is, until the test ends.
type Place struct {
	store.Options
	Objects string // directory in which blobs are files of their names, as the server of S3 has them too
}

// Files returns a place in files of a directory, whatever the environment names.
func Files(dir string) Place {
	storage := filepath.Join(dir, "storage")
	return Place{Options: store.Options{Database: filepath.Join(dir, "appliance.db"), Storage: storage}, Objects: storage}
}

// New returns a place in files of a directory as far as the environment names no server.
func New(t testing.TB, dir string) Place {
	t.Helper()
	p := Files(dir)
	if onServer != nil {
		p.Database = database(t)
	}
	if os.Getenv("APPLIANCE_TEST_STORAGE") == "s3" {
		bucket := s3test.Start(t)
		p.Storage, _ = bucket.Address(t, "")
		p.Credentials, p.Objects = bucket.Credentials, bucket.Dir
	}
	return p
}

// database returns the address of a new database.
func database(t testing.TB) string {
	t.Helper()
	name, address, err := onServer.Database(context.Background(), onServer.template)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := onServer.Drop(context.Background(), name); err != nil {
			t.Error(err)
		}
	})
	return address
}
