package store

import (
	"fmt"
	"testing"
	"time"
)

// stagedRun is how much a run of a benchmark has staged.
type stagedRun struct {
	repositories, manifests, layers, tags int
}

// stageRun stages what a run may put in rows alone, with digests in no order, as
// those of content are.
func (f *fixture) stageRun(n stagedRun) *Run {
	f.t.Helper()
	r, err := f.Runs.Begin(f.ctx, "large")
	f.must(err)
	db := f.direct()
	defer db.Close()
	for _, text := range []string{
		fmt.Sprintf(`CREATE TEMP TABLE staged AS WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < %d)
			SELECT i, 'sha256:' || lower(hex(randomblob(32))) AS digest, printf('large/%%04d', i %% %d) AS repository FROM n`, n.manifests-1, n.repositories),
		`CREATE TEMP TABLE layers AS WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ` + fmt.Sprint(n.layers) + `)
			SELECT s.digest AS manifest, s.repository, n.i, 'sha256:' || lower(hex(randomblob(32))) AS digest FROM staged s, n`,
		`INSERT INTO blobs (digest, size, created) SELECT digest, 1, 1 FROM layers ORDER BY digest`,
		`INSERT INTO manifests (digest, media_type, artifact_type, subject, annotations, size, created, body)
			SELECT digest, 'application/vnd.oci.image.manifest.v1+json', '', '', '', 1000, 1, zeroblob(1000) FROM staged`,
		`INSERT INTO manifest_refs (manifest, position, kind, digest, size, media_type, elsewhere) SELECT manifest, i, 'layer', digest, 1, 'x/y', 0 FROM layers`,
		`INSERT INTO run_blobs (run, repository, digest) SELECT '` + r.id + `', repository, digest FROM layers`,
		`INSERT INTO run_manifests (run, repository, digest) SELECT '` + r.id + `', repository, digest FROM staged`,
		fmt.Sprintf(`WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < %[1]d)
			INSERT INTO run_tags (run, repository, name, digest) SELECT '%[2]s', s.repository, printf('v%%06d', n.i), s.digest
			FROM n JOIN staged s ON s.i = n.i %% %[3]d WHERE n.i < %[1]d`, n.tags, r.id, n.manifests),
		`DROP TABLE staged`, `DROP TABLE layers`, f.checkpoint(),
	} {
		_, err := db.ExecContext(f.ctx, text)
		f.must(err)
	}
	return r
}

// longestWait runs do and reports for how long a small write of another user has
// waited meanwhile, at most.
func (f *fixture) longestWait(do func() error) (longest time.Duration) {
	f.t.Helper()
	ended := make(chan error)
	go func() { ended <- do() }()
	for ctx := WithUser(f.ctx, "another"); ; {
		began := time.Now()
		f.must(f.SetNote(ctx, "note", began.String()))
		longest = max(longest, time.Since(began))
		select {
		case err := <-ended:
			f.must(err)
			return longest
		default:
		}
	}
}

// BenchmarkRun_Commit says how long a run's commit keeps others waiting. Filling takes seconds. The
// directory is that of TMPDIR.
func BenchmarkRun_Commit(b *testing.B) {
	for name, n := range map[string]stagedRun{
		"images":    {repositories: 100, manifests: 6000, layers: 8, tags: 0},
		"tags":      {repositories: 100, manifests: 6000, layers: 8, tags: 20_000},
		"manifests": {repositories: 1000, manifests: 50_000, layers: 1, tags: 0},
	} {
		b.Run(name, func(b *testing.B) {
			f := newFixture(b)
			var waited time.Duration
			for b.Loop() {
				b.StopTimer()
				r := f.stageRun(n)
				b.StartTimer()
				waited = max(waited, f.longestWait(func() error { return r.Commit(f.ctx) }))
			}
			b.ReportMetric(float64(waited.Microseconds())/1000, "waited-ms")
		})
	}
}
