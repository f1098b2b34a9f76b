package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// recentModel is two repositories that several writers and readers use at the same time: everyone
// has a tag of its own in each, and all of them share one and the manifests.
type recentModel struct {
	*fixture
	bodies     [][]byte
	references []string // all that is ever asked for
}

var recentRepos = []string{"a", "b"}

const recentWriters = 4

func newRecentModel(t *testing.T) *recentModel {
	m := &recentModel{fixture: newFixture(t), references: []string{"shared"}}
	for w := range recentWriters {
		m.references = append(m.references, fmt.Sprintf("of-%d", w))
	}
	for n := range 6 { // without a media type of their own, so that it is the link's
		body := mustJSON(map[string]any{"schemaVersion": 2, "manifests": []any{}, "annotations": map[string]string{"n": fmt.Sprint(n)}})
		m.bodies = append(m.bodies, body)
		m.references = append(m.references, digest.FromBytes(body).String())
	}
	return m
}

// stored is what the database says.
func (m *recentModel) stored(repo, reference string) (Manifest, error) {
	if d := digest.Digest(reference); d.Validate() == nil {
		return scanManifest(m.db.Reader().QueryRowContext(m.ctx, manifestByDigest, repo, d), "manifest", reference)
	}
	return scanManifest(m.db.Reader().QueryRowContext(m.ctx, manifestByTag, repo, reference), "tag", reference)
}

// told is what a client is told.
func (m *recentModel) told(repo, reference string) (Manifest, error) {
	if d := digest.Digest(reference); d.Validate() == nil {
		return m.Manifests.Get(m.ctx, repo, d)
	}
	return m.Manifests.ByTag(m.ctx, repo, reference)
}

// step does one random thing, and checks of what was acknowledged that which no other writer
// can have changed since.
func (m *recentModel) step(r *rand.Rand, writer int) error {
	repo, body := recentRepos[r.IntN(len(recentRepos))], m.bodies[r.IntN(len(m.bodies))]
	own, d := fmt.Sprintf("of-%d", writer), digest.FromBytes(body)
	mediaType := []string{ocispec.MediaTypeImageIndex, "application/vnd.docker.distribution.manifest.list.v2+json"}[r.IntN(2)]
	var err error
	switch r.IntN(10) {
	case 0:
		err = m.Tags.Delete(m.ctx, repo, own)
		if _, told := m.told(repo, own); err == nil && !errors.Is(told, ErrNotFound) {
			return fmt.Errorf("%s:%s is deleted and told: %v", repo, own, told)
		}
	case 1:
		err = m.Tags.Delete(m.ctx, repo, "shared")
	case 2:
		err = m.Manifests.Delete(m.ctx, repo, d)
	case 3:
		_, err = m.Manifests.DeleteImage(m.ctx, repo, d)
	case 4: // takes back what it did, but not what others did in the same transaction
		_, err = m.Manifests.Put(m.ctx, repo, manifestOf(descriptor(ocispec.MediaTypeImageConfig, fmt.Append(nil, r.Uint64()))), PutOptions{Tags: []string{own}})
		if err == nil {
			return errors.New("an image without its config was taken")
		}
		err = nil
	case 5:
		_, err = m.Manifests.PutPulled(m.ctx, repo, body, PutOptions{MediaType: mediaType, Tags: []string{"shared"}})
	case 6:
		_, _, err = m.Garbage.EvictPulled(m.ctx, -1)
	case 7:
		err = m.runStep(repo, own, body)
	default:
		_, err = m.Manifests.Put(m.ctx, repo, body, PutOptions{MediaType: mediaType, Tags: []string{own, "shared"}})
	}
	if err != nil && !errors.Is(err, ErrNotFound) && !errors.As(err, new(*InUseError)) {
		return err
	}
	return nil
}

func (m *recentModel) runStep(repo, tag string, body []byte) error {
	run, err := m.Runs.Begin(m.ctx, "property")
	if err != nil {
		return err
	}
	desc := descriptor(ocispec.MediaTypeImageIndex, body)
	if err := run.PutManifest(m.ctx, repo, desc, body); err != nil {
		return err
	}
	if err := run.Tag(m.ctx, map[string]map[string]digest.Digest{repo: {tag: desc.Digest}}); err != nil {
		return err
	}
	return run.Commit(m.ctx)
}

// Whatever several writers do, what is told once they are answered is what the database says.
func TestRecent_tellsWhatTheDatabaseSays(t *testing.T) {
	m := newRecentModel(t)
	ctx, stop := context.WithCancel(m.ctx)
	var readers sync.WaitGroup
	defer readers.Wait()
	defer stop()
	for n := range 2 {
		r := rand.New(rand.NewPCG(uint64(n), 1))
		readers.Go(func() {
			for ctx.Err() == nil { // only to keep it in memory
				_, _ = m.told(recentRepos[r.IntN(len(recentRepos))], m.references[r.IntN(len(m.references))])
			}
		})
	}
	random := make([]*rand.Rand, recentWriters)
	for w := range random {
		random[w] = rand.New(rand.NewPCG(uint64(w), 2))
	}
	for round := range 60 {
		var writers sync.WaitGroup
		for w, r := range random {
			writers.Go(func() {
				for range 3 {
					if err := m.step(r, w); err != nil {
						t.Errorf("round %d, writer %d: %v", round, w, err)
					}
				}
			})
		}
		writers.Wait()
		for _, repo := range recentRepos {
			for _, reference := range m.references {
				told, err := m.told(repo, reference)
				stored, want := m.stored(repo, reference)
				if errors.Is(err, ErrNotFound) != errors.Is(want, ErrNotFound) || told.Digest != stored.Digest ||
					told.MediaType != stored.MediaType || told.pulled != stored.pulled || told.repository != stored.repository {
					t.Fatalf("round %d: %s@%s is told as %s %s %v (%v), stored as %s %s %v (%v)", round, repo, reference,
						told.Digest, told.MediaType, told.pulled, err, stored.Digest, stored.MediaType, stored.pulled, want)
				}
			}
		}
	}
}
