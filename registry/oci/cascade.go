package oci

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/registry/store"
)

// What belongs to a manifest besides its referrers: what cosign signs by tag, and the index in which
// clients list referrers when they believe that a registry cannot.
var belongings = []string{"", ".sig", ".att", ".sbom"}

// deleteReferrers deletes what refers to a manifest that is about to be deleted, and what refers to that,
// and so on. It goes first: if it fails, the client's next DELETE finds the subject and takes it up again.
// Only manifests of this repository that are about the subject go: a signature says of no other.
func (m *manifests) deleteReferrers(ctx context.Context, subject digest.Digest) error {
	repo := m.name.Name()
	if _, err := m.store.Manifest(ctx, repo, subject); err != nil {
		return err // there is no subject: nothing is deleted
	}
	seen := map[digest.Digest]bool{subject: true}
	found := []digest.Digest{subject}
	for i := 0; i < len(found); i++ {
		about, err := m.about(ctx, repo, found[i])
		if err != nil {
			return fmt.Errorf("find what refers to %s: %w", found[i], err)
		}
		for _, d := range about {
			if !seen[d] {
				seen[d] = true
				found = append(found, d)
			}
		}
	}
	for i := len(found) - 1; i > 0; i-- { // the leaves first, the subject not at all
		err := m.store.DeleteManifest(ctx, repo, found[i])
		if errors.Is(err, store.ErrNotFound) {
			continue // somebody else did, or it went with the one that listed it
		}
		if err != nil {
			return fmt.Errorf("delete %s, which refers to %s: %w", found[i], subject, err)
		}
		exchangeFrom(ctx).changed(change{event: "delete", repo: repo, digest: found[i]})
	}
	return nil
}

// about lists what refers to d, by subject or by the name of its tag.
func (m *manifests) about(ctx context.Context, repo string, d digest.Digest) ([]digest.Digest, error) {
	list, err := m.store.Referrers(ctx, repo, d, "")
	if err != nil {
		return nil, err
	}
	var about []digest.Digest
	for _, descriptor := range list {
		about = append(about, descriptor.Digest)
	}
	for _, suffix := range belongings {
		held, err := m.store.ManifestByTag(ctx, repo, tagOf(d)+suffix)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		about = append(about, held.Digest)
	}
	return about, nil
}

// tagOf is the tag that stands for a digest: the specification cuts it to what a tag can hold.
func tagOf(d digest.Digest) string {
	hex := d.Encoded()
	return string(d.Algorithm()) + "-" + hex[:min(len(hex), 64)]
}
