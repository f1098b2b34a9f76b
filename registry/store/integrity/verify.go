// Package integrity verifies a store and quarantines damaged blobs.
//
// A Checker is what both need: the database, the files, and, as interfaces, what the store remembers of blobs in use and
// what it does itself. Checker.Verify compares everything with everything and changes nothing. A damaged blob goes to
// quarantine: its row moves to another table, so that it is not found any more, and its file to a directory for people
// to look at. It leaves when the blob comes back, in whichever way, or when no manifest needs it any more.
//
// Refused: a verification that repairs, since what one finds damaged is evidence; and the quarantine of a blob while most
// others cannot be read either, since a file system that is not mounted would empty the store row by row.
package integrity

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/throttle"
	"github.com/mirror-appliance/appliance/registry/store/blobfile"
	"github.com/mirror-appliance/appliance/registry/store/integrity/findings"
	"github.com/mirror-appliance/appliance/registry/store/sqlite"
)

const (
	problemsListed = 1000           // a longer list is not read
	staleAfter     = 24 * time.Hour // since an upload was last used that counts as left behind
	manifestPage   = 200            // manifests looked at in one read transaction, which keeps the WAL from shrinking
	blobPage       = 500
)

// Checker verifies a store and quarantines its damaged blobs.
type Checker struct {
	DB    *sqlite.DB
	Path  string // of the database, for messages
	Files *blobfile.Dir
	Guard Guard
	Store Store
	Now   func() time.Time
	Log   *slog.Logger
}

// Guard is what the store remembers of blobs in use. *guard.Blobs implements it.
type Guard interface {
	// Epoch changes with each blob that is marked for removal, and with each mark that is removed.
	Epoch() uint64
	// InFlight reports whether a blob is being put.
	InFlight(d digest.Digest) bool
	// MarkNow marks a blob, unless others than the mine puts of the caller put it.
	MarkNow(d digest.Digest, mine int) bool
	Unmark(ds ...digest.Digest)
}

// Store is what the owner of the rows and files does.
type Store interface {
	// HasBytes reports whether the database has the bytes of a blob whose file may not have been written yet.
	HasBytes(d digest.Digest) bool
	// Rewrite writes the file of a blob from these bytes, and reports whether there were any.
	Rewrite(ctx context.Context, d digest.Digest) (bool, error)
	// PutBack reads a blob to its end and makes it one of the store again, with the links that it had. It fails if the bytes
	// have another digest.
	PutBack(ctx context.Context, d digest.Digest, size int64, content io.Reader) error
	// UnnamedFiles yields the files of blobs that no row names.
	UnnamedFiles(ctx context.Context, yield func(d digest.Digest, size int64) error) error
	// StaleUploads yields the uploads that were not used since before.
	StaleUploads(ctx context.Context, before time.Time, yield func(id string, size int64) error) error
}

// VerifyOptions are the depth and the rate of a verification.
type VerifyOptions struct {
	Content        bool                                  // read every blob and hash it
	BytesPerSecond int64                                 // read no faster than that; 0: as fast as it goes
	Progress       func(done VerifyReport, of StoreSize) // called now and then; nil: no call
}

// The report is in package findings, which the control API imports without the store.
type (
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

// Verify checks, reading only, that rows and files are what the store promises. The store serves meanwhile: what a push or a
// collection changes while it is looked at is not a problem. Memory does not grow with the store. Problems are in the report; an
// error means that verifying itself failed.
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
		if damage := sqlite.Damage(err); damage != nil && ctx.Err() == nil {
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

// CheckDatabase verifies the database alone, of a backup before it is restored: its structures, indexes among them, and its
// manifests. It returns the problems for which only another database helps.
func CheckDatabase(ctx context.Context, db *sqlite.DB, path string, progress func()) (problems []Problem, err error) {
	v := &verification{Checker: &Checker{DB: db, Path: path}, options: VerifyOptions{Progress: func(VerifyReport, StoreSize) { progress() }}}
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
