package registry

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/pull"
	"github.com/mirror-appliance/appliance/registry/store"
)

// pinName names the job.
const pinName = "pin"

// pinner pins images: it fetches the rest of them, and has the store keep them from eviction.
type pinner struct{ *daemon }

// List lists the images that are pinned.
func (p pinner) List(ctx context.Context) ([]api.PinnedImage, error) {
	pinned, err := p.store.Manifests.Pinned(ctx)
	all := []api.PinnedImage{}
	for _, one := range pinned {
		all = append(all, api.PinnedImage(one))
	}
	return all, err
}

// run is the job. An image that fails does not stop the others.
func (p pinner) run(ctx context.Context, q api.PinRequest, progress func(api.PinProgress)) (api.PinResult, error) {
	if p.upstreams.puller == nil {
		return api.PinResult{}, errors.New("images are pinned by the registry while it runs")
	}
	p.unpinStopped(ctx) // at a daemon, of several, that was killed
	now := api.PinProgress{Images: len(q.Images)}
	return p.each(ctx, q, func(name string) (at store.Pinned, warning string, err error) {
		now.Image, now.Blobs, now.OfBlobs, now.Bytes, now.OfBytes = name, 0, 0, 0, 0
		progress(now)
		at, warning, err = p.pin(ctx, name, func(f pull.Fetched) {
			now.Blobs, now.OfBlobs, now.Bytes, now.OfBytes = f.Blobs, f.OfBlobs, f.Bytes, f.OfBytes
			progress(now)
		})
		now.Done++
		if err != nil {
			now.Failures++
		}
		return at, warning, err
	})
}

// Remove ends the protection of images.
func (p pinner) Remove(ctx context.Context, q api.PinRequest) (api.PinResult, error) {
	return p.each(ctx, q, func(name string) (store.Pinned, string, error) {
		repo, ref := p.find(name)
		m, err := p.held(ctx, repo, ref)
		if err != nil {
			return store.Pinned{}, "", err
		}
		changed, err := p.store.Manifests.Unpin(ctx, repo, m.Digest)
		if err == nil && !changed {
			err = hint.New(fmt.Errorf("%s@%s is not pinned", repo, m.Digest), "appliance pin list")
		}
		return store.Pinned{Repository: repo, Digest: m.Digest}, "", err
	})
}

// each does something with each image, and returns what became of it. do returns the repository and
// the digest.
func (p pinner) each(ctx context.Context, q api.PinRequest, do func(name string) (at store.Pinned, warning string, err error)) (api.PinResult, error) {
	result := api.PinResult{Images: []api.PinOutcome{}}
	for _, name := range q.Images {
		at, warning, err := do(name)
		if err != nil && ctx.Err() != nil {
			return result, err
		}
		o := api.PinOutcome{Image: name, Warning: warning}
		if err != nil {
			o.Error, o.Hint = err.Error(), hint.Of(err)
		} else {
			o.PinnedImage = &api.PinnedImage{Repository: at.Repository, Digest: at.Digest, Tags: []string{}}
		}
		result.Images = append(result.Images, o)
	}
	return result, p.describe(ctx, result.Images)
}

// describe completes what became of images.
func (p pinner) describe(ctx context.Context, outcomes []api.PinOutcome) error {
	all, err := p.List(ctx)
	if err != nil {
		return err
	}
	for i, o := range outcomes {
		if o.PinnedImage == nil {
			continue
		}
		outcomes[i].Kept = true
		for _, one := range all {
			if one.Repository == o.Repository && one.Digest == o.Digest {
				outcomes[i].PinnedImage, outcomes[i].Kept = &one, false
			}
		}
	}
	return nil
}

// pin pins an image: at first, so that the beginning of a large image is not evicted for its end. An
// image that cannot be fetched whole is not pinned.
func (p pinner) pin(ctx context.Context, name string, progress func(pull.Fetched)) (at store.Pinned, warning string, err error) {
	repo, ref := p.find(name)
	if !p.upstreams.puller.Serves(repo) {
		m, err := p.held(ctx, repo, ref)
		if err == nil {
			_, err = p.store.Manifests.Pin(ctx, repo, m.Digest)
		}
		return store.Pinned{Repository: repo, Digest: m.Digest}, "", err
	}
	at.Repository = repo
	changed := false
	whole, err := p.upstreams.puller.Fetch(ctx, repo, ref, pull.FetchOptions{
		Progress: progress,
		Stored: func(ctx context.Context, m store.Manifest) (err error) {
			at.Digest = m.Digest
			if changed, err = p.store.Manifests.Pin(ctx, repo, m.Digest); changed {
				p.pinning.Set(ctx, pinning{repo, m.Digest})
			}
			return err
		},
	})
	if err != nil && changed {
		_, undone := p.store.Manifests.Unpin(context.WithoutCancel(ctx), repo, at.Digest)
		err = errors.Join(err, undone)
	}
	if changed {
		p.pinning.Remove(context.WithoutCancel(ctx))
	}
	if gate := p.link.Gate(); errors.Is(err, context.Canceled) && ctx.Err() == nil && gate != nil {
		err = gate // by which requests under way end
	}
	if whole.Unasked != nil {
		warning = "the upstream could not be asked for all signatures and other attachments: " + whole.Unasked.Error()
	}
	return at, warning, err
}

// pinning is the image that is being pinned and was not pinned before.
type pinning struct {
	Repository string        `json:"repository"`
	Digest     digest.Digest `json:"digest"`
}

// start ends a pin that was stopped, unless another daemon may pin: it begins with this itself.
func (p pinner) start(ctx context.Context) {
	if alone := p.alone(pinName); alone != nil {
		place, err := alone(ctx)
		if err != nil {
			return
		}
		defer place.Release()
	}
	p.unpinStopped(ctx)
}

// unpinStopped ends the pin of an image that was not fetched whole before the daemon was killed.
func (p pinner) unpinStopped(ctx context.Context) {
	stopped := p.pinning.Get()
	if stopped == nil {
		return
	}
	if _, err := p.store.Manifests.Unpin(ctx, stopped.Repository, stopped.Digest); err != nil && !errors.Is(err, store.ErrNotFound) {
		p.log.Error("the pin of an image that is not whole could not be ended", "repository", stopped.Repository, "digest", stopped.Digest, "error", err)
		return
	}
	p.log.Warn("an image is not pinned, since the registry was killed before it was whole: pin it again", "repository", stopped.Repository, "digest", stopped.Digest)
	p.pinning.Remove(ctx)
}

// held returns the manifest of an image that the store has.
func (p pinner) held(ctx context.Context, repo, ref string) (m store.Manifest, err error) {
	if d, parseErr := digest.Parse(ref); parseErr == nil {
		m, err = p.store.Manifests.Get(ctx, repo, d)
	} else {
		m, err = p.store.Manifests.ByTag(ctx, repo, ref)
	}
	if errors.Is(err, store.ErrNotFound) {
		err = hint.New(fmt.Errorf("%s: %w", repo, err), "name it as it is pulled here, or as an upstream has it: quay.io/org/image:v1; appliance upstream list")
	}
	return m, err
}

// find returns the repository of an image here, which may be named as it is pulled, with or without
// the address of this registry, or as it is called at an upstream.
func (p pinner) find(image string) (repo, ref string) {
	name, ref := splitImage(image)
	name = strings.TrimPrefix(name, p.cfg.Address()+"/")
	if p.upstreams.puller == nil || p.upstreams.puller.Serves(name) {
		return name, ref
	}
	if host, rest, found := strings.Cut(name, "/"); found {
		if local, ok := p.upstreams.puller.Locate(host, rest); ok {
			return local, ref
		}
	}
	return name, ref
}
