package store

import (
	"context"
	"fmt"
	"time"

	"github.com/mirror-appliance/appliance/internal/throttle"
	"github.com/mirror-appliance/appliance/registry/store/sqlite"
)

const (
	problemsListed = 1000           // a report that lists more is read by nobody
	staleAfter     = 24 * time.Hour // since when nobody has touched an upload that counts as left behind
	manifestPage   = 200            // manifests looked at in one read transaction, which keeps the WAL from shrinking
	blobPage       = 500
)

// VerifyOptions says how thoroughly to verify.
type VerifyOptions struct {
	Content        bool                                  // read every blob and hash it
	BytesPerSecond int64                                 // read no faster than that; 0: as fast as it goes
	Progress       func(done VerifyReport, of StoreSize) // called now and then; nil: nobody asks
}

// StoreSize is how much there is to verify. It is counted at the beginning, and pushes go on.
type StoreSize struct {
	Manifests int64 `json:"manifests"`
	Blobs     int64 `json:"blobs"`
	BlobBytes int64 `json:"blobBytes"`
}

// VerifyReport is what Verify found.
type VerifyReport struct {
	Manifests        int64     `json:"manifests"`        // whose bytes, columns and references were verified
	References       int64     `json:"references"`       // of these manifests
	Tags             int64     `json:"tags"`             // verified
	Blobs            int64     `json:"blobs"`            // whose file was verified
	BlobBytes        int64     `json:"blobBytes"`        // that these files should have
	ContentBytes     int64     `json:"contentBytes"`     // read and hashed, if that was asked for
	Unfetched        int64     `json:"unfetched"`        // blobs of pulled-through manifests that nobody has asked for yet
	Quarantined      int64     `json:"quarantined"`      // blobs out of service, see scrub
	ExtraFiles       int64     `json:"extraFiles"`       // files that no row names; collection takes them away
	ExtraBytes       int64     `json:"extraBytes"`       // of these files
	StaleUploads     int64     `json:"staleUploads"`     // not touched for a day; collection takes them away
	StaleUploadBytes int64     `json:"staleUploadBytes"` // of these uploads
	Problems         []Problem `json:"problems"`         // the first thousand
	MoreProblems     int64     `json:"moreProblems"`     // that are not listed
}

// Clean says that nothing is damaged. Extra files, stale uploads and what is not fetched yet are no damage.
func (r VerifyReport) Clean() bool { return len(r.Problems) == 0 }

// ProblemKind is what a problem is with.
type ProblemKind string

// Of what Verify finds problems.
const (
	ProblemDatabase ProblemKind = "database"
	ProblemManifest ProblemKind = "manifest"
	ProblemTag      ProblemKind = "tag"
	ProblemBlob     ProblemKind = "blob"
)

// Problem is one thing that is not as it must be.
type Problem struct {
	Kind   ProblemKind `json:"kind"`
	Name   string      `json:"name"`   // a digest, repository:tag, or a table
	What   string      `json:"what"`   // is wrong with it
	Remedy string      `json:"remedy"` // what to do
}

func (p Problem) String() string { return fmt.Sprintf("%s %s: %s", p.Kind, p.Name, p.What) }

const (
	remedyScrub    = "run `appliance scrub`, which takes the blob out of service and fetches it again where it can; otherwise push or sync its images again"
	remedyRepush   = "push or sync its images again, or restore a backup (`appliance restore`)"
	remedyManifest = "delete the manifest and push or sync its image again, or restore a backup (`appliance restore`)"
	remedySize     = "clients refuse such an image: build it again and push that, then delete this manifest"
	remedyTag      = "push the tag again"
	remedyDatabase = "stop the daemon, move the database file away and restore a backup (`appliance restore`)"
)

// Verify checks, reading only, that everything holds which this package promises of rows and files. The
// store serves meanwhile: what a push or a collection changes while it is looked at is no problem. Memory
// does not grow with the store. What is wrong is in the report; an error means that verifying itself failed.
func (s *Store) Verify(ctx context.Context, o VerifyOptions) (VerifyReport, error) {
	v := &verification{store: s, options: o, report: VerifyReport{Problems: []Problem{}}}
	if o.Content {
		v.pace = throttle.New(o.BytesPerSecond)
	}
	for _, step := range []struct {
		what string
		run  func(context.Context) error
	}{
		{"the size of the store", v.measure},
		{"the database", v.integrity},
		{"references between rows", v.foreignKeys},
		{"manifests", v.manifests},
		{"tags", v.tags},
		{"blobs", v.blobs},
		{"files", v.extra},
		{"uploads", v.uploads},
	} {
		err := step.run(ctx)
		if damage := sqlite.Damage(err); damage != nil && ctx.Err() == nil {
			v.problem(ProblemDatabase, s.database, fmt.Sprintf("reading %s failed: %v", step.what, damage), remedyDatabase)
			continue
		}
		if err != nil {
			return v.report, fmt.Errorf("verify %s: %w", step.what, err)
		}
		v.progress()
	}
	return v.report, nil
}

// verification is one call of Verify.
type verification struct {
	store   *Store
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
	return v.store.db.Reader().QueryRowContext(ctx, `SELECT (SELECT count(*) FROM manifests), count(*), coalesce(sum(size), 0),
		(SELECT count(*) FROM quarantine) FROM blobs`).
		Scan(&v.of.Manifests, &v.of.Blobs, &v.of.BlobBytes, &v.report.Quarantined)
}
