package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/registry/store/sqlite"
)

// referencePage is how many references are looked at with one query.
var referencePage = stepSize{50, 2000}

// checkedReferences goes along the table and looks for each of its rows in the index that garbage and unusedLink ask.
const checkedReferences = `SELECT f.manifest, f.position, f.digest, EXISTS (
		SELECT 1 FROM manifest_refs i INDEXED BY manifest_refs_by_digest WHERE i.digest = f.digest AND i.manifest = f.manifest)
	FROM manifest_refs f NOT INDEXED WHERE (f.manifest, f.position) > (?1, ?2) ORDER BY f.manifest, f.position LIMIT ?3`

// CheckReferences fails with a *CorruptError when the index by which a collection finds out what is referred to lacks a
// reference. SQLite does not notice by itself: a bit that flips in an index is another digest, and layers that are in use
// would go. It reads all references, in small steps while there are reads.
func (s *Garbage) CheckReferences(ctx context.Context) error {
	turn := s.yielding()
	manifest, position := digest.Digest(""), -1
	for more := true; more; {
		n, most := 0, turn.size(referencePage)
		scan := func(rows *sql.Rows) error {
			var d digest.Digest
			var indexed bool
			n++
			if err := rows.Scan(&manifest, &position, &d, &indexed); err != nil || indexed {
				return err
			}
			return s.db.Damaged(fmt.Errorf("the index of references lacks that of manifest %s to %s", manifest, d))
		}
		if err := sqlite.Query(ctx, s.db.Reader(), scan, checkedReferences, manifest, position, most); err != nil {
			return fmt.Errorf("check references: %w", err)
		}
		if err := turn.yield(ctx); err != nil {
			return err
		}
		more = n == most
	}
	return nil
}

// hashes fails with a *CorruptError unless a manifest's body is what its digest says.
func (s *core) hashes(m Manifest) error {
	if err := image.CheckDigest(m.Digest); err != nil {
		return s.db.Damaged(fmt.Errorf("the digest of a manifest: %w", err))
	}
	if got := m.Digest.Algorithm().FromBytes(m.Body); got != m.Digest {
		return s.db.Damaged(errors.New("the body of manifest " + m.Digest.String() + " hashes to " + got.String()))
	}
	return nil
}
