package oci

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/registry/store"
)

// startUpload answers POST: a mount, a whole blob, or a new session.
func (a *API) startUpload(w http.ResponseWriter, r *http.Request, t target) error {
	if err := a.refusePush(t.repo); err != nil {
		return err
	}
	query := r.URL.Query()
	if mount := query.Get("mount"); mount != "" {
		if done, err := a.mount(w, r, t, mount, query.Get("from")); done || err != nil {
			return err
		}
	} else if d := query.Get("digest"); d != "" {
		return a.pushWhole(w, r, t, d)
	}
	if algorithm := query.Get("digest-algorithm"); algorithm != "" && !image.ValidAlgorithm(digest.Algorithm(algorithm)) {
		return errBadDigest(fmt.Errorf("invalid digest algorithm %s: only sha256 and sha512 are kept", image.Quote(algorithm)))
	}
	upload, err := a.store.Uploads.New(r.Context(), t.repo)
	if err != nil {
		return uploadCodes.explain(fmt.Errorf("begin upload: %w", err))
	}
	return answerSession(w, t.repo, upload, http.StatusAccepted)
}

// mount mounts a blob; without "from" it mounts from any repository that has the blob and that the user may read. If that
// is not possible the client gets an upload session. The answer is the same whether the blob, the repository or the right
// to read it is missing, or the name or digest is malformed: a refusal would end the push, and a difference would reveal
// content that the user may not read.
func (a *API) mount(w http.ResponseWriter, r *http.Request, t target, mount, from string) (done bool, err error) {
	d, err := parseDigestText(mount)
	if err != nil {
		return false, nil
	}
	if from == "" {
		from, err = a.store.Blobs.Find(r.Context(), d, func(repo string) bool { return mayPull(r, repo) })
	} else if !image.ValidRepository(from) || !mayPull(r, from) {
		return false, nil
	}
	if err == nil {
		_, err = a.store.Blobs.Mount(r.Context(), t.repo, from, d)
	}
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, blobCodes.explain(fmt.Errorf("mount blob: %w", err))
	}
	created(w, t.repo, d)
	return true, nil
}

// pushWhole stores a blob that is sent in a single POST.
func (a *API) pushWhole(w http.ResponseWriter, r *http.Request, t target, want string) error {
	d, err := parseDigestText(want)
	if err != nil {
		return err
	}
	upload, err := a.store.Uploads.New(r.Context(), t.repo)
	if err != nil {
		return uploadCodes.explain(err)
	}
	defer upload.Close()
	if _, err = upload.ReadFrom(&body{ReadCloser: r.Body, announced: -1}); err == nil {
		_, err = upload.Commit(r.Context(), d)
	}
	if err != nil {
		// The client does not know the session, so its content is useless. If this fails, collection removes it.
		upload.Cancel(context.WithoutCancel(r.Context()))
		return uploadCodes.explain(err)
	}
	created(w, t.repo, d)
	return nil
}

// resume opens a session. The answer is the same for all sessions that do not exist.
func (a *API) resume(r *http.Request, t target) (*store.Upload, error) {
	upload, err := a.store.Uploads.Resume(r.Context(), t.repo, t.id)
	if errors.Is(err, store.ErrNotFound) {
		return nil, &problem{status: http.StatusNotFound, code: codeUploadUnknown, message: "no such upload", cause: err}
	}
	if err != nil {
		return nil, uploadCodes.explain(fmt.Errorf("resume upload: %w", err))
	}
	return upload, nil
}

// uploadStatus answers GET and HEAD of a session.
func (a *API) uploadStatus(w http.ResponseWriter, r *http.Request, t target) error {
	upload, err := a.resume(r, t)
	if err != nil {
		return err
	}
	return answerSession(w, t.repo, upload, http.StatusNoContent)
}

// continueUpload answers PATCH, which appends a chunk, and PUT, which may append one and ends the session.
func (a *API) continueUpload(w http.ResponseWriter, r *http.Request, t target) error {
	upload, err := a.resume(r, t)
	if err != nil {
		return err
	}
	defer upload.Close() // does nothing after the session has ended
	var d digest.Digest
	if r.Method == http.MethodPut {
		if d, err = parseDigestText(r.URL.Query().Get("digest")); err != nil {
			return refuseChunk(r.Context(), t.repo, upload, err)
		}
	}
	if err := receiveChunk(r, upload); err != nil {
		return refuseChunk(r.Context(), t.repo, upload, err)
	}
	if r.Method == http.MethodPatch {
		return answerSession(w, t.repo, upload, http.StatusAccepted)
	}
	if _, err := upload.Commit(r.Context(), d); err != nil { // the session has ended
		return errorCodes{notFound: codeUploadUnknown, invalid: codeDigestInvalid}.explain(err)
	}
	created(w, t.repo, d)
	return nil
}

// receiveChunk appends the body of a request to an upload if it continues the upload.
func receiveChunk(r *http.Request, upload *store.Upload) error {
	chunk, err := chunkOf(r)
	if err != nil {
		return err
	}
	for _, start := range []int64{offsetOf(r), chunk.start} {
		if start >= 0 && start != upload.Size() {
			return errRange(start, upload.Size())
		}
	}
	_, err = upload.ReadFrom(&body{ReadCloser: r.Body, announced: chunk.length})
	return err
}

// cancelUpload answers DELETE of a session.
func (a *API) cancelUpload(w http.ResponseWriter, r *http.Request, t target) error {
	upload, err := a.resume(r, t)
	if err != nil {
		return err
	}
	if err := errors.Join(upload.Cancel(r.Context()), upload.Close()); err != nil {
		return fmt.Errorf("cancel upload: %w", err)
	}
	setVersion(w.Header())
	w.Header().Set("Docker-Upload-Uuid", t.id)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func created(w http.ResponseWriter, repo string, d digest.Digest) {
	h := w.Header()
	setVersion(h)
	h.Set("Location", "/v2/"+repo+"/blobs/"+d.String())
	h.Set("Docker-Content-Digest", d.String())
	h.Set("Content-Length", "0")
	w.WriteHeader(http.StatusCreated)
}
