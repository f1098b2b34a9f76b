package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/internal/webpage"
)

// acceptManifests returns several header lines: some registries read a single one only to the first
// comma.
func acceptManifests() http.Header {
	return http.Header{"Accept": {image.MediaTypeDockerManifest, image.MediaTypeDockerList,
		ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex, "*/*"}}
}

// Resolve returns the descriptor of ref, a tag or a digest, without fetching the manifest if the
// registry allows that. A manifest that does not exist is an error with fs.ErrNotExist.
func (c *Client) Resolve(ctx context.Context, repo, ref string) (ocispec.Descriptor, error) {
	r, err := c.repository(repo)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	what := "resolve " + ref
	resp, err := c.get(ctx, http.MethodHead, r, what, c.url(r, "manifests/"+ref), acceptManifests(), http.StatusOK)
	if err == nil {
		resp.Body.Close()
		if desc, ok := describe(resp, ref); ok {
			return desc, nil
		}
	} else if !unsupported(err, http.StatusForbidden) {
		return ocispec.Descriptor{}, err
	}
	desc, _, err := c.Manifest(ctx, repo, ref)
	return desc, err
}

// describe returns the descriptor in the headers of a HEAD, if they are complete.
func describe(resp *http.Response, ref string) (ocispec.Descriptor, bool) {
	d, err := digest.Parse(resp.Header.Get("Docker-Content-Digest"))
	if err != nil || resp.ContentLength < 0 || resp.ContentLength > image.MaxManifestBytes {
		return ocispec.Descriptor{}, false
	}
	if want, err := digest.Parse(ref); err == nil && want != d {
		return ocispec.Descriptor{}, false
	}
	mediaType, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil || !slices.Contains(acceptManifests()["Accept"], mediaType) {
		return ocispec.Descriptor{}, false
	}
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: resp.ContentLength}, true
}

// Manifest fetches the manifest of ref, a tag or a digest. Its bytes hash to ref if that is a
// digest; for a tag they decide over the digest in the answer. A manifest that does not exist is an
// error with fs.ErrNotExist.
func (c *Client) Manifest(ctx context.Context, repo, ref string) (ocispec.Descriptor, []byte, error) {
	r, err := c.repository(repo)
	if err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	what := "get manifest " + ref
	resp, body, err := c.getWhole(ctx, r, what, c.url(r, "manifests/"+ref), acceptManifests(), image.MaxManifestBytes)
	if err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	d, err := c.digestOf(ctx, body, ref, resp.Header.Get("Docker-Content-Digest"))
	if err != nil {
		return ocispec.Descriptor{}, nil, c.failed(r, what, err)
	}
	claimed := resp.Header.Get("Content-Type")
	mediaType, err := mediaTypeOf(body, claimed)
	if err != nil {
		return ocispec.Descriptor{}, nil, c.failed(r, what, err)
	}
	if header, _, err := mime.ParseMediaType(claimed); err == nil && header != mediaType && !vague(header) {
		c.retry.log.WarnContext(ctx, "the header Content-Type is wrong; the content decides",
			"manifest", oneLine(ref), "header", oneLine(header), "content", oneLine(mediaType))
	}
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(body))}, body, nil
}

// getWhole fetches a small document, and retries when the connection breaks within it.
func (c *Client) getWhole(ctx context.Context, repo name.Repository, what, url string,
	header http.Header, limit int64) (*http.Response, []byte, error) {
	for failures := 1; ; failures++ {
		resp, err := c.get(ctx, http.MethodGet, repo, what, url, header, http.StatusOK)
		if err != nil {
			return nil, nil, err
		}
		if webpage.Is(resp) {
			resp.Body.Close()
			return nil, nil, c.failed(repo, what, webpage.New(c.Registry(), c.plain))
		}
		body, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
		resp.Body.Close()
		if err == nil {
			body, err = unpacked(body, limit)
		}
		switch {
		case err == nil && int64(len(body)) > limit:
			return nil, nil, c.failed(repo, what, fmt.Errorf("the answer is larger than %d bytes", limit))
		case err == nil:
			return resp, body, nil
		case failures >= c.retry.attempts || ctx.Err() != nil || c.retry.serving && tooLong(nil, err, 0):
			return nil, nil, c.failed(repo, what, err)
		}
		if err := c.retry.wait(ctx, failures, 0, err.Error()); err != nil {
			return nil, nil, c.failed(repo, what, err)
		}
	}
}

func wrongDigest(want, got digest.Digest) error {
	return hint.New(fmt.Errorf("the content hashes to %s and not to %s", got, want),
		"the upstream, or a proxy before it, serves damaged content: fetch it from another upstream, or tell its operator")
}

// digestOf verifies a body against ref, if that is a digest. For a tag the bytes decide: a header
// that differs, as some proxies keep it from another answer, is logged.
func (c *Client) digestOf(ctx context.Context, body []byte, ref, header string) (digest.Digest, error) {
	if want, err := digest.Parse(ref); err == nil {
		if got := want.Algorithm().FromBytes(body); got != want {
			return "", wrongDigest(want, got)
		}
		return want, nil
	}
	claimed, err := digest.Parse(header)
	if err != nil {
		return digest.FromBytes(body), nil
	}
	got := claimed.Algorithm().FromBytes(body)
	if got != claimed {
		c.retry.log.WarnContext(ctx, "the header Docker-Content-Digest is wrong; the content decides", "tag", oneLine(ref), "header", claimed, "content", got)
	}
	return got, nil
}

// mediaTypeOf returns the media type that the body names or suggests: a web server that serves a
// registry's files answers with JSON, and some proxies with whatever they had last. The
// Content-Type counts where it is that of a manifest and the body does not contradict it.
func mediaTypeOf(body []byte, contentType string) (string, error) {
	mediaType, _, err := mime.ParseMediaType(contentType)
	found := image.DetectMediaType(body)
	if err != nil || !strings.HasPrefix(mediaType, "application/vnd.") ||
		found != "" && contradicts(body, mediaType, found) {
		mediaType = found
	}
	switch {
	case mediaType == "":
		return "", errors.New("the answer is not an image manifest")
	case strings.HasPrefix(mediaType, image.MediaTypeDockerSchema1):
		return "", errors.New("the image is in Docker's schema 1, which current clients do not read; have it pushed again")
	}
	return mediaType, nil
}

// contradicts reports whether a body is of another media type than one of a manifest. found is the
// one that it names, or that its fields suggest, which is an OCI one then.
func contradicts(body []byte, mediaType, found string) bool {
	var names struct {
		MediaType string `json:"mediaType"`
	}
	if json.Unmarshal(body, &names) == nil && names.MediaType != "" {
		return mediaType != names.MediaType
	}
	return image.IsIndex(mediaType) != image.IsIndex(found) &&
		!strings.HasPrefix(mediaType, image.MediaTypeDockerSchema1)
}

func vague(mediaType string) bool {
	switch mediaType {
	case "", "application/json", "application/octet-stream", "text/plain", "text/json":
		return true
	}
	return false
}
