package store

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/registry/store/database"
)

// The largest store that there are figures for. Every manifest has a config of its own and
// four layers that four others have too; a fifth of them is in one repository; a hundredth
// of the blobs is garbage.
const (
	scaleManifests  = 1_000_000
	scaleReferences = 5_000_000
	scaleGarbage    = 20_000
	scaleTagged     = 200_000 // in the large repository
	scaleOld        = 48 * time.Hour
)

// The digests of manifest and blob i, in SQL: spread over all that there can be, and in the order
// of i, in which a table is quickly filled.
const (
	scaleManifest = `printf('sha256:%%016x%%048d', (%s) << 44, 0)`
	scaleBlob     = `printf('sha256:%%016x%%048d', (%s) << 43, 0)`
)

func scaleManifestDigest(i int) digest.Digest {
	return digest.Digest(fmt.Sprintf("sha256:%016x%048d", uint64(i)<<44, 0))
}

// fillScale writes the rows. There are no files.
func fillScale(ctx context.Context, f *fixture) error {
	db := f.direct()
	defer db.Close()
	indexes := map[string]string{}
	scan := func(rows *sql.Rows) error {
		var name, text string
		err := rows.Scan(&name, &text)
		indexes[name] = text
		return err
	}
	if err := database.Query(ctx, db, scan, `SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL`); err != nil {
		return err
	}
	count := func(n int) string {
		return fmt.Sprintf(`WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < %d - 1) `, n)
	}
	manifest, blob := func(i string) string { return fmt.Sprintf(scaleManifest, i) }, func(i string) string { return fmt.Sprintf(scaleBlob, i) }
	now := database.Nanos(f.clock.now().Add(-scaleOld))
	statements := []string{`PRAGMA synchronous = OFF`, `PRAGMA cache_size = -400000`, `PRAGMA foreign_keys = 0`}
	for name := range indexes {
		statements = append(statements, `DROP INDEX `+name)
	}
	statements = append(statements,
		count(1000)+fmt.Sprintf(`INSERT INTO repositories (id, name, created) SELECT i + 1, printf('team/app-%%04d', i), %d FROM n`, now),
		count(scaleManifests)+fmt.Sprintf(`INSERT INTO manifests (digest, media_type, artifact_type, subject, annotations, size, created, body)
			SELECT %s, 'application/vnd.oci.image.manifest.v1+json', '', '', '', 1000, %d, zeroblob(1000) FROM n`, manifest("i"), now),
		count(2*scaleManifests+scaleGarbage)+fmt.Sprintf(`INSERT INTO blobs (digest, size, created) SELECT %s, 1000, %d FROM n`, blob("i"), now),
		count(scaleReferences)+fmt.Sprintf(`INSERT INTO manifest_refs (manifest, position, kind, digest, size, media_type, elsewhere)
			SELECT %s, i %% 5, iif(i %% 5 = 0, 'config', 'layer'), %s, 1000, 'application/vnd.oci.image.layer.v1.tar+gzip', 0 FROM n`,
			manifest("i / 5"), blob(fmt.Sprintf("iif(i %% 5 = 0, i / 5 * 2, (i / 5 * 7919 + i %% 5 * 104729) %% %d * 2 + 1)", scaleManifests))),
		count(scaleManifests)+fmt.Sprintf(`INSERT INTO repository_manifests (repository, digest, linked)
			SELECT iif(i %% 5 = 0, 1, i %% 999 + 2), %s, %d FROM n ORDER BY 1, 2`, manifest("i"), now),
		fmt.Sprintf(`INSERT INTO repository_blobs (repository, digest, linked)
			SELECT DISTINCT rm.repository, r.digest, %d FROM repository_manifests rm JOIN manifest_refs r ON r.manifest = rm.digest ORDER BY 1, 2`, now),
		count(scaleManifests)+fmt.Sprintf(`INSERT INTO tags (repository, name, digest, updated, checked)
			SELECT iif(i %% 5 = 0, 1, i %% 999 + 2), printf('v%%07d', i), %s, %d, 0 FROM n ORDER BY 1, 2`, manifest("i"), now),
	)
	for _, text := range indexes {
		statements = append(statements, text)
	}
	statements = append(statements, `PRAGMA wal_checkpoint(TRUNCATE)`)
	for _, text := range statements {
		if _, err := db.ExecContext(ctx, text); err != nil {
			return fmt.Errorf("%s: %w", text, err)
		}
	}
	return nil
}

// BenchmarkStore_Scale says what daily work costs on the largest store. Filling it takes minutes.
func BenchmarkStore_Scale(b *testing.B) {
	if testing.Short() {
		b.Skip("it takes minutes to fill")
	}
	f := newFixture(b)
	began := time.Now()
	f.must(fillScale(f.ctx, f))
	f.reopen() // with the pragmas that serving has
	b.Logf("filled in %s", time.Since(began).Round(time.Second))
	for _, state := range []string{"never analyzed", "maintained"} {
		if state == "maintained" {
			began := time.Now()
			f.must(f.Maintain(f.ctx))
			b.Logf("maintained in %s", time.Since(began).Round(time.Millisecond))
		}
		b.Run(state, func(b *testing.B) { benchmarkScale(b, f) })
	}
}

func benchmarkScale(b *testing.B, f *fixture) {
	for _, work := range []struct {
		name string
		do   func(i int) error
	}{
		{"open", func(int) error { f.reopen(); return nil }},
		{"manifest by digest", func(int) error {
			i := rand.IntN(scaleManifests/5) * 5
			_, err := f.Manifests.Get(f.ctx, "team/app-0000", scaleManifestDigest(i))
			return err
		}},
		{"manifest by tag", func(int) error {
			_, err := f.Manifests.ByTag(f.ctx, "team/app-0000", fmt.Sprintf("v%07d", rand.IntN(scaleManifests/5)*5))
			return err
		}},
		{"tag page", func(int) error {
			tags, more, err := f.Tags.List(f.ctx, "team/app-0000", fmt.Sprintf("v%07d", rand.IntN(scaleManifests/2)), 1000)
			if len(tags) != 1000 || !more {
				return fmt.Errorf("%d tags, %v", len(tags), more)
			}
			return err
		}},
		{"all tags of a repository", func(int) error {
			tags, _, err := f.Tags.List(f.ctx, "team/app-0000", "", -1)
			if len(tags) != scaleTagged {
				return fmt.Errorf("%d tags", len(tags))
			}
			return err
		}},
		{"repository page", func(int) error { _, _, err := f.Repositories(f.ctx, "team/app-0500", 100); return err }},
		{"push", func(i int) error {
			_, err := smallImage(f.ctx, f.Store, "team/app-0000", fmt.Sprint("n", i, "-", rand.Int()))
			return err
		}},
		{"delete", func(int) error {
			m, err := f.Manifests.Put(f.ctx, "team/app-0000", mustJSON(map[string]any{"schemaVersion": 2, "mediaType": "x/y", "n": rand.Int()}), PutOptions{Tags: []string{"del"}})
			if err != nil {
				return err
			}
			return f.Manifests.Delete(f.ctx, "team/app-0000", m.Digest)
		}},
		{"collection plan", func(int) error {
			n := 0
			err := f.Garbage.GarbageBlobs(f.ctx, f.clock.now().Add(-scaleOld/2), func(digest.Digest, int64) error { n++; return nil })
			if n != scaleGarbage {
				return fmt.Errorf("%d blobs are garbage", n)
			}
			return err
		}},
		{"stats", func(int) error { _, err := f.Stats(f.ctx); return err }},
		{"usage", func(int) error {
			u, err := f.Usage(f.ctx, func(int64) {})
			if u.All.Blobs != 2*scaleManifests+scaleGarbage || len(u.Repositories) != 1000 {
				return fmt.Errorf("%+v, %d repositories", u.All, len(u.Repositories))
			}
			return err
		}},
		{"evict nothing", func(int) error { _, _, err := f.Garbage.EvictPulled(f.ctx, 0); return err }},
	} {
		b.Run(work.name, func(b *testing.B) {
			for i := range b.N {
				if err := work.do(i); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
