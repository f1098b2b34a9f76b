package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"strconv"

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
	if algorithm := query.Get("digest-algorithm"); algorithm != "" &&
		!image.ValidAlgorithm(digest.Algorithm(algorithm)) {
		return errBadDigest(fmt.Errorf("invalid digest algorithm %s: only sha256 and sha512 are kept", image.Quote(algorithm)))
	}
	upload, err := a.store.Uploads.New(r.Context(), t.repo)
	if err != nil {
		return uploadCodes.explain(fmt.Errorf("begin upload: %w", err))
	}
	return answerSession(w, t.repo, upload, http.StatusAccepted)
}

// mount mounts a blob; without "from" it mounts from any repository that has the blob and that
// the user may read. If that is not possible the client gets an upload session. The answer is
// the same whether the blob, the repository or the right to read it is missing, or the name or
// digest is malformed: a refusal would end the push, and a difference would reveal content that
// the user may not read.
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
		// The client does not know the session, so its content is useless. If this fails,
		// collection removes it.
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
		return nil, &problem{status: http.StatusNotFound, code: codeUploadUnknown,
			message: "no such upload", cause: err}
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

// continueUpload answers PATCH, which appends a chunk, and PUT, which may append one
// and ends the session.
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

// offsetParameter is a query parameter of a session's Location: the size of the session when the
// Location was sent. A client that missed the answer to a chunk sends the chunk again to the
// Location that it has. Without the parameter the chunk would be appended twice, and the upload
// would fail with a wrong digest.
const offsetParameter = "offset"

// sessionHeaders are the headers that tell a client how to continue a session.
func sessionHeaders(repo string, upload *store.Upload) map[string]string {
	size := upload.Size()
	location := target{kind: kindUpload, repo: repo, id: upload.ID()}.path()
	return map[string]string{
		"Location":           location + "?" + url.Values{offsetParameter: {strconv.FormatInt(size, 10)}}.Encode(),
		"Range":              rangeHeader(size),
		"Docker-Upload-Uuid": upload.ID(),
	}
}

// answerSession closes a session, so that its content is on disk, and answers with its headers.
func answerSession(w http.ResponseWriter, repo string, upload *store.Upload, status int) error {
	if err := upload.Close(); err != nil {
		return uploadCodes.explain(fmt.Errorf("close upload: %w", err))
	}
	h := w.Header()
	setVersion(h)
	for name, value := range sessionHeaders(repo, upload) {
		h.Set(name, value)
	}
	h.Set("Content-Length", "0")
	w.WriteHeader(status)
	return nil
}

// refuseChunk returns the error of a chunk, with the headers that tell the client how to continue.
// A full disk cancels the session: its content would use space that a delete or a collection needs.
func refuseChunk(ctx context.Context, repo string, upload *store.Upload, err error) error {
	explained := uploadCodes.explain(err)
	var full *store.FullError
	if errors.As(err, &full) {
		_ = upload.Cancel(context.WithoutCancel(ctx)) // if this fails, collection removes the files
		return explained
	}
	var p *problem
	if !errors.As(explained, &p) {
		return explained
	}
	if err := upload.Close(); err != nil {
		return uploadCodes.explain(fmt.Errorf("close upload: %w", err))
	}
	header := sessionHeaders(repo, upload)
	maps.Copy(header, p.header)
	p.header = header
	return p
}

// chunkOf parses the Content-Range of a request. Without one, start and length are -1.
func chunkOf(r *http.Request) (span, error) {
	header := r.Header.Get("Content-Range")
	if header == "" {
		return span{start: -1, length: -1}, nil
	}
	chunk, err := parseContentRange(header)
	if err == nil && r.ContentLength >= 0 && r.ContentLength != chunk.length {
		err = errLength(chunk.length, r.ContentLength)
	}
	return chunk, err
}

// offsetOf returns the offset of a Location, -1 without one: clients may continue a session by its
// path alone, as with versions that had no such parameter.
func offsetOf(r *http.Request) int64 {
	offset, ok := parseDecimal(r.URL.Query().Get(offsetParameter))
	if !ok {
		return -1
	}
	return offset
}

func errLength(announced, sent int64) error {
	return refuse(http.StatusBadRequest, codeSizeInvalid,
		"Content-Range announces %d bytes, the body has %d", announced, sent)
}

// errBody reports a body that is incomplete or malformed. Mostly the client has gone by then.
func errBody(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return &problem{status: http.StatusRequestTimeout, code: codeSizeInvalid,
			message: "the request's body has stopped arriving", cause: err}
	}
	return &problem{status: http.StatusBadRequest, code: codeSizeInvalid,
		message: "the request's body could not be read: " + err.Error(), cause: err}
}

// body is a request's body whose errors are reported as the client's, not the disk's.
type body struct {
	io.ReadCloser
	announced int64 // by Content-Range, or -1
	read      int64
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.read += int64(n)
	switch {
	case b.announced >= 0 && (b.read > b.announced || err == io.EOF && b.read < b.announced):
		return n, errLength(b.announced, b.read)
	case err != nil && err != io.EOF:
		return n, errBody(err)
	}
	return n, err
}
