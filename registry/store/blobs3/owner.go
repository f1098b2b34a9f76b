package blobs3

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// owner is the content of the object that names the store which has the storage.
type owner struct {
	Store    string    `json:"store"`    // its id
	Database string    `json:"database"` // for people
	Host     string    `json:"host"`     // likewise
	Since    time.Time `json:"since"`
}

func (s *Storage) ownerKey() string { return s.key("owner") }

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
		"name another prefix in `storage:`; if that store is never served again, remove the object "+s.ownerKey()+" from the bucket "+s.address.Bucket)
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
	err = s.do(ctx, what, func(ctx context.Context) error {
		content, _, _, err := s.core.GetObject(ctx, s.address.Bucket, s.ownerKey(), minio.GetObjectOptions{})
		if err != nil {
			return err
		}
		text, err := io.ReadAll(io.LimitReader(content, 10_000))
		if err = errors.Join(err, content.Close()); err == nil {
			err = json.Unmarshal(text, &o)
		}
		return err
	})
	if err == nil && o.Store == "" {
		err = fmt.Errorf("%s: the object %s names none", what, s.ownerKey())
	}
	return o, err
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
	var o minio.PutObjectOptions
	o.SetMatchETagExcept("*")
	err = s.put(ctx, "write which store has "+s.Root(), s.ownerKey(), body, o)
	var answer minio.ErrorResponse
	if errors.As(err, &answer) && answer.StatusCode == http.StatusPreconditionFailed { // another one was first
		return nil
	}
	return err
}
