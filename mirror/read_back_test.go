package mirror_test

import (
	"encoding/json"
	"io"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/registry/store"
)

// whole reads everything below a manifest from the store, as a client would.
func (s *setup) whole(t *testing.T, repo string, m store.Manifest) {
	t.Helper()
	if digest.FromBytes(m.Body) != m.Digest {
		t.Errorf("%s: manifest %s holds other bytes", repo, m.Digest)
	}
	var parts struct {
		Config    *ocispec.Descriptor
		Layers    []ocispec.Descriptor
		Manifests []ocispec.Descriptor
	}
	if err := json.Unmarshal(m.Body, &parts); err != nil {
		t.Fatal(err)
	}
	for _, child := range parts.Manifests {
		c, err := s.store.Manifests.Get(t.Context(), repo, child.Digest)
		if err != nil {
			t.Errorf("%s: child %s: %v", repo, child.Digest, err)
			continue
		}
		s.whole(t, repo, c)
	}
	blobs := parts.Layers
	if parts.Config != nil {
		blobs = append(blobs, *parts.Config)
	}
	for _, b := range blobs {
		s.blob(t, repo, b)
	}
}

func (s *setup) blob(t *testing.T, repo string, desc ocispec.Descriptor) {
	t.Helper()
	b, err := s.store.Blobs.Open(t.Context(), repo, desc.Digest)
	if err != nil {
		t.Errorf("%s: blob %s: %v", repo, desc.Digest, err)
		return
	}
	defer b.Close()
	verifier := desc.Digest.Verifier()
	n, err := io.Copy(verifier, b)
	if err != nil || n != desc.Size || !verifier.Verified() {
		t.Errorf("%s: blob %s: %d of %d bytes, %v", repo, desc.Digest, n, desc.Size, err)
	}
}
