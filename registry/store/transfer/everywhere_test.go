//go:build s3 && postgres

package transfer_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/store/blobs3/s3test"
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
		if err == nil || !strings.Contains(err.Error(), "is that of another store") || !strings.Contains(hint.Of(err), "name another prefix") {
			t.Errorf("Run gives %v, hint %q", err, hint.Of(err))
		}
	}
}
