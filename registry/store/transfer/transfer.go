// Package transfer copies a store into another one: from and to SQLite or PostgreSQL, with blobs in
// files or in S3.
//
// Run first brings the blobs, also while the source is served. Then the source must be stopped: Run
// takes its lock, brings the rest of the blobs, and writes the rows of all tables in one transaction
// of the target, which ends only if the tables are equal. What was killed goes on with the next Run.
//
//   - The target has a mark from the beginning until that transaction: Check, which each opening of a
//     store calls, refuses a marked one. So half a store is never served.
//   - A blob has a row in the target once it was hashed there and is durable, so that a second Run
//     reads no content again: it looks once whether the storage still has each of them.
//   - A target that has content of its own is refused, and so is one that has changed since it was
//     copied. One that has not is brought up to date by another Run.
//   - The source and the target may name one storage: then no blob moves, and the storage is that of the target from the
//     end on. Two storages need two databases.
//
// Refused: to hold the writes of a daemon while rows are copied, since what it takes afterwards would
// be lost with it; a change feed, which does not have accounts, secrets and the audit; and a format
// between the two, which would need the space of a third store.
package transfer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/mirror-appliance/appliance/registry/store/database"
)

// Side is one of the two stores.
type Side struct {
	Config      string // the path of its configuration, for messages
	Database    string // as in store.Options
	Storage     string
	Credentials string // of a storage in S3
	MinFree     int64
}

// Options are the options of Run.
type Options struct {
	From, To Side
	DryRun   bool
	Progress func(Progress) // called after each blob and each thousands of rows; may be nil
	Log      *slog.Logger   // nil: discard
	Now      func() time.Time
}

// Progress is how far a Run is.
type Progress struct {
	Blobs, BlobBytes     int64 // that the target has
	OfBlobs, OfBlobBytes int64
	Table                string // the table under way; "" before the rows
	Rows                 int64  // of all tables so far
}

// Report is what a Run did.
type Report struct {
	DryRun       bool    `json:"dryRun,omitempty"`
	Whole        bool    `json:"whole"`     // the target is equal to the source and can be served
	Blobs        int64   `json:"blobs"`     // of the source
	BlobBytes    int64   `json:"blobBytes"` // of these
	There        int64   `json:"there"`     // were in the target before
	Copied       int64   `json:"copied"`
	CopiedBytes  int64   `json:"copiedBytes"`
	SameStorage  bool    `json:"sameStorage,omitempty"` // both databases name the same blobs: none was copied
	Rows         int64   `json:"rows"`
	Tables       []Table `json:"tables,omitempty"`
	Seconds      float64 `json:"switchSeconds,omitempty"`         // from the lock of the source to the end
	GuessSeconds float64 `json:"expectedSwitchSeconds,omitempty"` // of a dry run
}

// Table is what is in a table on both sides.
type Table struct {
	Name   string `json:"name"`
	Rows   int64  `json:"rows"`
	Digest string `json:"digest,omitempty"` // of all rows in their order
}

// rowsASecond is how many rows are taken to be copied, hashed and compared in a second, for the guess of a dry run. It is
// not measured.
const rowsASecond = 20_000

// copying is one Run.
type copying struct {
	Options
	from   *source
	to     *target
	report Report
	passes int // over the blobs
	tally  tally
}

// Run copies o.From to o.To. Errors: *ServingError when the source has to be stopped now,
// *DamagedError, *database.LockedError, *database.SchemaError, *diskspace.FullError, and one with a
// hint when the target has content of its own or the source is half a copy itself.
func Run(ctx context.Context, o Options) (_ Report, err error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Progress == nil {
		o.Progress = func(Progress) {}
	}
	c := &copying{Options: o}
	if err := errors.Join(checkOther(o.From, o.To), checkApart(o.From, o.To)); err != nil {
		return c.report, err
	}
	if c.from, err = openSource(ctx, o.From); err != nil {
		return c.report, fmt.Errorf("open the source: %w", err)
	}
	defer func() { err = errors.Join(err, c.from.close()) }()
	if c.report.SameStorage, err = sameStorage(o.From.Storage, o.To.Storage); err != nil {
		return c.report, err
	}
	if o.DryRun {
		err := c.plan(ctx)
		return c.report, err
	}
	if c.to, err = c.openTarget(ctx); err != nil {
		return c.report, fmt.Errorf("open the target: %w", err)
	}
	defer func() { err = errors.Join(err, c.to.close()) }()
	if err := c.to.mark(ctx, mark{From: c.from.name(), Config: o.From.Config}); err != nil {
		return c.report, err
	}
	err = c.copy(ctx)
	if ended := ctx.Err(); ended != nil { // which database/sql reports in other ways, too
		err = ended
	}
	return c.report, err
}

func (c *copying) copy(ctx context.Context) error {
	began := c.Now()
	err := c.from.take(ctx)
	if errors.As(err, new(*database.LockedError)) {
		if err := c.blobs(ctx); err != nil {
			return err
		}
		began = c.Now()
		err = c.from.take(ctx) // it may have been stopped meanwhile
	}
	if errors.As(err, new(*database.LockedError)) {
		return &ServingError{err}
	}
	if err != nil {
		return fmt.Errorf("take the source: %w", err)
	}
	if err := c.blobs(ctx); err != nil {
		return err
	}
	if err := c.rows(ctx); err != nil {
		return err
	}
	if err := c.handOver(ctx); err != nil {
		return err
	}
	c.report.Whole, c.report.Seconds = true, c.Now().Sub(began).Seconds()
	return nil
}

// plan tells what a Run would copy, and changes nothing.
func (c *copying) plan(ctx context.Context) error {
	c.report.DryRun = true
	have, bytes, err := c.peek(ctx)
	if err != nil {
		return err
	}
	if err := c.from.size(ctx, &c.report); err != nil {
		return err
	}
	c.report.There = have
	if !c.report.SameStorage {
		if err := c.checkRoom(max(0, c.report.BlobBytes-bytes)); err != nil {
			return err
		}
	}
	for _, t := range tables {
		table := Table{Name: t.name}
		if err := c.from.db.QueryRowContext(ctx, `SELECT count(*) FROM `+t.name).Scan(&table.Rows); err != nil {
			return fmt.Errorf("count the rows of %s: %w", t.name, err)
		}
		c.report.Rows += table.Rows
		c.report.Tables = append(c.report.Tables, table)
	}
	c.report.GuessSeconds = 1 + float64(c.report.Rows)/rowsASecond
	return nil
}
