//go:build s3 && postgres

package transfer_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/store/blobs3/s3test"
	"github.com/mirror-appliance/appliance/registry/store/blobstore"
	"github.com/mirror-appliance/appliance/registry/store/postgres/postgrestest"
	"github.com/mirror-appliance/appliance/registry/store/transfer"
)

var server *postgrestest.Server

func testAll(m *testing.M) int {
	var err error
	if server, err = postgrestest.Start(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if err := server.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// others are the kinds of stores that a test copies from or to.
func others(*testing.T) map[string]func(*testing.T) place {
	return map[string]func(*testing.T) place{
		"SQLite and files":     inFiles,
		"SQLite and S3":        func(t *testing.T) place { return inS3(t, inFiles(t)) },
		"PostgreSQL and files": func(t *testing.T) place { return inPostgres(t, inFiles(t)) },
		"PostgreSQL and S3":    func(t *testing.T) place { return inS3(t, inPostgres(t, inFiles(t))) },
	}
}

func inS3(t *testing.T, p place) place {
	t.Helper()
	bucket := s3test.Start(t)
	p.Storage, _ = bucket.Address(t, "")
	p.Credentials, p.objects = bucket.Credentials, bucket.Dir
	return p
}

func inPostgres(t *testing.T, p place) place {
	t.Helper()
	name, address, err := server.Database(t.Context(), "")
	must(t, err)
	t.Cleanup(func() { must(t, server.Drop(context.Background(), name)) })
	p.Database = address
	return p
}

// The bucket of another store has no blobs yet, and is refused all the same.
func TestRun_toTheBucketOfAnother(t *testing.T) {
	from, other, to := inFiles(t), inS3(t, inFiles(t)), inFiles(t)
	fill(t, from)
	must(t, other.open(t).Close())
	to.Storage, to.Credentials = other.Storage, other.Credentials
	for _, dry := range []bool{true, false} {
		_, err := transfer.Run(t.Context(), transfer.Options{From: from.Side, To: to.Side, DryRun: dry})
		if err == nil || !strings.Contains(err.Error(), "is that of another store") || !strings.Contains(hint.Of(err), "name another place") {
			t.Errorf("Run gives %v, hint %q", err, hint.Of(err))
		}
	}
}

// A copy that breaks off before the storage is handed over leaves it to the source, until it is repeated.
func TestRun_handsOverLast(t *testing.T) {
	for name, database := range map[string]func(t *testing.T, p place) place{
		"SQLite":     func(_ *testing.T, p place) place { return p },
		"PostgreSQL": inPostgres,
	} {
		t.Run(name, func(t *testing.T) {
			bucket := s3test.Start(t)
			from := database(t, inFiles(t))
			from.Storage, _ = bucket.Address(t, "")
			from.Credentials, from.objects = bucket.Credentials, bucket.Dir
			to := from.beside(inPostgres(t, inFiles(t)))
			fill(t, from)
			bucket.Fault(func(r *http.Request) s3test.Action {
				if r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/owner") {
					return s3test.Conflict
				}
				return s3test.Pass
			})
			_, err := transfer.Run(t.Context(), transfer.Options{From: from.Side, To: to.Side})
			if !errors.Is(err, blobstore.ErrNoteChanged) {
				t.Errorf("Run gives %v", err)
			}
			bucket.Fault(nil)
			superseded(t, to)
			s := from.open(t)
			push(t, s, "later", "v1")
			must(t, s.Close())
			superseded(t, to)
			run(t, from, to)
			superseded(t, from)
			equal(t, from, to)
		})
	}
}
