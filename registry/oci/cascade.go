package oci

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/registry/store"
)

// What belongs to a manifest besides its referrers: what cosign signs by tag, and the index in which
// clients list referrers when they believe that a registry cannot.
var belongings = []string{"", ".sig", ".att", ".sbom"}

// deleteWhole deletes a manifest with what refers to it. The referrers go first: if that fails, the client's
// next DELETE finds the subject and takes it up again. Then come those of the children of an index that
// the store has deleted with it, because nothing else named them.
func (m *manifests) deleteWhole(ctx context.Context, d digest.Digest) error {
	held, err := m.store.Manifest(ctx, m.name.Name(), d)
	if err != nil {
		return err // there is no subject: nothing is deleted
	}
	below, err := m.below(ctx, held)
	if err != nil {
		return fmt.Errorf("list what is below %s: %w", d, err)
	}
	if err := m.deleteReferrers(ctx, d); err != nil {
		return err
	}
	if err := m.store.DeleteManifest(ctx, m.name.Name(), d); err != nil {
		return err
	}
	for _, child := range below {
		_, err := m.store.Manifest(ctx, m.name.Name(), child)
		if errors.Is(err, store.ErrNotFound) {
			err = m.deleteReferrers(ctx, child)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// below lists the manifests of this repository that an index names, and those that they name.
func (m *manifests) below(ctx context.Context, top store.Manifest) ([]digest.Digest, error) {
	seen := map[digest.Digest]bool{top.Digest: true}
	var below []digest.Digest
	for queue := []store.Manifest{top}; len(queue) > 0; queue = queue[1:] {
		var index ocispec.Index
		if err := json.Unmarshal(queue[0].Body, &index); err != nil {
			continue // the store took it: then it is nothing that names manifests
		}
		for _, descriptor := range index.Manifests {
			held, err := m.store.Manifest(ctx, m.name.Name(), descriptor.Digest)
			if errors.Is(err, store.ErrNotFound) || seen[descriptor.Digest] {
				continue // a sparse index names what is not there
			}
			if err != nil {
				return nil, err
			}
			seen[held.Digest] = true
			below = append(below, held.Digest)
			queue = append(queue, held)
		}
	}
	return below, nil
}

// deleteReferrers deletes what refers to a manifest, and what refers to that, and so on. Only manifests of this repository that are about the subject go: a signature says of no other.
func (m *manifests) deleteReferrers(ctx context.Context, subject digest.Digest) error {
	repo := m.name.Name()
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
	about, err := m.store.Referrers(ctx, repo, d, "")
	if err != nil {
		return nil, err
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
