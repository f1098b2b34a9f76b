package store

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"maps"
	"math/bits"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/registry/store/database"
)

// scale is how many manifests the store has: the largest with SQLite that there are figures for has a million. Every manifest
// has a config of its own and four layers that four others have too; a fifth of them is in one repository; a hundredth of
// the blobs is garbage.
var scale = flag.Int("scale", 1_000_000, "manifests in the benchmark of a large store")

const scaleOld = 48 * time.Hour

func scaleGarbage() int { return *scale / 50 }

func scaleTagged() int { return *scale / 5 } // in the large repository

func scaleBlobs() int { return 2**scale + scaleGarbage() }

// scaleBody is what manifest i has: bytes that hash to its digest, and that nothing reads.
func scaleBody(i int) []byte { return fmt.Appendf(nil, "%-1000d", i) }

func scaleManifestDigest(i int) digest.Digest { return digest.FromBytes(scaleBody(i)) }

// scaleShift spreads numbers below n over 64 bits.
func scaleShift(n int) int { return 64 - bits.Len(uint(n-1)) }

// scaleDigest is the SQL of a digest from a number below n: spread over all that there can be, and in the order of the
// numbers, in which a table is quickly filled.
func scaleDigest(number string, n int) string {
	shift := scaleShift(n)
	if onServer != nil { // the functions of testFunctions are too slow for millions
		return fmt.Sprintf(`'sha256:' || lpad(to_hex((%s)::bigint << %d), 16, '0') || repeat('0', 48)`, number, shift)
	}
	return fmt.Sprintf(`printf('sha256:%%016x%%048d', (%s) << %d, 0)`, number, shift)
}

// scaleIndexes returns the statements that drop the indexes that are not a table's own, and those that make them.
func scaleIndexes(ctx context.Context, db *sql.DB) (drop, create []string, err error) {
	query := `SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL`
	if onServer != nil {
		query = `SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = current_schema()
			AND indexname NOT IN (SELECT conname FROM pg_constraint)`
	}
	err = database.Query(ctx, db, func(rows *sql.Rows) error {
		var name, text string
		err := rows.Scan(&name, &text)
		drop, create = append(drop, `DROP INDEX `+name), append(create, text)
		return err
	}, query)
	return drop, create, err
}

// scaleRows are the statements that write all rows but those of manifests, whose numbers are in a table.
func scaleRows(now int64) []string {
	count := func(n int) string {
		if onServer != nil {
			return fmt.Sprintf(`WITH n (i) AS (SELECT generate_series(0, %d - 1)) `, n)
		}
		return fmt.Sprintf(`WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < %d - 1) `, n)
	}
	blob := func(i string) string { return scaleDigest(i, scaleBlobs()) }
	return []string{
		count(1000) + fmt.Sprintf(`INSERT INTO repositories (id, name, created) SELECT i + 1, %s, %d FROM n`, scalePadded("team/app-", 4), now),
		count(scaleBlobs()) + fmt.Sprintf(`INSERT INTO blobs (digest, size, created) SELECT %s, 1000, %d FROM n`, blob("i"), now),
		fmt.Sprintf(`INSERT INTO manifest_refs (manifest, position, kind, digest, size, media_type, elsewhere)
			SELECT n.digest, p.position, CASE WHEN p.position = 0 THEN 'config' ELSE 'layer' END, %s, 1000, 'application/vnd.oci.image.layer.v1.tar+gzip', 0
			FROM numbered n CROSS JOIN (SELECT 0 AS position UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4) p ORDER BY n.digest, p.position`,
			blob(fmt.Sprintf("CASE WHEN p.position = 0 THEN n.i * 2 ELSE (n.i * 7919 + p.position * 104729) %% %d * 2 + 1 END", *scale))),
		fmt.Sprintf(`INSERT INTO repository_manifests (repository, digest, linked)
			SELECT CASE WHEN i %% 5 = 0 THEN 1 ELSE i %% 999 + 2 END, digest, %d FROM numbered ORDER BY 1, 2`, now),
		fmt.Sprintf(`INSERT INTO repository_blobs (repository, digest, linked)
			SELECT DISTINCT rm.repository, r.digest, %d FROM repository_manifests rm JOIN manifest_refs r ON r.manifest = rm.digest ORDER BY 1, 2`, now),
		fmt.Sprintf(`INSERT INTO tags (repository, name, digest, updated, checked)
			SELECT CASE WHEN i %% 5 = 0 THEN 1 ELSE i %% 999 + 2 END, %s, digest, %d, 0 FROM numbered ORDER BY 1, 2`, scalePadded("v", 9), now),
	}
}

// scalePadded is the SQL of a name with the number i.
func scalePadded(prefix string, digits int) string {
	if onServer != nil {
		return fmt.Sprintf(`'%s' || lpad(i::text, %d, '0')`, prefix, digits)
	}
	return fmt.Sprintf(`printf('%s%%0%dd', i)`, prefix, digits)
}

// fillManifests writes the manifests, in the order of their digests, and a table of their numbers.
func fillManifests(ctx context.Context, db *sql.DB, now int64) error {
	numbers := make(map[digest.Digest]int, *scale)
	for i := range *scale {
		numbers[scaleManifestDigest(i)] = i
	}
	if _, err := db.ExecContext(ctx, `CREATE TEMPORARY TABLE numbered (i BIGINT, digest TEXT)`); err != nil {
		return err
	}
	for part := range slices.Chunk(slices.Sorted(maps.Keys(numbers)), 1000) {
		var manifests, numbered []any
		for _, d := range part {
			manifests = append(manifests, d, scaleBody(numbers[d]))
			numbered = append(numbered, numbers[d], d)
		}
		rows := func(row string) string { return strings.TrimSuffix(strings.Repeat(row+", ", len(part)), ", ") }
		row := fmt.Sprintf(`(?, 'application/vnd.oci.image.manifest.v1+json', '', '', '', 1000, %d, ?)`, now)
		for text, values := range map[string][]any{
			`INSERT INTO manifests (digest, media_type, artifact_type, subject, annotations, size, created, body) VALUES ` + rows(row): manifests,
			`INSERT INTO numbered (i, digest) VALUES ` + rows(`(?, ?)`):                                                                numbered,
		} {
			if _, err := db.ExecContext(ctx, text, values...); err != nil {
				return err
			}
		}
	}
	return nil
}

// fillScale writes the rows. There are no files.
func fillScale(ctx context.Context, f *fixture) error {
	db := f.direct()
	defer db.Close()
	statements := []string{`PRAGMA synchronous = OFF`, `PRAGMA cache_size = -400000`, `PRAGMA foreign_keys = 0`}
	if onServer != nil {
		statements = []string{`SET synchronous_commit = off`, `SET maintenance_work_mem = '400MB'`}
	}
	drop, create, err := scaleIndexes(ctx, db)
	if err != nil {
		return err
	}
	now := database.Nanos(f.clock.now().Add(-scaleOld))
	execute := func(statements []string) error {
		for _, text := range statements {
			if _, err := db.ExecContext(ctx, text); err != nil {
				return fmt.Errorf("%s: %w", text, err)
			}
		}
		return nil
	}
	if err := execute(append(statements, drop...)); err != nil {
		return err
	}
	if err := fillManifests(ctx, db, now); err != nil {
		return err
	}
	return execute(slices.Concat(scaleRows(now), create, []string{f.checkpoint()}))
}

// logScaleSize logs what each table and its indexes take on a server.
func logScaleSize(b *testing.B, f *fixture) {
	if onServer == nil {
		return
	}
	db := f.direct()
	defer db.Close()
	f.must(database.Query(f.ctx, db, func(rows *sql.Rows) error {
		var name string
		var table, indexes int64
		err := rows.Scan(&name, &table, &indexes)
		b.Logf("%s: %d bytes of rows for each manifest, %d of indexes", name, table/int64(*scale), indexes/int64(*scale))
		return err
	}, `SELECT relname, pg_table_size(relid), pg_indexes_size(relid) FROM pg_statio_user_tables WHERE pg_total_relation_size(relid) > 1000000 ORDER BY relname`))
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
	logScaleSize(b, f)
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
			i := rand.IntN(*scale/5) * 5
			_, err := f.Manifests.Get(f.ctx, "team/app-0000", scaleManifestDigest(i))
			return err
		}},
		{"manifest by tag", func(int) error {
			_, err := f.Manifests.ByTag(f.ctx, "team/app-0000", fmt.Sprintf("v%09d", rand.IntN(*scale/5)*5))
			return err
		}},
		{"tag page", func(int) error {
			tags, more, err := f.Tags.List(f.ctx, "team/app-0000", fmt.Sprintf("v%09d", rand.IntN(*scale/2)), 1000)
			if len(tags) != 1000 || !more {
				return fmt.Errorf("%d tags, %v", len(tags), more)
			}
			return err
		}},
		{"all tags of a repository", func(int) error {
			tags, _, err := f.Tags.List(f.ctx, "team/app-0000", "", -1)
			if len(tags) < scaleTagged() {
				return fmt.Errorf("%d tags", len(tags))
			}
			return err
		}},
		{"tags by pattern", func(int) error { // what the update service looks for after a change
			_, err := f.Tags.Matching(f.ctx, "*", "[0-9]*.[0-9]*.[0-9]*-*")
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
			if n != scaleGarbage() {
				return fmt.Errorf("%d blobs are garbage", n)
			}
			return err
		}},
		{"stats", func(int) error { _, err := f.Stats(f.ctx); return err }},
		{"usage", func(int) error {
			u, err := f.Usage(f.ctx, func(int64) {})
			if u.All.Blobs < int64(scaleBlobs()) || len(u.Repositories) != 1000 {
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
