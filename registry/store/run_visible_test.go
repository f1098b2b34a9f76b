package store

import (
	"errors"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A run brings what an upstream says, which may name anything.
func TestRun_Commit_shows(t *testing.T) {
	f := newFixture(t)
	secret, config := f.blob("secret", "what others may not read"), f.blob("secret", "a config that both have")
	foreign := secret
	foreign.URLs = []string{"https://elsewhere.test/layer"}
	run, err := f.BeginRun(f.ctx, "sync")
	f.must(err)
	for _, m := range []struct {
		mediaType string
		body      []byte
	}{
		{ocispec.MediaTypeImageIndex, index(secret)},
		{ocispec.MediaTypeImageManifest, image(config, foreign)},
	} {
		f.must(run.PutManifest(f.ctx, "mirror", descriptor(m.mediaType, m.body), m.body))
	}
	f.must(run.Commit(f.ctx))
	if _, err := f.StatBlob(f.ctx, "mirror", secret.Digest); !errors.Is(err, ErrNotFound) {
		t.Errorf("a blob that is only named is shown: %v", err)
	}
	if _, err := f.StatBlob(f.ctx, "mirror", config.Digest); err != nil {
		t.Errorf("a blob that a manifest is made of: %v", err)
	}
}
