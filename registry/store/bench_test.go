package store

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// pushers is how many clients push at once in benchmarks and tests of many.
const pushers = 64

// smallImage pushes a config, a layer and the manifest of them, as a client does.
func smallImage(ctx context.Context, s *Store, repo, name string) (digest.Digest, error) {
	contents := []string{`{"config of":"` + name + `"}`, strings.Repeat(name, 64)}
	for _, content := range contents {
		u, err := s.Uploads.New(ctx, repo)
		if err != nil {
			return "", err
		}
		if _, err := u.ReadFrom(strings.NewReader(content)); err != nil {
			return "", err
		}
		if _, err := u.Commit(ctx, digest.FromString(content)); err != nil {
			return "", err
		}
	}
	body := manifestOf(descriptor("x/y", []byte(contents[0])), descriptor("x/y", []byte(contents[1])))
	m, err := s.Manifests.Put(ctx, repo, body, PutOptions{Tags: []string{name}})
	return m.Digest, err
}

// BenchmarkStore_Pushers says how long each part of a push takes while 64 clients do the
// same, and how many of them are done a second. The directory is that of TMPDIR: a tmpfs
// has no fsync to wait for.
func BenchmarkStore_Pushers(b *testing.B) {
	for name, push := range map[string]func(f *fixture, i int64) error{
		"image": func(f *fixture, i int64) error {
			_, err := smallImage(f.ctx, f.Store, fmt.Sprint("app", i%pushers), fmt.Sprint("v", i))
			return err
		},
		"manifest": func(f *fixture, i int64) error {
			body := mustJSON(map[string]any{"schemaVersion": 2, "mediaType": "x/y", "annotations": map[string]string{"n": fmt.Sprint(i)}})
			_, err := f.Manifests.Put(f.ctx, fmt.Sprint("app", i%pushers), body, PutOptions{Tags: []string{fmt.Sprint("v", i)}})
			return err
		},
	} {
		b.Run(name, func(b *testing.B) {
			f := newFixture(b)
			inParallel(b, func(i int64) error { return push(f, i) })
		})
	}
}

// inParallel runs one b.N times from 64 goroutines, and reports how long the slowest
// hundredth took.
func inParallel(b *testing.B, one func(i int64) error) {
	b.Helper()
	var next atomic.Int64
	var mu sync.Mutex
	var took []time.Duration
	var wg sync.WaitGroup
	b.ResetTimer()
	for range pushers {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
				began := time.Now()
				if err := one(i); err != nil {
					b.Error(err)
					return
				}
				mu.Lock()
				took = append(took, time.Since(began))
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	slices.Sort(took)
	b.ReportMetric(float64(len(took))/b.Elapsed().Seconds(), "done/s")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
}
