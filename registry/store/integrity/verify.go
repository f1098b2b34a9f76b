// Package integrity verifies and scrubs a store, and quarantines damaged blobs.
//
// Checker.Verify compares rows with files and changes nothing. Checker.Scrub reads every blob,
// quarantines damaged ones, and has its caller fetch them again. The row of a blob in
// quarantine is in another table, so that it is not found any more, and its file in a directory
// for people to look at. It leaves when the blob comes back in any way, or when no manifest
// refers to it any more.
//
// Refused: a verification that repairs, since a damaged blob is evidence; and the quarantine of a
// blob while most others cannot be read either, since a file system that is not mounted would
// empty the store row by row.
package integrity

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/retry"
	"github.com/mirror-appliance/appliance/internal/throttle"
	"github.com/mirror-appliance/appliance/registry/store/blobstore"
	"github.com/mirror-appliance/appliance/registry/store/database"
	"github.com/mirror-appliance/appliance/registry/store/integrity/findings"
)

const (
	problemsListed = 1000           // a longer list is not read
	staleAfter     = 24 * time.Hour // since an upload was last used that counts as left behind
	manifestPage   = 200            // manifests looked at in one read transaction, which keeps the WAL from shrinking
	blobPage       = 500
)

// Checker verifies and scrubs a store.
type Checker struct {
	DB      database.Engine
	Path    string // of the database, for messages
	Storage blobstore.Storage
	Guard   Guard
	Store   Store
	Now     func() time.Time
	Log     *slog.Logger
}

// Guard knows the blobs in use.
type Guard interface {
	// Epoch changes with each mark of a blob that is set or removed.
	Epoch(ctx context.Context) (uint64, error)
	// InFlight reports whether a blob is being put, whose file may be a moment behind its row.
	InFlight(d digest.Digest) bool
	// MarkNow marks a blob, in the transaction that deletes its row, unless others put it.
	MarkNow(ctx context.Context, tx *sql.Tx, d digest.Digest) (bool, error)
	// Remove calls remove for the file of a marked blob, with a context of its own.
	Remove(ctx context.Context, d digest.Digest, remove func(context.Context) error) error
	// Unmark removes the marks of blobs. A transaction that runs again calls it for those of its first
	// run.
	Unmark(ctx context.Context, ds ...digest.Digest)
}

// Store is implemented by the owner of rows and files.
type Store interface {
	// HasBytes reports whether the database has the bytes of a blob whose file may be missing.
	HasBytes(d digest.Digest) bool
	// Rewrite writes the file of a blob from these bytes, and reports whether there were any.
	Rewrite(ctx context.Context, d digest.Digest) (bool, error)
	// PutBack reads a blob to its end and restores it with its links. It fails if the content has
	// another digest.
	PutBack(ctx context.Context, d digest.Digest, size int64, content io.Reader) error
	// UnnamedFiles yields the files of blobs without a row.
	UnnamedFiles(ctx context.Context, yield func(d digest.Digest, size int64) error) error
	// Note and SetNote read and save a value by its name, "" at first.
	Note(ctx context.Context, name string) (string, error)
	SetNote(ctx context.Context, name, value string) error
	// MayRemove returns an error when another process may have rows of the blobs that this one has none of.
	MayRemove(ctx context.Context) error
	// StaleUploads yields the uploads that were not used since before.
	StaleUploads(ctx context.Context, before time.Time, yield func(id string, size int64) error) error
}

// VerifyOptions configure a verification.
type VerifyOptions struct {
	Content        bool                                  // read every blob and hash it
	BytesPerSecond int64                                 // read no faster than that; 0: as fast as it goes
	Progress       func(done VerifyReport, of StoreSize) // called now and then; nil: no call
}

// The reports are in package findings, which the control API imports without the store.
type (
	ScrubReport  = findings.ScrubReport
	Damage       = findings.Damage
	Source       = findings.Source
	StoreSize    = findings.Size
	VerifyReport = findings.Report
	Problem      = findings.Problem
	ProblemKind  = findings.Kind
)

// The kinds of problems.
const (
	ProblemDatabase ProblemKind = "database"
	ProblemManifest ProblemKind = "manifest"
	ProblemTag      ProblemKind = "tag"
	ProblemBlob     ProblemKind = "blob"
)

const (
	remedyScrub    = "run `appliance scrub`, which takes the blob out of service and fetches it again where it can; otherwise push or sync its images again"
	remedyRepush   = "push or sync its images again, or restore a backup (`appliance restore`)"
	remedyManifest = "delete the manifest and push or sync its image again, or restore a backup (`appliance restore`)"
	remedySize     = "clients refuse such an image: build it again and push that, then delete this manifest"
	remedyTag      = "push the tag again"
	remedyDatabase = "stop the daemon, move the database file away and restore a backup (`appliance restore`)"
)

// Verify checks, reading only, that rows and files are consistent. The store serves meanwhile: a
// concurrent push or collection is not a problem. Memory does not grow with the store. Problems are
// in the report; an error means that the verification itself failed.
func (c *Checker) Verify(ctx context.Context, o VerifyOptions) (VerifyReport, error) {
	v := &verification{Checker: c, options: o, report: VerifyReport{Problems: []Problem{}}}
	if o.Content {
		v.pace = throttle.New(o.BytesPerSecond)
	}
	for _, step := range []struct {
		what string
		run  func(context.Context) error
	}{
		{"the size of the store", v.measure},
		{"the database", v.database},
		{"references between rows", v.foreignKeys},
		{"manifests", v.manifests},
		{"tags", v.tags},
		{"blobs", v.blobs},
		{"files", v.extra},
		{"uploads", v.uploads},
	} {
		err := step.run(ctx)
		if damage := c.DB.DamageIn(err); damage != nil && ctx.Err() == nil {
			v.problem(ProblemDatabase, c.Path, fmt.Sprintf("reading %s failed: %v", step.what, damage), remedyDatabase)
			continue
		}
		if err != nil {
			return v.report, fmt.Errorf("verify %s: %w", step.what, err)
		}
		v.progress()
	}
	return v.report, nil
}

// CheckDatabase verifies only the database, of a backup before it is restored: its structures,
// indexes among them, and its manifests. It returns the problems that only another database solves.
func CheckDatabase(ctx context.Context, db database.Engine, path string, progress func()) (problems []Problem, err error) {
	v := &verification{Checker: &Checker{DB: db, Path: path},
		options: VerifyOptions{Progress: func(VerifyReport, StoreSize) { progress() }}}
	if err := errors.Join(v.database(ctx), v.manifests(ctx)); err != nil {
		return nil, err
	}
	for _, p := range v.report.Problems {
		if p.Remedy == remedyDatabase || p.Remedy == remedyManifest {
			problems = append(problems, p)
		}
	}
	return problems, nil
}

// verification is one call of Verify.
type verification struct {
	*Checker
	options VerifyOptions
	pace    throttle.Pace // nil: the content is not read
	of      StoreSize
	report  VerifyReport
}

func (v *verification) problem(kind ProblemKind, name, what, remedy string) {
	if len(v.report.Problems) == problemsListed {
		v.report.MoreProblems++
		return
	}
	v.report.Problems = append(v.report.Problems, Problem{Kind: kind, Name: name, What: what, Remedy: remedy})
}

func (v *verification) progress() {
	if v.options.Progress != nil {
		v.options.Progress(v.report, v.of)
	}
}

func (v *verification) measure(ctx context.Context) error {
	return v.DB.Reader().QueryRowContext(ctx, `SELECT (SELECT count(*) FROM manifests), count(*), coalesce(sum(size), 0),
		(SELECT count(*) FROM quarantine) FROM blobs`).
		Scan(&v.of.Manifests, &v.of.Blobs, &v.of.BlobBytes, &v.report.Quarantined)
}

// blobs checks the file of every blob.
func (v *verification) blobs(ctx context.Context) error {
	defer v.progress()
	return v.Blobs(ctx, "", func(d digest.Digest, size int64) error {
		if err := v.blob(ctx, d, size); err != nil {
			return err
		}
		v.report.Blobs++
		v.report.BlobBytes += size
		if v.report.Blobs%blobPage == 0 {
			v.progress()
		}
		return nil
	})
}

// blob checks one blob, and checks it again when the guard has counted a mark meanwhile: a
// collection or a scrub between the row and the file is not damage.
func (v *verification) blob(ctx context.Context, d digest.Digest, size int64) error {
	for {
		epoch, err := v.Guard.Epoch(ctx)
		if err != nil {
			return err
		}
		behind := v.Guard.InFlight(d)
		found, err := v.Storage.Blob(d).Inspect(ctx, size, v.pace)
		v.report.ContentBytes += found.Read
		if err != nil || found.Damage == "" {
			return err
		}
		exists, err := database.Exists(ctx, v.DB.Reader(), `SELECT 1 FROM blobs WHERE digest = ?`, d)
		if err != nil || !exists || v.Store.HasBytes(d) {
			return err
		}
		if behind { // its file may have been a moment behind its row
			if err := retry.Sleep(ctx, time.Millisecond); err != nil {
				return err
			}
			continue
		}
		now, err := v.Guard.Epoch(ctx)
		if err != nil {
			return err
		}
		if epoch == now {
			v.problem(ProblemBlob, d.String(), found.Damage, remedyScrub)
			return nil
		}
	}
}

// extra counts the files without a row, of a crash or of other programs.
func (v *verification) extra(ctx context.Context) error {
	return v.Store.UnnamedFiles(ctx, func(_ digest.Digest, size int64) error {
		v.report.ExtraFiles++
		v.report.ExtraBytes += size
		return ctx.Err()
	})
}

// uploads counts the stale uploads.
func (v *verification) uploads(ctx context.Context) error {
	return v.Store.StaleUploads(ctx, v.Now().Add(-staleAfter), func(_ string, size int64) error {
		v.report.StaleUploads++
		v.report.StaleUploadBytes += size
		return nil
	})
}
