package transfer_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/store/blobstore"
	"github.com/mirror-appliance/appliance/registry/store/fence"
	"github.com/mirror-appliance/appliance/registry/store/transfer"
)

// beside returns a place with another database and the storage of p.
func (p place) beside(other place) place {
	other.Storage, other.Credentials, other.objects = p.Storage, p.Credentials, p.objects
	return other
}

// eachSameStorage runs a test with each kind of store and each kind of database beside it.
func eachSameStorage(t *testing.T, test func(t *testing.T, source, target func(*testing.T) place)) {
	for one, source := range others(t) {
		for another, target := range others(t) {
			if strings.HasSuffix(another, "and files") { // of which the database is taken
				t.Run(one+" to "+another, func(t *testing.T) { test(t, source, target) })
			}
		}
	}
}

// superseded fails unless a store is refused since the storage is that of another.
func superseded(t *testing.T, p place) {
	t.Helper()
	s, err := p.tryOpen(t)
	if err == nil {
		must(t, s.Close())
	}
	if err == nil || !strings.Contains(err.Error(), "has the blobs of another store: that of the database ") || !strings.Contains(hint.Of(err), "let `database:` name that one") {
		t.Errorf("a store whose storage has another one gives %v, hint %q", err, hint.Of(err))
	}
}

// Where both name one storage no blob moves, and the source is refused from the end of the copy on: each would collect
// what the other has.
func TestRun_sameStorage(t *testing.T) {
	eachSameStorage(t, func(t *testing.T, source, target func(*testing.T) place) {
		from := source(t)
		to, back := from.beside(target(t)), from.beside(source(t))
		blobs := fill(t, from)
		server := filepath.Join(from.objects, fence.Note)
		must(t, os.WriteFile(server, []byte(`{"cluster":"1","timeline":1}`), 0o600))
		if r := run(t, from, to); !r.SameStorage || r.Copied != 0 || r.Blobs != int64(len(blobs))+1 {
			t.Errorf("the report is %+v", r)
		}
		if _, err := os.Stat(server); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the storage is noted to be used with the server of the source: %v", err)
		}
		superseded(t, from)
		equal(t, from, to)
		superseded(t, from)
		run(t, from, to) // it has not changed
		s := to.open(t)
		push(t, s, "later", "v1")
		must(t, s.Close())
		run(t, to, back)
		superseded(t, to)
		equal(t, to, back)
		superseded(t, from)
	})
}

// The copy is repeated while the source is served instead, which takes a person who removes the note.
func TestRun_sameStorageServedInstead(t *testing.T) {
	eachSameStorage(t, func(t *testing.T, source, target func(*testing.T) place) {
		from := source(t)
		to := from.beside(target(t))
		fill(t, from)
		run(t, from, to)
		must(t, os.Remove(filepath.Join(from.objects, "owner")))
		s := from.open(t)
		push(t, s, "later", "v1")
		must(t, s.Close())
		run(t, from, to)
		superseded(t, from)
		equal(t, from, to)
	})
}

// A former version copied the id of the source: both were let in.
func TestRun_sameStorageAndID(t *testing.T) {
	eachSameStorage(t, func(t *testing.T, source, target func(*testing.T) place) {
		from := source(t)
		to := from.beside(target(t))
		fill(t, from)
		run(t, from, to)
		const row = `INSERT INTO meta (name, value) VALUES ('` + blobstore.OwnerNote + `', 'same') ON CONFLICT (name) DO UPDATE SET value = excluded.value`
		for _, p := range []place{from, to} {
			_, err := p.direct(t).Exec(row)
			must(t, err)
		}
		text, err := json.Marshal(map[string]string{"store": "same"})
		must(t, err)
		must(t, os.WriteFile(filepath.Join(from.objects, "owner"), text, 0o600))
		must(t, from.open(t).Close())
		run(t, from, to)
		superseded(t, from)
		equal(t, from, to)
	})
}

// A third database is not given the storage by one that does not have it any more.
func TestRun_sameStorageOfAnother(t *testing.T) {
	eachSameStorage(t, func(t *testing.T, source, target func(*testing.T) place) {
		from := source(t)
		to, third := from.beside(target(t)), from.beside(target(t))
		fill(t, from)
		run(t, from, to)
		for _, dry := range []bool{true, false} {
			_, err := transfer.Run(t.Context(), transfer.Options{From: from.Side, To: third.Side, DryRun: dry})
			if err == nil || !strings.Contains(err.Error(), "is that of another store, with the database ") || !strings.Contains(hint.Of(err), "or copy from that store") {
				t.Errorf("Run gives %v, hint %q", err, hint.Of(err))
			}
		}
		equal(t, from, to)
	})
}
