package transfer

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"

	"github.com/mirror-appliance/appliance/registry/store/blobstore"
	"github.com/mirror-appliance/appliance/registry/store/database"
	"github.com/mirror-appliance/appliance/registry/store/fence"
)

// A storage knows its store by an id in the database. A copy has an id of its own: with that of the source, both would be
// let in, and each would collect what the other has. Where both have one storage, it is handed over as the last step, after
// the target is whole and while the source is locked. A Run that is killed before leaves it to the source, and the next one
// hands it over.

// checkOwner refuses a storage that another store has, even without blobs. db is nil before there is one.
func (t *target) checkOwner(ctx context.Context, c *copying, db database.Querier) error {
	if t.blobs == nil { // a dry run does not make its directory
		return nil
	}
	id, name, err := blobstore.Owner(ctx, t.blobs)
	if err != nil || id == "" {
		return err
	}
	if db != nil { // an earlier Run, or a command that opened the copy, has claimed it
		if own, err := storeID(ctx, db); err != nil || own == id {
			return err
		}
	}
	if c.report.SameStorage {
		if source, err := storeID(ctx, c.from.db); err != nil || source == id {
			return err
		}
	}
	return &contentError{fmt.Sprintf("%s is that of another store, with the database %s", t.blobs.Root(), name),
		"let `storage:` in " + t.Config + " name another place, or copy from that store"}
}

// storeID returns the id by which storages know a database, "" for none.
func storeID(ctx context.Context, q database.Querier) (id string, err error) {
	err = q.QueryRowContext(ctx, `SELECT value FROM meta WHERE name = ?`, blobstore.OwnerNote).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read the id of a store: %w", err)
	}
	return id, nil
}

// identify gives the target another id than that of the source, which copies of former versions have.
func (c *copying) identify(ctx context.Context, tx *sql.Tx) error {
	own, err := storeID(ctx, tx)
	if err != nil {
		return err
	}
	source, err := storeID(ctx, c.from.db)
	if err != nil || own != "" && own != source {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value`,
		blobstore.OwnerNote, rand.Text())
	if err != nil {
		return fmt.Errorf("note the id of the target: %w", err)
	}
	return nil
}

// handOver has the storage of both refuse the source from now on.
func (c *copying) handOver(ctx context.Context) error {
	// The target may be at another server of PostgreSQL.
	if err := c.to.blobs.RemoveNote(ctx, fence.Note); err != nil {
		return err
	}
	if !c.report.SameStorage {
		return nil
	}
	id, err := storeID(ctx, c.to.db.Reader())
	if err != nil {
		return err
	}
	return blobstore.HandOver(ctx, c.to.blobs, id, c.to.name())
}
