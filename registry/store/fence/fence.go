// Package fence keeps a daemon that reaches only an old primary of PostgreSQL from the blobs that the new primary has rows
// of. After a network is split an old primary may go on to take writes, and a collection by its rows would remove from the
// common storage what was pushed since the promotion.
//
// The storage, which all daemons of a database reach, has a note of the server that the database is used at: the system
// identifier of the cluster, which a standby has in common with its primary, and the highest timeline, which each promotion
// raises. Use raises the note before the first write at a server is acknowledged. Look reads it before blobs are removed, and
// every few seconds: a daemon whose server has a lower timeline is at an old primary for certain.
//
// Another system identifier is refused as well. A database that was restored from a dump, or went through pg_upgrade, has
// one, and so has a copy of it that is started by mistake beside the first: nothing tells these two apart but the
// administrator, who removes the note.
//
// What is left: what a daemon at an old primary removes within a second after a look (Recent), and the request then under way,
// may be what a push at the new primary was told of meanwhile. A storage that does not compare what it replaces may
// have the note of the lower of two timelines that are first used at the same moment, until the next Look of the higher.
//
// Refused: a lease in the storage, which needs clocks and has a storage that does not answer for a while end writes for
// which the database is there; and the identifier of the database within its server, which a dump that is restored in its
// place changes.
package fence

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/mirror-appliance/appliance/registry/store/blobstore"
	"github.com/mirror-appliance/appliance/registry/store/database"
)

// Note is the name of the note in the storage.
const Note = "primary"

// recent is how long a look counts for the next blob of a batch.
const recent = time.Second

// Fence looks at the note of a storage for one database.
type Fence struct {
	notes    blobstore.Notes
	database string // for people
	now      func() time.Time

	mu     sync.Mutex // guards what follows
	used   database.Server
	looked time.Time // when the last Look succeeded
}

// New returns a Fence.
func New(notes blobstore.Notes, database string, now func() time.Time) *Fence {
	return &Fence{notes: notes, database: database, now: now}
}

// note is the content.
type note struct {
	Cluster  string    `json:"cluster"`
	Timeline int64     `json:"timeline"`
	Database string    `json:"database"` // this and what follows for people
	Host     string    `json:"host"`
	Since    time.Time `json:"since"`
}

func (n note) server() database.Server {
	return database.Server{Cluster: n.Cluster, Timeline: n.Timeline}
}

// Use notes that the database is used at a server, before a write there is acknowledged. *database.SupersededError. A
// server that was noted before costs nothing.
func (f *Fence) Use(ctx context.Context, server database.Server) error {
	if server == f.server() {
		return nil
	}
	return f.look(ctx, server)
}

// Look returns an error unless the database is still used at the server of the last Use: before blobs are removed.
// *database.SupersededError.
func (f *Fence) Look(ctx context.Context) error {
	for {
		server := f.server()
		err := f.look(ctx, server)
		if err == nil || f.server() == server { // else Use has gone on meanwhile
			return err
		}
	}
}

// server returns the server of the last Use.
func (f *Fence) server() database.Server {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.used
}

// Recent is Look, unless one was a moment ago.
func (f *Fence) Recent(ctx context.Context) error {
	f.mu.Lock()
	enough := f.now().Sub(f.looked) < recent
	f.mu.Unlock()
	if enough {
		return nil
	}
	return f.Look(ctx)
}

// tries is how often the note is written that others write at the same time.
const tries = 5

func (f *Fence) look(ctx context.Context, server database.Server) error {
	if server.Cluster == "" { // one that only resembles PostgreSQL
		return nil
	}
	for range tries {
		has, seen, err := f.read(ctx)
		if err != nil {
			return err
		}
		switch {
		case seen == nil || has.server().Precedes(server):
			if err := f.write(ctx, server, seen); err != nil && !errors.Is(err, blobstore.ErrNoteChanged) {
				return err
			}
			continue // what is there then decides
		case has.server() != server:
			return &database.SupersededError{Here: server, By: has.server(), Host: has.Host, Since: has.Since, Place: f.notes.NotePlace(Note)}
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		f.used, f.looked = server, f.now()
		return nil
	}
	return fmt.Errorf("%s is changed all the time", f.notes.NotePlace(Note))
}

// read returns the note; seen is nil if there is none.
func (f *Fence) read(ctx context.Context) (has note, seen blobstore.Version, err error) {
	text, seen, err := f.notes.ReadNote(ctx, Note)
	if errors.Is(err, fs.ErrNotExist) {
		return note{}, nil, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &has)
	}
	if err != nil {
		return note{}, nil, fmt.Errorf("look which server has the database of the storage: %w", err)
	}
	return has, seen, nil
}

func (f *Fence) write(ctx context.Context, server database.Server, seen blobstore.Version) error {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	text, err := json.Marshal(note{server.Cluster, server.Timeline, f.database, host, f.now().UTC()})
	if err != nil {
		return err
	}
	if err := f.notes.WriteNote(ctx, Note, text, seen); err != nil {
		return fmt.Errorf("note which server has the database of the storage: %w", err)
	}
	return nil
}
