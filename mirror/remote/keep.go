package remote

import (
	"context"
	"fmt"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
)

// Keep puts a manifest under tags at once: some registries collect what has none, while
// a run lasts. A tag that names the manifest already is left, since a registry may
// refuse to have it set again.
func (r *Run) Keep(ctx context.Context, repo string, desc ocispec.Descriptor, body []byte, tags ...string) error {
	m := manifest{body: body, mediaType: types.MediaType(desc.MediaType)}
	lacked := r.known.lacked(repo, desc.Digest)
	for _, name := range tags {
		t := tag{repo, name, desc.Digest}
		err := r.name(ctx, t, !lacked, func(context.Context) (manifest, error) { return m, nil })
		if err == nil {
			r.known.put(repo, desc.Digest, m)
			r.known.keep(t)
			continue
		}
		if err = r.failed(fmt.Sprintf("tag %s:%s", repo, name), err); finality(err) > 0 && r.known.lacked(repo, desc.Digest) {
			_ = r.PutManifest(ctx, repo, desc, body) // clusters pull it by digest, whatever became of the tag
		}
		return err
	}
	return nil
}

// name sets a tag, unless it names the manifest already. ask: it may.
func (r *Run) name(ctx context.Context, t tag, ask bool, get func(context.Context) (manifest, error)) error {
	ref := r.registry.Repo(t.repo).Tag(t.name)
	if ask {
		named, err := r.puller.Head(ctx, ref)
		if err != nil && !r.absent(ctx, err) {
			return err
		}
		if err == nil && named.Digest.String() == t.digest.String() {
			return nil
		}
	}
	m, err := get(ctx)
	if err != nil {
		return err
	}
	if err := r.pusher.Put(ctx, ref, m); err != nil {
		return r.refusedTag(ctx, t, err)
	}
	return nil
}

// set sets a tag for Commit.
func (r *Run) set(ctx context.Context, t tag) error {
	if r.known.isKept(t) {
		return nil
	}
	return r.name(ctx, t, true, func(ctx context.Context) (manifest, error) { return r.read(ctx, t.repo, t.digest) })
}

// read returns a manifest that the registry has.
func (r *Run) read(ctx context.Context, repo string, d digest.Digest) (manifest, error) {
	if m, ok := r.known.manifest(repo, d); ok {
		return m, nil
	}
	existing, err := r.puller.Get(ctx, r.byDigest(repo, d))
	if err != nil {
		return manifest{}, err
	}
	return manifest{body: existing.Manifest, mediaType: existing.MediaType}, nil
}
