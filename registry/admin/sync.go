package admin

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/auth"
	"github.com/mirror-appliance/appliance/registry/store"
)

// handleRun makes serve answer a call about a run.
func handleRun[Q, A any](h *Handler, call api.Call[Q, A], serve func(r *http.Request, run *store.Run, q Q) (A, error), query ...api.Parameter) {
	handle(h, call, func(r *http.Request, q Q) (A, error) {
		run, err := h.store.Runs.Get(r.Context(), r.PathValue("id"))
		if err != nil {
			var none A
			return none, err
		}
		return serve(r, run, q)
	}, query...)
}

func (h *Handler) beginSync(r *http.Request, q api.NewSync) (api.Sync, error) {
	run, err := h.store.Runs.Begin(r.Context(), q.Name)
	if err != nil {
		return api.Sync{}, err
	}
	h.audit(r, "sync began", "id", run.ID(), "name", q.Name)
	return api.Sync{ID: run.ID()}, nil
}

func (h *Handler) checkSync(r *http.Request, run *store.Run, q api.Existing) (a api.Existing, err error) {
	if a.Blobs, a.Manifests, a.Unconfirmed, err = run.Existing(r.Context(), q.Blobs, q.Manifests); err != nil {
		return a, err
	}
	exists := map[digest.Digest]bool{}
	for _, list := range a.Blobs {
		for _, d := range list {
			exists[d] = true
		}
	}
	var missing []digest.Digest
	for _, list := range q.Blobs {
		for _, d := range list {
			if !exists[d] {
				missing = append(missing, d)
			}
		}
	}
	a.Partial = h.store.Runs.Partial(r.Context(), missing)
	return a, nil
}

func confirm(r *http.Request, run *store.Run, q api.Confirm) (a api.Confirmed, err error) {
	blobs := map[string][]ocispec.Descriptor{}
	for repo, list := range q.Blobs {
		for _, b := range list {
			blobs[repo] = append(blobs[repo], ocispec.Descriptor{Digest: b.Digest, Size: b.Size})
		}
	}
	a.Blobs, err = run.Confirm(r.Context(), blobs)
	return a, err
}

// target returns the repository and the digest that a request about one blob or manifest names.
func target(r *http.Request) (repo string, d digest.Digest, err error) {
	d, err = digestOf(r)
	return r.URL.Query().Get(api.ForRepository.Name), d, err
}

func digestOf(r *http.Request) (digest.Digest, error) {
	d, err := digest.Parse(r.PathValue("digest"))
	if err != nil {
		err = badRequest(fmt.Sprintf("%q is not a digest: %v", r.PathValue("digest"), err), "write it as sha256:…")
	}
	return d, err
}

// putBlob passes the body to the store, which verifies length and digest, and keeps what came of a
// large one.
func putBlob(r *http.Request, run *store.Run, _ api.None) (api.None, error) {
	if r.ContentLength < 0 {
		return api.None{}, &refusal{hint.New(errors.New("the length of the body is not known"),
			"send Content-Length"), http.StatusLengthRequired}
	}
	repo, d, err := target(r)
	if err != nil {
		return api.None{}, err
	}
	var offset int64
	if at := r.Header.Get(api.UploadOffset); at != "" {
		if offset, err = strconv.ParseInt(at, 10, 64); err != nil || offset < 0 || offset > math.MaxInt64-r.ContentLength {
			return api.None{}, badRequest(fmt.Sprintf("%q is not an offset", at), "write "+api.UploadOffset+" as a number of bytes")
		}
	}
	desc := ocispec.Descriptor{MediaType: "application/octet-stream", Digest: d, Size: offset + r.ContentLength}
	body := &bodyReader{r: r.Body}
	err = run.PutRest(r.Context(), repo, desc, offset, body)
	if err != nil && body.err != nil {
		err = brokenBody(body.err)
	}
	return api.None{}, err
}

// writeBlob names the file of a blob, for a process that may write into it: it reads the blob's
// source, and every byte that came here over a connection would be copied twice more.
func writeBlob(r *http.Request, run *store.Run, q api.Written) (a api.BlobFile, err error) {
	if _, overHTTPS := auth.IdentityFrom(r.Context()); overHTTPS {
		return a, badRequest("the file of a blob is written on the registry's own host", "send the blob")
	}
	d, err := digestOf(r)
	if err != nil {
		return a, err
	}
	a.File, err = run.Written(r.Context(), ocispec.Descriptor{Digest: d, Size: q.Size}, q.Written)
	return a, err
}

func putManifest(r *http.Request, run *store.Run, _ api.None) (api.None, error) {
	repo, d, err := target(r)
	if err != nil {
		return api.None{}, err
	}
	mediaType := r.Header.Get("Content-Type")
	if mediaType == "" {
		return api.None{}, badRequest("the manifest has no media type", "send it as Content-Type")
	}
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, image.MaxManifestBytes))
	if err != nil {
		return api.None{}, brokenBody(err)
	}
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(body))}
	return api.None{}, run.PutManifest(r.Context(), repo, desc, body)
}

func tag(r *http.Request, run *store.Run, q api.Tags) (api.None, error) {
	tags := map[string]map[string]digest.Digest{}
	for _, t := range q.Tags {
		if tags[t.Repository] == nil {
			tags[t.Repository] = map[string]digest.Digest{}
		}
		tags[t.Repository][t.Tag] = t.Digest
	}
	return api.None{}, run.Tag(r.Context(), tags)
}

func setSources(r *http.Request, run *store.Run, q api.Sources) (api.None, error) {
	return api.None{}, run.Source(r.Context(), q.Sources)
}

func (h *Handler) commit(r *http.Request, run *store.Run, _ api.None) (api.None, error) {
	if err := run.Commit(r.Context()); err != nil {
		return api.None{}, err
	}
	h.audit(r, "sync committed", "id", run.ID())
	return api.None{}, nil
}

func (h *Handler) abort(r *http.Request, run *store.Run, _ api.None) (api.None, error) {
	if err := run.Abort(r.Context()); err != nil {
		return api.None{}, err
	}
	h.audit(r, "sync given up", "id", run.ID())
	return api.None{}, nil
}

// bodyReader tells an error of the sender from one of the store.
type bodyReader struct {
	r   io.Reader
	err error
}

func (b *bodyReader) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		b.err = err
	}
	return n, err
}
