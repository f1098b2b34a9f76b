package admin

import (
	"errors"
	"io"
	"net/http"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/registry/store"
)

func (h *Handler) beginSync(r *http.Request) (int, any, error) {
	var q syncRequest
	if err := decode(r, maxJSON, &q); err != nil {
		return 0, nil, err
	}
	if q.Name == "" {
		return 0, nil, &badRequest{"the sync has no name", "give it one that tells what it brings"}
	}
	run, err := h.store.BeginRun(r.Context(), q.Name)
	if err != nil {
		return 0, nil, err
	}
	h.log.InfoContext(r.Context(), "sync began", "id", run.ID(), "name", q.Name, "by", by(r.Context()))
	return http.StatusCreated, syncAnswer{ID: run.ID()}, nil
}

func (h *Handler) held(r *http.Request) (int, any, error) {
	var q heldLists
	if err := decode(r, maxList, &q); err != nil {
		return 0, nil, err
	}
	run, err := h.store.Run(r.Context(), r.PathValue("id"))
	if err != nil {
		return 0, nil, err
	}
	var answer heldLists
	answer.Blobs, answer.Manifests, answer.Unconfirmed, err = run.Held(r.Context(), q.Blobs, q.Manifests)
	return http.StatusOK, answer, err
}

func (h *Handler) confirm(r *http.Request) (int, any, error) {
	var q confirmRequest
	if err := decode(r, maxList, &q); err != nil {
		return 0, nil, err
	}
	run, err := h.store.Run(r.Context(), r.PathValue("id"))
	if err != nil {
		return 0, nil, err
	}
	blobs := map[string][]ocispec.Descriptor{}
	for repo, list := range q.Blobs {
		for _, b := range list {
			blobs[repo] = append(blobs[repo], ocispec.Descriptor{Digest: b.Digest, Size: b.Size})
		}
	}
	var answer confirmAnswer
	answer.Blobs, err = run.Confirm(r.Context(), blobs)
	return http.StatusOK, answer, err
}

// target is what the path and the query of a request about one blob or manifest name.
type target struct {
	run    *store.Run
	repo   string
	digest digest.Digest
}

func (h *Handler) target(r *http.Request) (target, error) {
	t := target{repo: r.URL.Query().Get("repository")}
	if t.repo == "" {
		return t, &badRequest{"no repository is named", "add ?repository=NAME"}
	}
	var err error
	if t.digest, err = digest.Parse(r.PathValue("digest")); err != nil {
		return t, badDigest(r.PathValue("digest"), err)
	}
	t.run, err = h.store.Run(r.Context(), r.PathValue("id"))
	return t, err
}

// putBlob hands the body to the store as it comes in. The store verifies length and digest, and
// keeps nothing of a body that breaks off.
func (h *Handler) putBlob(r *http.Request) (int, any, error) {
	if r.ContentLength < 0 {
		return 0, nil, &lengthRequired{}
	}
	t, err := h.target(r)
	if err != nil {
		return 0, nil, err
	}
	desc := ocispec.Descriptor{MediaType: "application/octet-stream", Digest: t.digest, Size: r.ContentLength}
	body := &bodyReader{r: r.Body}
	if err := t.run.PutBlob(r.Context(), t.repo, desc, body); err != nil {
		if body.err != nil {
			return 0, nil, &brokenBody{body.err}
		}
		return 0, nil, err
	}
	return http.StatusCreated, nil, nil
}

func (h *Handler) putManifest(r *http.Request) (int, any, error) {
	t, err := h.target(r)
	if err != nil {
		return 0, nil, err
	}
	mediaType := r.Header.Get("Content-Type")
	if mediaType == "" {
		return 0, nil, &badRequest{"the manifest has no media type", "send it as Content-Type"}
	}
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, image.MaxManifestBytes))
	if err != nil {
		return 0, nil, &brokenBody{err}
	}
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: t.digest, Size: int64(len(body))}
	return http.StatusCreated, nil, t.run.PutManifest(r.Context(), t.repo, desc, body)
}

func (h *Handler) tag(r *http.Request) (int, any, error) {
	var q tagRequest
	if err := decode(r, maxList, &q); err != nil {
		return 0, nil, err
	}
	run, err := h.store.Run(r.Context(), r.PathValue("id"))
	if err != nil {
		return 0, nil, err
	}
	tags := map[string]map[string]digest.Digest{}
	for _, t := range q.Tags {
		if tags[t.Repository] == nil {
			tags[t.Repository] = map[string]digest.Digest{}
		}
		tags[t.Repository][t.Tag] = t.Digest
	}
	return http.StatusNoContent, nil, run.Tag(r.Context(), tags)
}

func (h *Handler) source(r *http.Request) (int, any, error) {
	var q sourceRequest
	if err := decode(r, maxList, &q); err != nil {
		return 0, nil, err
	}
	run, err := h.store.Run(r.Context(), r.PathValue("id"))
	if err != nil {
		return 0, nil, err
	}
	return http.StatusNoContent, nil, run.Source(r.Context(), q.Sources)
}

func (h *Handler) commit(r *http.Request) (int, any, error) {
	run, err := h.store.Run(r.Context(), r.PathValue("id"))
	if err != nil {
		return 0, nil, err
	}
	if err := run.Commit(r.Context()); err != nil {
		return 0, nil, err
	}
	h.log.InfoContext(r.Context(), "sync committed", "id", run.ID(), "by", by(r.Context()))
	return http.StatusNoContent, nil, nil
}

func (h *Handler) abort(r *http.Request) (int, any, error) {
	run, err := h.store.Run(r.Context(), r.PathValue("id"))
	if err != nil {
		return 0, nil, err
	}
	if err := run.Abort(r.Context()); err != nil {
		return 0, nil, err
	}
	h.log.InfoContext(r.Context(), "sync given up", "id", run.ID(), "by", by(r.Context()))
	return http.StatusNoContent, nil, nil
}

// bodyReader remembers that it was the sender's side that failed, and not the store's.
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
