package database

import (
	"context"
	"database/sql"
)

// Engine is an open database. It is safe for concurrent use.
type Engine interface {
	Rows
	Upkeep
	Damages
	// Close runs the queued writes and closes the database. Reads under way fail.
	Close() error
}

// Rows reads and writes rows.
type Rows interface {
	// Reader returns the connections that read. They cannot write, and never wait for a write.
	Reader() *sql.DB
	// Share runs fn in a write transaction that it shares with concurrent ones. It is for short
	// writes of clients. fn uses its own context, which does not end.
	Share(ctx context.Context, fn func(ctx context.Context, tx *sql.Tx) error) error
	// Write runs fn in a write transaction of its own, which ends when ctx does. It is for long or
	// rare writes.
	Write(ctx context.Context, fn func(tx *sql.Tx) error) error
	// ShareFreeing, WriteFreeing and Freeing are for deletions, which work on a full disk too.
	ShareFreeing(ctx context.Context, fn func(ctx context.Context, tx *sql.Tx) error) error
	WriteFreeing(ctx context.Context, fn func(tx *sql.Tx) error) error
	Freeing(do func() error) error
	// Freed tells the engine that rows were deleted.
	Freed()
	// Hold has the transactions of clients and jobs wait until release is called, and fail when ctx
	// ends before. What is read does not wait. ctx must end before Close.
	Hold(ctx context.Context) (release func())
}

// Upkeep keeps a database small and fast, and looks at it.
type Upkeep interface {
	// Maintain is called on a schedule, while the database is in use.
	Maintain(ctx context.Context) error
	// Check reports whether the database answers.
	Check(ctx context.Context) error
	// Bytes returns the sizes of the database and of its log of writes.
	Bytes() (database, wal int64)
	// Reusable returns the bytes that new rows, or files at path, can use although the file system
	// does not count them as free.
	Reusable(path string) int64
	// Snapshot writes the database, as it is at one moment, to a file, until RemoveSnapshot.
	Snapshot(ctx context.Context) (path string, err error)
	RemoveSnapshot(name string) error
}

// Damages finds and remembers damage.
type Damages interface {
	// Damage returns a *CorruptError if the database was found damaged since Open, and nil otherwise.
	Damage() error
	// DamageIn returns the part of err that reports damage of the database, or nil.
	DamageIn(err error) error
	// Damaged records damage that a reader of rows finds and the engine does not, and returns it as
	// a *CorruptError.
	Damaged(err error) error
	// Structures looks for damage of tables and indexes, and calls found for each.
	Structures(ctx context.Context, found func(what string)) error
	// Orphans calls found for each pair of tables of which rows of the first name missing rows of the
	// second, with their number.
	Orphans(ctx context.Context, found func(table, parent string, rows int64)) error
}
