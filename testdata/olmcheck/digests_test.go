package olmcheck

import (
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// digest returns that of an image of the upstream.
func (s *site) digest(t *testing.T, image string) string {
	t.Helper()
	ref, err := name.ParseReference(s.from+"/"+image, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	d, err := remote.Head(ref)
	if err != nil {
		t.Fatal(err)
	}
	return d.Digest.String()
}

// served returns the digest of what a tag of the appliance names.
func (s *site) served(t *testing.T, image string) string {
	t.Helper()
	ref, err := name.ParseReference(image)
	if err != nil {
		t.Fatal(err)
	}
	d, err := remote.Head(ref, s.options(t)...)
	if err != nil {
		t.Fatal(err)
	}
	return d.Digest.String()
}
