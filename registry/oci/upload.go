package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/registry/store"
)

const octetStream = "application/octet-stream"

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
	if algorithm := query.Get("digest-algorithm"); algorithm != "" && algorithm != string(digest.SHA256) && algorithm != string(digest.SHA512) {
		return errBadDigest(algorithm+":", "only sha256 and sha512 are kept")
	}
	r = withoutForm(r)
	r.URL.RawQuery = "" // the App would look for a mount again
	return a.throughApp(w, r, t, &exchange{})
}

// mount mounts a blob, without "from" from any repository that has it and that the user may read. A blob that cannot
// be mounted is uploaded: the client gets the session that it would get without asking for a mount. That answer is the
// same whether the blob, the repository or the right to read it is missing, or the name or digest is malformed: a
// refusal ends a client's push, and a difference would tell of content that the user may not read.
func (a *API) mount(w http.ResponseWriter, r *http.Request, t target, mount, from string) (done bool, err error) {
	d, err := parseDigestText(mount)
	if err != nil {
		return false, nil
	}
	if from == "" {
		from, err = a.store.FindBlob(r.Context(), d, func(repo string) bool { return mayPull(r, repo) })
	} else if !image.ValidRepository(from) || !mayPull(r, from) {
		return false, nil
	}
	if err == nil {
		_, err = a.store.MountBlob(r.Context(), t.repo, from, d)
	}
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, aboutBlob.explain(fmt.Errorf("mount blob: %w", err))
	}
	created(w, t.repo, d)
	return true, nil
}

// pushWhole takes a blob in a single POST.
func (a *API) pushWhole(w http.ResponseWriter, r *http.Request, t target, want string) error {
	d, err := parseDigestText(want)
	if err != nil {
		return err
	}
	upload, err := a.store.NewUpload(r.Context(), t.repo)
	if err != nil {
		return aboutUpload.explain(err)
	}
	defer upload.Close()
	if _, err = upload.ReadFrom(new(exchange).reads(r.Body, -1)); err == nil {
		_, err = upload.Commit(r.Context(), d)
	}
	if err != nil {
		// The session has no name that anybody knows: what it holds is of no use. If this fails as
		// well, collection takes it away, and the first error is the one to tell.
		upload.Cancel(context.WithoutCancel(r.Context()))
		return aboutUpload.explain(err)
	}
	created(w, t.repo, d)
	return nil
}

// continueUpload answers PATCH and PUT of a session. A refusal carries a Location as every other answer does, so that
// the client can go on.
func (a *API) continueUpload(w http.ResponseWriter, r *http.Request, t target) error {
	err := a.resumeUpload(w, r, t)
	var p *problem
	if errors.As(err, &p) && p.status < http.StatusInternalServerError && p.status != http.StatusNotFound && p.status != http.StatusConflict {
		p.header = a.standing(r, t, p.header)
	}
	return err
}

// standing adds the headers that say where a session stands: none if the session does not exist any more. The App
// knows them, since they hold the state that it signs.
func (a *API) standing(r *http.Request, t target, to map[string]string) map[string]string {
	if r.Context().Err() != nil {
		return to // the client went away
	}
	answer := &headerOnly{header: make(http.Header)}
	status := r.Clone(r.Context())
	status.Method, status.Body, status.ContentLength = http.MethodGet, http.NoBody, 0
	if err := a.viaApp(answer, status, t); err != nil || answer.status != http.StatusNoContent {
		return to
	}
	all := maps.Clone(to)
	if all == nil {
		all = make(map[string]string)
	}
	for _, name := range []string{"Location", "Range", "Docker-Upload-Uuid"} {
		all[name] = answer.header.Get(name)
	}
	return all
}

// headerOnly is a ResponseWriter that keeps status and header.
type headerOnly struct {
	header http.Header
	status int
}

func (w *headerOnly) Header() http.Header         { return w.header }
func (w *headerOnly) WriteHeader(status int)      { w.status = status }
func (w *headerOnly) Write(p []byte) (int, error) { return len(p), nil }

func (a *API) resumeUpload(w http.ResponseWriter, r *http.Request, t target) error {
	if r.Method == http.MethodPut {
		if _, err := parseDigestText(r.URL.Query().Get("digest")); err != nil {
			return err
		}
	}
	x := &exchange{}
	r = withoutForm(r)
	length := int64(-1)
	if header := r.Header.Get("Content-Range"); header != "" {
		part, err := parseContentRange(header)
		if err != nil {
			return err
		}
		if r.ContentLength >= 0 && r.ContentLength != part.length {
			return errLength(part.length, r.ContentLength)
		}
		x.start, length = &part.start, part.length
		r.Header.Del("Content-Range") // what it says is checked by Resume and as the body is read
	}
	r.Body = x.reads(r.Body, length)
	return a.throughApp(w, r, t, x)
}

// cancelUpload answers DELETE of a session. The App would insist on the state in the Location: whoever has not had
// the answer to a chunk does not know it, and wants to be rid of the session all the more.
func (a *API) cancelUpload(w http.ResponseWriter, r *http.Request, t target) error {
	upload, err := a.store.ResumeUpload(r.Context(), t.repo, t.id)
	if err != nil {
		return aboutUpload.explain(err)
	}
	if err := errors.Join(upload.Cancel(r.Context()), upload.Close()); err != nil {
		return fmt.Errorf("cancel upload: %w", err)
	}
	setVersion(w.Header())
	w.Header().Set("Docker-Upload-Uuid", t.id)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// withoutForm makes sure that the body of a request is nothing but the body. With the media type of a
// form, which is what curl sends unasked, the App would look for its parameters there and eat it.
func withoutForm(r *http.Request) *http.Request {
	r = r.Clone(r.Context())
	r.Header.Set("Content-Type", octetStream)
	return r
}

func created(w http.ResponseWriter, repo string, d digest.Digest) {
	h := w.Header()
	setVersion(h)
	h.Set("Location", "/v2/"+repo+"/blobs/"+d.String())
	h.Set("Docker-Content-Digest", d.String())
	h.Set("Content-Length", "0")
	w.WriteHeader(http.StatusCreated)
}

func errLength(announced, sent int64) error {
	return &problem{status: http.StatusBadRequest, code: codeSizeInvalid,
		message: fmt.Sprintf("Content-Range announces %d bytes, the body has %d", announced, sent)}
}

// errBody is for a body that ends too early or is not encoded as it says. Mostly nobody is left to be told.
func errBody(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return &problem{status: http.StatusRequestTimeout, code: codeSizeInvalid, message: "the request's body has stopped arriving", cause: err}
	}
	return &problem{status: http.StatusBadRequest, code: codeSizeInvalid, message: "the request's body could not be read: " + err.Error(), cause: err}
}

// A body tells an exchange of what is wrong with it. The App cannot tell an error of the client's
// from one of the disk, and answers 500 to both.
type body struct {
	io.ReadCloser
	x         *exchange
	announced int64 // by Content-Range; -1 if not
	read      int64
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.read += int64(n)
	switch {
	case b.announced >= 0 && (b.read > b.announced || err == io.EOF && b.read < b.announced):
		return n, b.x.fail(aboutUpload, errLength(b.announced, b.read))
	case err != nil && err != io.EOF:
		return n, b.x.fail(aboutUpload, errBody(err))
	}
	return n, err
}
