//go:build s3

package store

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/mirror-appliance/appliance/registry/store/blobs3"
	"github.com/mirror-appliance/appliance/registry/store/blobs3/s3test"
)

// The histories of TestStore_Histories, each request of which comes to any of two or three stores with
// one database and one bucket.
func TestSeveral_HistoriesOnPostgreSQL(t *testing.T) {
	bucket := s3test.Start(t)
	for stores := 2; stores <= 3; stores++ {
		t.Run(fmt.Sprint(stores), func(t *testing.T) {
			t.Parallel()
			playHistories(t, func(t *testing.T) site { return inSeveralStores(t, bucket, stores) })
		})
	}
}

var prefixes atomic.Int64 // in the bucket

func inSeveralStores(t *testing.T, bucket *s3test.Server, stores int) site {
	name, address, err := onServer.Database(context.Background(), onServer.template)
	if err != nil {
		t.Fatal(err)
	}
	prefix := fmt.Sprint("history", prefixes.Add(1))
	storage, _ := bucket.Address(t, prefix)
	root := filepath.Join(bucket.Dir, prefix)
	return site{
		Options: Options{Database: address, Storage: storage, Credentials: bucket.Credentials, rehearse: rehearsing(), Shared: true},
		root:    root, count: stores,
		opened: func(s *Store) {
			s.guard.shared.Blobs.Recheck = 0 // or a check within a minute of another is not counted
			s.blobs = fewParts{s.blobs.(*blobs3.Storage), root}
		},
		drop: func() error {
			if err := os.RemoveAll(root); err != nil {
				return err
			}
			return onServer.Drop(context.Background(), name)
		},
	}
}
