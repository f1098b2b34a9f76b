//go:build s3

package store

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Pushes, deletions and collections without a grace period go on at two daemons at once, of few blobs, so
// that they meet. What a push was told of is there at the end, whole, at both.
func TestDaemons_underLoadOnPostgreSQL(t *testing.T) {
	s := newDaemons(t)
	s.a.now, s.b.now = time.Now, time.Now
	both := []*fixture{s.a, s.b}
	const rounds, blobs = 25, 4
	var kept sync.Map // of the image: whether it is there at the end
	var pushers, collectors sync.WaitGroup
	stop := make(chan struct{})
	for i, f := range both {
		for worker := range 2 {
			pushers.Go(func() {
				repo := fmt.Sprintf("app%d%d", i, worker)
				for round := range rounds {
					at := both[(i+round)%2] // a push comes to both, as behind a balancer
					content := fmt.Sprint("blob ", (round+worker)%blobs)
					m, err := pushOnce(at, f, repo, content)
					if err != nil {
						t.Error(err)
						return
					}
					kept.Store(repo, m)
					if round < rounds-1 {
						if err := f.Manifests.Delete(f.ctx, repo, m); err != nil {
							t.Error(err)
						}
					}
				}
			})
		}
		collectors.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				before := time.Now().Add(time.Hour)
				err := f.Garbage.GarbageBlobs(f.ctx, before, func(d digest.Digest, _ int64) error {
					_, _, err := f.Garbage.RemoveBlobs(f.ctx, before, []digest.Digest{d})
					return err
				})
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	pushers.Wait()
	close(stop)
	collectors.Wait()
	kept.Range(func(repo, m any) bool {
		for _, f := range both {
			got, err := f.Manifests.Get(f.ctx, repo.(string), m.(digest.Digest))
			f.must(err)
			b, err := f.Blobs.Open(f.ctx, repo.(string), layerOf(got))
			f.must(err)
			content, err := io.ReadAll(b)
			if err = errors.Join(err, b.Close()); err != nil || digest.FromBytes(content) != layerOf(got) {
				t.Errorf("%s has %q, %v", repo, content, err)
			}
		}
		return true
	})
	if got, err := s.b.Integrity().Verify(s.b.ctx, VerifyOptions{Content: true}); err != nil || len(got.Problems) > 0 {
		t.Errorf("problems: %v, %v", got.Problems, err)
	}
}

// pushOnce pushes an image of one blob: its blob at one daemon, its manifest at another. What a
// collection took in between is pushed again, as clients do.
func pushOnce(blobs, manifests *fixture, repo, content string) (digest.Digest, error) {
	for {
		u, err := blobs.Uploads.New(blobs.ctx, repo)
		if err == nil {
			_, err = io.WriteString(u, content)
		}
		d := digest.FromString(content)
		if err == nil {
			_, err = u.Commit(blobs.ctx, d)
		}
		if errors.Is(err, ErrUnavailable) {
			continue
		}
		if err != nil {
			return "", err
		}
		desc := descriptor(ocispec.MediaTypeImageLayerGzip, []byte(content))
		m, err := manifests.Manifests.Put(manifests.ctx, repo, manifestOf(desc, desc), PutOptions{})
		if err == nil {
			return m.Digest, nil
		}
		return "", fmt.Errorf("a blob that was pushed a moment ago: %w", err)
	}
}
