package store

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/internal/durable"
)

const (
	// applicationID stands in the header of the database file, so that file(1) and Open can tell it from others.
	applicationID = 0x6d697272 // "mirr"
	readers       = 6
	busyTimeout   = 10 * time.Second // never needed by our own connections; a backup tool may hold the file for a moment
)

// dsn names the database with the pragmas that every connection of a pool needs.
func dsn(path string, extra ...string) string {
	query := url.Values{"_pragma": append([]string{
		fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds()),
		"journal_mode(WAL)",
		"synchronous(FULL)",
		"foreign_keys(1)",
		fmt.Sprintf("journal_size_limit(%d)", walKept),
		fmt.Sprintf("wal_autocheckpoint(%d)", walPages),
	}, extra...)}
	query.Set("_txlock", "immediate")
	return (&url.URL{Scheme: "file", Path: path, RawQuery: query.Encode()}).String()
}

// openDatabase opens a database of which nobody asks for its damage.
func openDatabase(ctx context.Context, path string) (writer, reader *sql.DB, err error) {
	return openWatched(ctx, &damage{path: path, log: slog.New(slog.DiscardHandler)}, false)
}

// openWatched opens the writer, brings the schema up to date, unless only a current one is wanted, then opens the readers.
func openWatched(ctx context.Context, d *damage, current bool) (writer, reader *sql.DB, err error) {
	path := d.path
	fresh, err := createDatabaseFile(path)
	if err != nil {
		return nil, nil, err
	}
	// What a large write changes fits into this cache. Without it, pages go to the WAL and come back within one transaction.
	name := dsn(path, "cache_size(-16384)")
	if fresh { // the driver sets this before anything is written, when it can still be set
		name += fmt.Sprintf("&_auto_vacuum=%d", autoVacuum)
	}
	writer, err = d.openFor(name, d.cache)
	if err != nil {
		return nil, nil, fmt.Errorf("open database %s: %w", path, err)
	}
	writer.SetMaxOpenConns(1)
	if err := migrate(ctx, writer, path, current); err != nil {
		return nil, nil, errors.Join(err, writer.Close())
	}
	reader, err = d.open(dsn(path, "query_only(1)"))
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("open database %s: %w", path, err), writer.Close())
	}
	reader.SetMaxOpenConns(readers)
	reader.SetMaxIdleConns(readers)
	return writer, reader, nil
}

// Of the header of an SQLite file, https://sqlite.org/fileformat.html.
const (
	headerMagic = "SQLite format 3\x00"
	headerID    = 68 // where the application's id is
	headerBytes = headerID + 4
)

// isApplication reports whether a file is an SQLite database of this package.
func isApplication(path string) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	header := make([]byte, headerBytes)
	if _, err := io.ReadFull(f, header); err != nil {
		return false, nil
	}
	return bytes.HasPrefix(header, []byte(headerMagic)) && binary.BigEndian.Uint32(header[headerID:]) == applicationID, nil
}

// createDatabaseFile makes the file before SQLite does, since SQLite would make it readable for all, and
// refuses a file that is something else before SQLite writes to it. It reports whether the file is empty.
func createDatabaseFile(path string) (fresh bool, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return false, fmt.Errorf("open database: %w", err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return false, fmt.Errorf("open database: %w", err)
	} else if !info.Mode().IsRegular() { // the reading of a FIFO would never end
		return false, &NotDatabaseError{Path: path, Why: "it is not a regular file"}
	}
	header := make([]byte, headerBytes)
	n, err := io.ReadFull(f, header)
	if errors.Is(err, io.EOF) { // empty: SQLite makes a database of it
		return true, durable.SyncDir(filepath.Dir(path))
	}
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return false, fmt.Errorf("read database %s: %w", path, err)
	}
	if n < len(header) || !bytes.HasPrefix(header, []byte(headerMagic)) {
		return false, &NotDatabaseError{Path: path, Why: "it does not begin like an SQLite file"}
	}
	// Neither a schema nor an id: our own, of which everything is still in the WAL.
	schema, application := binary.BigEndian.Uint32(header[40:]), binary.BigEndian.Uint32(header[headerID:])
	if application != applicationID && (application != 0 || schema != 0) {
		return false, &NotDatabaseError{Path: path, Why: "another program wrote this SQLite file"}
	}
	return false, nil
}

// share runs fn in a write transaction that it shares with others that come at the same time. It is for
// what clients do all day, and short; fn takes the context it is given and no other.
func (s *Store) share(ctx context.Context, fn func(ctx context.Context, tx *sql.Tx) error) error {
	return full(s.database, 0, s.group.share(ctx, fn))
}

// shareFreeing is share for what deletes something, on a full disk too.
func (s *Store) shareFreeing(ctx context.Context, fn func(ctx context.Context, tx *sql.Tx) error) error {
	defer s.shrinker.freed()
	return s.freeing(func() error { return s.share(ctx, fn) })
}

// write runs fn in a write transaction of its own, which ends when ctx does; what fn returns decides
// whether it is committed. It is for what is rare, or long.
func (s *Store) write(ctx context.Context, fn func(tx *sql.Tx) error) error {
	return full(s.database, 0, s.group.alone(ctx, fn))
}

// writeFreeing is write for what deletes something, on a full disk too.
func (s *Store) writeFreeing(ctx context.Context, fn func(tx *sql.Tx) error) error {
	defer s.shrinker.freed()
	return s.freeing(func() error { return s.write(ctx, fn) })
}

// query runs a query and hands each row to scan. It has read all rows before it returns, so no
// connection is held longer than that.
func query(ctx context.Context, q querier, scan func(*sql.Rows) error, text string, args ...any) error {
	rows, err := q.QueryContext(ctx, text, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// querier is what *sql.DB and *sql.Tx have in common.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	PrepareContext(ctx context.Context, query string) (*sql.Stmt, error)
}

// exists says whether a query has a row.
func exists(ctx context.Context, q querier, text string, args ...any) (bool, error) {
	var found bool
	err := q.QueryRowContext(ctx, "SELECT EXISTS ("+text+")", args...).Scan(&found)
	return found, err
}

// affected runs a statement and says how many rows it changed.
func affected(ctx context.Context, tx *sql.Tx, text string, args ...any) (int64, error) {
	result, err := tx.ExecContext(ctx, text, args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}
