package client

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"net/http"
	"net/url"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// Run is a staged sync in the daemon. Commit makes its content visible at once. A Run that is
// neither committed nor aborted is collected after a day.
type Run struct {
	client *Client
	id     string
	partial
}

// PastSyncs lists the last runs that were committed, the latest first.
func (c *Client) PastSyncs(ctx context.Context, q api.PastRequest) ([]api.PastSync, error) {
	return call(ctx, c, api.ListSyncs, q)
}

// Rollback gives the tags that a run moved their manifests of before.
func (c *Client) Rollback(ctx context.Context, id string, q api.RollbackRequest) (api.Rollback, error) {
	return call(ctx, c, api.RollbackSync, q, id)
}

// BeginSync begins a run. The name tells people what it brings.
func (c *Client) BeginSync(ctx context.Context, name string) (*Run, error) {
	var a api.Sync
	err := redial(ctx, func() (err error) {
		a, err = call(ctx, c, api.BeginSync, api.NewSync{Name: name})
		return err
	})
	if err != nil {
		return nil, err
	}
	return &Run{client: c, id: a.ID}, nil
}

// Room returns how many bytes of blobs the appliance takes, how many more it keeps free, and where it
// keeps blobs. What it has of blobs that Existing was asked for, from uploads that broke off, counts as
// taken again.
func (r *Run) Room(ctx context.Context) (free, kept int64, where string, err error) {
	status, err := r.client.Status(ctx)
	if err != nil {
		return 0, 0, "", err
	}
	if len(status.Space) == 0 {
		return 0, 0, "", errors.New("the appliance cannot tell how much space it has")
	}
	at := status.Space[0]
	return at.Free - at.Kept + r.bytes(), at.Kept, at.Path, nil
}

// ID names the run in the daemon's log.
func (r *Run) ID() string { return r.id }

// Existing returns which of some blobs and manifests, listed by the repository that they are for,
// need not be put, and makes those a part of the run. Unconfirmed are the blobs that exist in other
// repositories only, see Confirm.
func (r *Run) Existing(ctx context.Context, blobs, manifests map[string][]digest.Digest) (
	haveBlobs, haveManifests, unconfirmed map[string][]digest.Digest, err error,
) {
	haveBlobs = map[string][]digest.Digest{}
	haveManifests = map[string][]digest.Digest{}
	unconfirmed = map[string][]digest.Digest{}
	ask := func(q api.Existing) error {
		a, err := call(ctx, r.client, api.CheckSync, q, r.id)
		merge(haveBlobs, a.Blobs)
		merge(haveManifests, a.Manifests)
		merge(unconfirmed, a.Unconfirmed)
		r.learn(a.Partial)
		return err
	}
	for some := range portions(blobs) {
		if err := ask(api.Existing{Blobs: some}); err != nil {
			return nil, nil, nil, err
		}
	}
	for some := range portions(manifests) {
		if err := ask(api.Existing{Manifests: some}); err != nil {
			return nil, nil, nil, err
		}
	}
	return haveBlobs, haveManifests, unconfirmed, nil
}

func merge(all, some map[string][]digest.Digest) {
	for repo, ds := range some {
		all[repo] = append(all[repo], ds...)
	}
}

// Confirm stages blobs that exist in other repositories without sending them, since the source of
// the repository that lists them has each of them, of that size. It returns the staged ones; the
// others must be put.
func (r *Run) Confirm(ctx context.Context, blobs map[string][]ocispec.Descriptor) (staged map[string][]digest.Digest, err error) {
	staged = map[string][]digest.Digest{}
	for some := range portions(blobs) {
		q := api.Confirm{Blobs: map[string][]api.Blob{}}
		for repo, list := range some {
			for _, b := range list {
				q.Blobs[repo] = append(q.Blobs[repo], api.Blob{Digest: b.Digest, Size: b.Size})
			}
		}
		a, err := call(ctx, r.client, api.ConfirmSync, q, r.id)
		if err != nil {
			return nil, err
		}
		merge(staged, a.Blobs)
	}
	return staged, nil
}

// portions cuts lists by repository into portions for one request.
func portions[E any](lists map[string][]E) iter.Seq[map[string][]E] {
	return func(yield func(map[string][]E) bool) {
		some, n := map[string][]E{}, 0
		for repo, list := range lists {
			for len(list) > 0 {
				part := list[:min(api.AtOnce-n, len(list))]
				some[repo], list, n = part, list[len(part):], n+len(part)
				if n < api.AtOnce {
					continue
				}
				if !yield(some) {
					return
				}
				some, n = map[string][]E{}, 0
			}
		}
		if n > 0 {
			yield(some)
		}
	}
}

// Source records the sources of each repository, such as quay.io/org/image, for the repair of
// damage.
func (r *Run) Source(ctx context.Context, from map[string][]string) error {
	for some := range portions(from) {
		if _, err := call(ctx, r.client, api.SetSources, api.Sources{Sources: some}, r.id); err != nil {
			return err
		}
	}
	return nil
}

// PutManifest sends a manifest, whose blobs must exist in the repository, or have been put or
// confirmed for it before.
func (r *Run) PutManifest(ctx context.Context, repo string, desc ocispec.Descriptor, body []byte) error {
	req, err := r.put(ctx, api.PutManifest, repo, desc.Digest, desc.MediaType, bytes.NewReader(body))
	if err != nil {
		return err
	}
	return r.client.do(r.client.http, req, nil)
}

func (r *Run) put(ctx context.Context, k api.Call[api.None, api.None], repo string, d digest.Digest,
	mediaType string, body io.Reader) (*http.Request, error) {
	req, err := r.client.request(ctx, k.Method,
		fill(k.Path, r.id, d.String())+"?"+api.ForRepository.Name+"="+url.QueryEscape(repo), body)
	if err == nil {
		req.Header.Set("Content-Type", mediaType)
	}
	return req, err
}

// Tag sets the tags of each repository to manifests of the run.
func (r *Run) Tag(ctx context.Context, tags map[string]map[string]digest.Digest) error {
	var all []api.Tag
	for repo, named := range tags {
		for name, d := range named {
			all = append(all, api.Tag{Repository: repo, Tag: name, Digest: d})
		}
	}
	for some := range slices.Chunk(all, api.AtOnce) {
		if _, err := call(ctx, r.client, api.TagSync, api.Tags{Tags: some}, r.id); err != nil {
			return err
		}
	}
	return nil
}

// Commit makes the content of the run visible.
func (r *Run) Commit(ctx context.Context) error {
	_, err := callVia(ctx, r.client, r.client.patient, api.CommitSync, api.None{}, r.id)
	return err
}

// Abort ends the run. Collection removes its content.
func (r *Run) Abort(ctx context.Context) error {
	_, err := call(ctx, r.client, api.AbortSync, api.None{}, r.id)
	return err
}
