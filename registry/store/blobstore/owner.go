package blobstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// OwnerNote is the name of the note of a database that has the id by which a storage knows it.
const OwnerNote = "storage owner"

// owner is the content of the note of a storage that names the store which has it.
type owner struct {
	Store    string    `json:"store"`    // its id
	Database string    `json:"database"` // for people
	Host     string    `json:"host"`     // likewise
	Since    time.Time `json:"since"`
}

const ownerNote = "owner"

// Claim returns an error with a hint unless the storage is that of a store, by its id, or of none so far.
// The collection of another store would remove the blobs of this one. Daemons with one database are
// one store, and so is a daemon after a crash: the id is in the database, and nothing has to expire.
func Claim(ctx context.Context, s Storage, id, database string) error {
	has, seen, err := readOwner(ctx, s)
	if err == nil && seen == nil {
		err = writeOwner(ctx, s, owner{Store: id, Database: database}, nil)
		if err == nil || errors.Is(err, ErrNoteChanged) { // another one was first
			has, _, err = readOwner(ctx, s) // a server without conditions has taken two of these
		}
	}
	if err != nil || has.Store == id {
		return err
	}
	return hint.New(fmt.Errorf("%s has the blobs of another store: that of the database %s, by host %s since %s",
		s.Root(), has.Database, has.Host, has.Since.Format(time.RFC3339)),
		"let `database:` name that one, or `storage:` another place; if that store is never served again, remove "+s.NotePlace(ownerNote))
}

// Owner returns the id of the store that has the storage, and its database for messages. An empty id: none.
func Owner(ctx context.Context, s Storage) (id, database string, err error) {
	has, _, err := readOwner(ctx, s)
	return has.Store, has.Database, err
}

// HandOver gives the storage to a store. The caller keeps the one that had it from being opened meanwhile.
func HandOver(ctx context.Context, s Storage, id, database string) error {
	has, seen, err := readOwner(ctx, s)
	if err != nil || has.Store == id {
		return err
	}
	return writeOwner(ctx, s, owner{Store: id, Database: database}, seen)
}

// readOwner returns the note; seen is nil if there is none.
func readOwner(ctx context.Context, s Storage) (has owner, seen Version, err error) {
	text, seen, err := s.ReadNote(ctx, ownerNote)
	if errors.Is(err, fs.ErrNotExist) {
		return owner{}, nil, nil
	}
	what := "read which store has " + s.Root()
	if err != nil {
		return owner{}, nil, fmt.Errorf("%s: %w", what, err)
	}
	if err := json.Unmarshal(text, &has); err != nil || has.Store == "" {
		return owner{}, nil, fmt.Errorf("%s: %s names none", what, s.NotePlace(ownerNote))
	}
	return has, seen, nil
}

func writeOwner(ctx context.Context, s Storage, o owner, seen Version) error {
	var err error
	if o.Host, err = os.Hostname(); err != nil {
		o.Host = "unknown"
	}
	o.Since = time.Now().UTC()
	text, err := json.Marshal(o)
	if err == nil {
		err = s.WriteNote(ctx, ownerNote, text, seen)
	}
	if err != nil {
		return fmt.Errorf("note which store has %s: %w", s.Root(), err)
	}
	return nil
}
