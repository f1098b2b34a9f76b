package blobs3

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/store/blobstore"
)

// owner is the content of the object that names the store which has the storage.
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
func (s *Storage) Claim(ctx context.Context, id, database string) error {
	has, err := s.Owner(ctx)
	if err == nil && has == "" {
		if err = s.claim(ctx, id, database); err != nil {
			return err
		}
		has, err = s.Owner(ctx) // a server without conditions has taken two of these
	}
	if err != nil || has == id {
		return err
	}
	other, err := s.owner(ctx)
	if err != nil {
		return err
	}
	return hint.New(fmt.Errorf("%s has the blobs of another store: that of the database %s, first opened on host %s at %s",
		s.Root(), other.Database, other.Host, other.Since.Format(time.RFC3339)),
		"name another prefix in `storage:`; if that store is never served again, remove the object "+s.key(ownerNote)+" from the bucket "+s.address.Bucket)
}

// Owner returns the id of the store that has the storage, "" for none.
func (s *Storage) Owner(ctx context.Context) (id string, err error) {
	o, err := s.owner(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return o.Store, err
}

func (s *Storage) owner(ctx context.Context) (o owner, err error) {
	what := "read which store has " + s.Root()
	text, _, err := s.ReadNote(ctx, ownerNote)
	if err != nil {
		return o, fmt.Errorf("%s: %w", what, err)
	}
	if err := json.Unmarshal(text, &o); err != nil || o.Store == "" {
		return o, fmt.Errorf("%s: %s names none", what, s.NotePlace(ownerNote))
	}
	return o, nil
}

// claim writes the object, unless there is one.
func (s *Storage) claim(ctx context.Context, id, database string) error {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	body, err := json.Marshal(owner{Store: id, Database: database, Host: host, Since: time.Now().UTC()})
	if err != nil {
		return err
	}
	err = s.WriteNote(ctx, ownerNote, body, nil)
	if errors.Is(err, blobstore.ErrNoteChanged) { // another one was first
		return nil
	}
	return err
}
