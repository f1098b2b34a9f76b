package integrity_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/registry/store"
	"github.com/mirror-appliance/appliance/registry/store/integrity"
)

// scrubbed is a store whose files a test damages.
type scrubbed struct {
	*store.Store
	t   *testing.T
	dir string
}

func newScrubbed(t *testing.T) *scrubbed {
	t.Helper()
	s := &scrubbed{t: t, dir: t.TempDir()}
	s.reopen()
	t.Cleanup(func() { s.must(s.Close()) })
	return s
}

func (s *scrubbed) reopen() {
	s.t.Helper()
	if s.Store != nil {
		s.must(s.Close())
	}
	opened, err := store.Open(s.t.Context(), store.Options{Database: filepath.Join(s.dir, "db"), Storage: filepath.Join(s.dir, "blobs")})
	s.must(err)
	s.Store = opened
}

func (s *scrubbed) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *scrubbed) path(d digest.Digest) string {
	return filepath.Join(s.dir, "blobs", d.Algorithm().String(), d.Encoded()[:2], d.Encoded())
}

func (s *scrubbed) flip(d digest.Digest) {
	s.t.Helper()
	content, err := os.ReadFile(s.path(d))
	s.must(err)
	content[0] ^= 1
	s.must(os.WriteFile(s.path(d), content, 0o600))
}

func (s *scrubbed) scrub(o integrity.ScrubOptions) integrity.ScrubReport {
	s.t.Helper()
	r, err := s.Integrity().Scrub(s.t.Context(), o)
	s.must(err)
	return r
}

func (s *scrubbed) push(repo, content string) digest.Digest {
	s.t.Helper()
	u, err := s.Uploads.New(s.t.Context(), repo)
	s.must(err)
	_, err = io.WriteString(u, content)
	s.must(err)
	_, err = u.Commit(s.t.Context(), digest.FromString(content))
	s.must(err)
	return digest.FromString(content)
}

func (s *scrubbed) serves(repo string, d digest.Digest) bool {
	s.t.Helper()
	b, err := s.Blobs.Open(s.t.Context(), repo, d)
	if errors.Is(err, store.ErrNotFound) {
		return false
	}
	s.must(err)
	s.must(b.Close())
	return true
}

// image pushes an image of n layers to repo, tagged v1, and returns the digests of its blobs.
func (s *scrubbed) image(repo string, n int) []digest.Digest {
	s.t.Helper()
	blobs := []digest.Digest{s.push(repo, "config of "+repo)}
	var layers []string
	for i := range n {
		d := s.push(repo, fmt.Sprintf("layer %d", i))
		blobs = append(blobs, d)
		layers = append(layers, fmt.Sprintf(`{"mediaType":"x/y","digest":%q,"size":%d}`, d, len(fmt.Sprintf("layer %d", i))))
	}
	body := fmt.Sprintf(`{"schemaVersion":2,"config":{"mediaType":"x/y","digest":%q,"size":%d},"layers":[%s]}`, blobs[0], len("config of "+repo), strings.Join(layers, ","))
	_, err := s.Manifests.Put(s.t.Context(), repo, []byte(body), store.PutOptions{MediaType: "application/vnd.oci.image.manifest.v1+json", Tags: []string{"v1"}})
	s.must(err)
	slices.Sort(blobs)
	return blobs
}

func TestChecker_Scrub_wholeStore(t *testing.T) {
	s := newScrubbed(t)
	s.image("app", 9)
	ends, told := 0, integrity.ScrubReport{}
	got := s.scrub(integrity.ScrubOptions{Progress: func(r integrity.ScrubReport) {
		if r.Blobs > told.Blobs {
			ends++
		}
		if r.Bytes < told.Bytes {
			t.Errorf("after %+v it tells %+v", told, r)
		}
		told = r
	}})
	stats, err := s.Stats(t.Context())
	s.must(err)
	if got.Blobs != stats.Blobs || got.Bytes != stats.BlobBytes || !got.Complete || got.Resumed || got.Damaged != 0 || int64(ends) != got.Blobs || told.Bytes != got.Bytes {
		t.Errorf("report %+v of %+v, told of %d ends and last %+v", got, stats, ends, told)
	}
	if got.Damage == nil {
		t.Error("the damage is nil, which JSON writes as null")
	}
}

func TestChecker_Scrub_fetchesAgain(t *testing.T) {
	s := newScrubbed(t)
	blobs := s.image("app", 4)
	whole := map[digest.Digest][]byte{}
	for _, d := range blobs {
		content, err := os.ReadFile(s.path(d))
		s.must(err)
		whole[d] = content
	}
	s.must(s.Blobs.RecordSource(t.Context(), "app", "quay.io", "team/app"))
	s.flip(blobs[0])
	s.must(os.Truncate(s.path(blobs[1]), 2))
	s.must(os.Remove(s.path(blobs[2])))
	s.must(os.Remove(s.path(blobs[3])))
	s.must(os.Symlink("/proc/self/mem", s.path(blobs[3]))) // reading it is EIO

	t.Run("a source without the blob", func(t *testing.T) {
		got := s.scrub(integrity.ScrubOptions{Refetch: func(_ context.Context, d digest.Digest, _ int64, _ []integrity.Source) (io.ReadCloser, error) {
			if d == blobs[0] {
				return nil, errors.New("no route to host")
			}
			return io.NopCloser(strings.NewReader("something else")), nil
		}})
		if got.Damaged != 4 || got.Repaired != 0 || got.Blobs != 5 || !got.Complete {
			t.Errorf("report %+v", got)
		}
		for i, d := range got.Damage {
			if d.Digest != blobs[i] || d.Cause == "" || d.Known || d.Repaired || d.RepairError == "" || !slices.Equal(d.Images, []string{"app:v1"}) {
				t.Errorf("damage %+v", d)
			}
			if s.serves("app", d.Digest) {
				t.Errorf("%s is served", d.Digest)
			}
		}
		if !strings.Contains(got.Damage[0].RepairError, "no route to host") || !strings.Contains(got.Damage[3].Cause, "input/output error") {
			t.Errorf("damage %+v", got.Damage)
		}
	})
	t.Run("a source with the blob", func(t *testing.T) {
		got := s.scrub(integrity.ScrubOptions{Refetch: func(_ context.Context, d digest.Digest, size int64, sources []integrity.Source) (io.ReadCloser, error) {
			if size != int64(len(whole[d])) || !slices.Equal(sources, []integrity.Source{{Registry: "quay.io", Repository: "team/app"}}) {
				t.Errorf("asked for %d bytes of %s from %v", size, d, sources)
			}
			return io.NopCloser(bytes.NewReader(whole[d])), nil
		}})
		if got.Damaged != 4 || got.Repaired != 4 || got.Blobs != 5 || !got.Damage[0].Known || !got.Damage[0].Repaired {
			t.Errorf("report %+v", got)
		}
		for _, d := range blobs {
			if !s.serves("app", d) {
				t.Errorf("%s is not served", d)
			}
		}
		entries, err := os.ReadDir(filepath.Join(s.dir, "blobs", "quarantine"))
		if err != nil || len(entries) != 0 {
			t.Errorf("quarantine has %v, %v", entries, err)
		}
	})
	if got := s.scrub(integrity.ScrubOptions{}); got.Damaged != 0 {
		t.Errorf("afterwards: %+v", got)
	}
}

func TestChecker_Scrub_resumes(t *testing.T) {
	s := newScrubbed(t)
	blobs := s.image("app", 5)
	var all int64
	for stop := range len(blobs) - 1 {
		s.reopen() // a restart keeps the cursor
		ctx, cancel := context.WithCancel(t.Context())
		var seen int64
		got, err := s.Integrity().Scrub(ctx, integrity.ScrubOptions{Progress: func(r integrity.ScrubReport) {
			if seen = r.Blobs; seen > 0 {
				cancel()
			}
		}})
		if !errors.Is(err, context.Canceled) || got.Complete || got.Blobs != 1 || got.Resumed != (stop > 0) {
			t.Fatalf("stopped after one more: %+v, %v", got, err)
		}
		all += seen
	}
	last := s.scrub(integrity.ScrubOptions{})
	if all+last.Blobs != int64(len(blobs)) || !last.Resumed || !last.Complete {
		t.Errorf("%d and then %+v", all, last)
	}
	if again := s.scrub(integrity.ScrubOptions{}); again.Blobs != int64(len(blobs)) || again.Resumed {
		t.Errorf("the next begins with %+v", again)
	}
}

func TestChecker_Scrub_stoppedWhileItFetches(t *testing.T) {
	s := newScrubbed(t)
	blobs := s.image("app", 3)
	content, err := os.ReadFile(s.path(blobs[1]))
	s.must(err)
	s.flip(blobs[1])
	ctx, cancel := context.WithCancel(t.Context())
	_, err = s.Integrity().Scrub(ctx, integrity.ScrubOptions{Refetch: func(ctx context.Context, _ digest.Digest, _ int64, _ []integrity.Source) (io.ReadCloser, error) {
		cancel()
		return nil, ctx.Err()
	}})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	got := s.scrub(integrity.ScrubOptions{Refetch: func(context.Context, digest.Digest, int64, []integrity.Source) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(content)), nil
	}})
	if got.Repaired != 1 || !got.Damage[0].Known || !got.Complete {
		t.Errorf("report %+v", got)
	}
}

// TestChecker_Scrub_rate relies on the limiter, which refuses at once a wait beyond the deadline.
func TestChecker_Scrub_rate(t *testing.T) {
	s := newScrubbed(t)
	s.push("app", strings.Repeat("x", 200<<10))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	got, err := s.Integrity().Scrub(ctx, integrity.ScrubOptions{BytesPerSecond: 1}) // beyond the burst it would take days
	if err == nil || got.Complete || got.Damaged != 0 {
		t.Errorf("%+v, %v", got, err)
	}
	if got := s.scrub(integrity.ScrubOptions{BytesPerSecond: 1 << 30}); !got.Complete {
		t.Errorf("fast: %+v", got)
	}
}
