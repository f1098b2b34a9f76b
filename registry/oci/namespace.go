package oci

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/distribution/distribution/v3"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/registry/auth"
	"github.com/mirror-appliance/appliance/registry/store"
)

// What follows is the store as the App knows it. The App compares errors with ==, so distribution's own
// are returned unwrapped; what the store said of the matter is noted in the exchange before that.
// The methods that the App has no use for, given the front handler, return ErrUnsupported.

// namespace is all repositories.
type namespace struct {
	store *store.Store
	scan  int // repositories to read at a time when not all are visible
}

func (n *namespace) Scope() distribution.Scope { return distribution.GlobalScope }

func (n *namespace) Repository(_ context.Context, name reference.Named) (distribution.Repository, error) {
	return &repository{store: n.store, name: name}, nil
}

// Repositories fills names. The App needs io.EOF to know that there are no more, and panics over an
// empty page without it.
func (n *namespace) Repositories(ctx context.Context, names []string, last string) (int, error) {
	if id, ok := auth.IdentityFrom(ctx); ok && id.Restricted() {
		return n.visible(ctx, names, last, id.Sees)
	}
	found, more, err := n.store.Repositories(ctx, last, len(names))
	if err != nil {
		return 0, exchangeFrom(ctx).fail(aboutRepo, fmt.Errorf("list repositories: %w", err))
	}
	if !more || len(found) == 0 {
		err = io.EOF
	}
	return copy(names, found), err
}

// visible is Repositories for a user who may know of some only. It looks one further than it fills, so
// that a Link to a next page is there exactly if that page will not be empty.
func (n *namespace) visible(ctx context.Context, names []string, last string, may func(string) bool) (int, error) {
	filled := 0
	for len(names) > 0 {
		found, more, err := n.store.Repositories(ctx, last, n.scan)
		if err != nil {
			return 0, exchangeFrom(ctx).fail(aboutRepo, fmt.Errorf("list repositories: %w", err))
		}
		for _, name := range found {
			if !may(name) {
				continue
			}
			if filled == len(names) {
				return filled, nil
			}
			names[filled] = name
			filled++
		}
		if !more || len(found) == 0 {
			break
		}
		last = found[len(found)-1]
	}
	return filled, io.EOF
}

func (n *namespace) Blobs() distribution.BlobEnumerator    { return unsupported{} }
func (n *namespace) BlobStatter() distribution.BlobStatter { return unsupported{} }

// repository is one of them, whether or not it holds anything yet.
type repository struct {
	store *store.Store
	name  reference.Named
}

func (r *repository) Named() reference.Named                       { return r.name }
func (r *repository) Blobs(context.Context) distribution.BlobStore { return &blobs{repository: r} }
func (r *repository) Tags(context.Context) distribution.TagService { return &tags{repository: r} }

func (r *repository) Manifests(context.Context, ...distribution.ManifestServiceOption) (distribution.ManifestService, error) {
	return &manifests{repository: r}, nil
}

// manifest is what was pushed, byte for byte.
type manifest struct {
	mediaType string
	body      []byte
}

func (m manifest) References() []ocispec.Descriptor { return nil }
func (m manifest) Payload() (string, []byte, error) { return m.mediaType, m.body, nil }

type manifests struct{ *repository }

func (m *manifests) Exists(context.Context, digest.Digest) (bool, error) {
	return false, distribution.ErrUnsupported
}

func (m *manifests) Get(ctx context.Context, d digest.Digest, _ ...distribution.ManifestServiceOption) (distribution.Manifest, error) {
	held, err := m.store.Manifest(ctx, m.name.Name(), d)
	if errors.Is(err, store.ErrNotFound) {
		return nil, distribution.ErrManifestUnknownRevision{Name: m.name.Name(), Revision: d}
	}
	if err != nil {
		return nil, exchangeFrom(ctx).fail(aboutManifest, fmt.Errorf("get manifest: %w", err))
	}
	return manifest{mediaType: held.MediaType, body: held.Body}, nil
}

// Put stores the manifest and all of its tags in one transaction. The App's Tag afterwards has
// nothing left to do.
func (m *manifests) Put(ctx context.Context, pushed distribution.Manifest, options ...distribution.ManifestServiceOption) (digest.Digest, error) {
	x := exchangeFrom(ctx)
	put := x.put
	for _, option := range options {
		if tag, ok := option.(distribution.WithTagOption); ok {
			put.Tags = append(put.Tags, tag.Tag)
		}
	}
	_, body, err := pushed.Payload()
	if err != nil {
		return "", x.fail(aboutManifest, err)
	}
	held, err := m.store.PutManifest(ctx, m.name.Name(), body, put)
	if err != nil {
		return "", x.fail(aboutManifest, err)
	}
	x.changed(change{event: "push", repo: m.name.Name(), tags: put.Tags, digest: held.Digest})
	if held.Subject != "" {
		x.header.Set("OCI-Subject", held.Subject.String())
	}
	for _, tag := range x.put.Tags { // those of the query, which the client asks to hear of
		x.header.Add("OCI-Tag", tag)
	}
	return held.Digest, nil
}

func (m *manifests) Delete(ctx context.Context, d digest.Digest) error {
	x := exchangeFrom(ctx)
	var err error
	if x.cascade {
		err = m.deleteWhole(ctx, d)
	} else {
		err = m.store.DeleteManifest(ctx, m.name.Name(), d)
	}
	if errors.Is(err, store.ErrNotFound) {
		return distribution.ErrBlobUnknown
	}
	if err != nil {
		return x.fail(aboutManifest, fmt.Errorf("delete manifest: %w", err))
	}
	x.changed(change{event: "delete", repo: m.name.Name(), digest: d})
	return nil
}

type tags struct{ *repository }

func (t *tags) Get(ctx context.Context, tag string) (ocispec.Descriptor, error) {
	held, err := t.store.ManifestByTag(ctx, t.name.Name(), tag)
	if errors.Is(err, store.ErrNotFound) {
		return ocispec.Descriptor{}, distribution.ErrTagUnknown{Tag: tag}
	}
	if err != nil {
		return ocispec.Descriptor{}, exchangeFrom(ctx).fail(aboutManifest, fmt.Errorf("get tag: %w", err))
	}
	return held.Descriptor(), nil
}

// Tag does nothing: Put has set the tag.
func (t *tags) Tag(context.Context, string, ocispec.Descriptor) error { return nil }

func (t *tags) Untag(ctx context.Context, tag string) error {
	err := t.store.DeleteTag(ctx, t.name.Name(), tag)
	if errors.Is(err, store.ErrNotFound) {
		return distribution.ErrTagUnknown{Tag: tag}
	}
	if err != nil {
		return exchangeFrom(ctx).fail(aboutManifest, fmt.Errorf("delete tag: %w", err))
	}
	exchangeFrom(ctx).changed(change{event: "delete tag", repo: t.name.Name(), tags: []string{tag}})
	return nil
}

// Lookup finds no tags: Delete of the manifest has removed them with it.
func (t *tags) Lookup(context.Context, ocispec.Descriptor) ([]string, error) { return nil, nil }

func (t *tags) All(context.Context) ([]string, error) { return nil, distribution.ErrUnsupported }

func (t *tags) List(ctx context.Context, limit int, last string) ([]string, error) {
	found, more, err := t.store.Tags(ctx, t.name.Name(), last, limit)
	if errors.Is(err, store.ErrNotFound) {
		return nil, distribution.ErrRepositoryUnknown{Name: t.name.Name()}
	}
	if err != nil {
		return nil, exchangeFrom(ctx).fail(aboutRepo, fmt.Errorf("list tags: %w", err))
	}
	if !more || len(found) == 0 {
		err = io.EOF
	}
	return found, err
}
