package oci

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"github.com/mirror-appliance/appliance/registry/store"
)

// An exchange is what the front handler and the Namespace have to tell each other about one request
// on its way through the App, which stands between them. It travels in the request's context and is
// used by the request's goroutine alone.
type exchange struct {
	put     store.PutOptions // what the request says of the manifest that it puts
	start   *int64           // where Content-Range begins, nil without one
	cascade bool             // a deleted manifest takes along what refers to it
	audit   func(change)     // nil: not audited

	header http.Header   // of the response
	fault  error         // the first error; it is answered in place of whatever the App makes of it
	upload *store.Upload // the session in use
}

type exchangeKey struct{}

func exchangeFrom(ctx context.Context) *exchange {
	x, ok := ctx.Value(exchangeKey{}).(*exchange)
	if !ok { // nobody listens: the App was called directly, which only a benchmark does
		return &exchange{header: make(http.Header)}
	}
	return x
}

// fail notes the error and returns it.
func (x *exchange) fail(about words, err error) error {
	if x.fault == nil {
		x.fault = about.explain(err)
	}
	return err
}

func (x *exchange) reads(r io.ReadCloser, announced int64) *body {
	return &body{ReadCloser: r, x: x, announced: announced}
}

// viaApp leaves the request to the App.
func (a *API) viaApp(w http.ResponseWriter, r *http.Request, t target) error {
	return a.throughApp(w, r, t, &exchange{})
}

// throughApp lets the App answer, unless an error that it could only call 500 is noted on the way.
func (a *API) throughApp(w http.ResponseWriter, r *http.Request, t target, x *exchange) error {
	x.header, x.audit, x.cascade = w.Header(), a.auditor(r), a.cascade
	// What is forwarded is what was parsed, so that the App cannot read the path in another way.
	r = r.WithContext(context.WithValue(r.Context(), exchangeKey{}, x))
	u := *r.URL
	u.Path, u.RawPath = t.path(), ""
	r.URL = &u
	if r.Method == http.MethodHead && (t.kind == kindBase || t.kind == kindCatalog || t.kind == kindTags) {
		r.Method = http.MethodGet // the App has no HEAD there; net/http drops the body
	}
	rw := &recorder{ResponseWriter: w, x: x}
	a.app.ServeHTTP(rw, r)
	x.close()
	if x.fault != nil && !rw.sent {
		return x.fault
	}
	return nil
}

// close frees the session. The App does so itself on most of its ways, not on all.
func (x *exchange) close() {
	if x.upload != nil {
		x.upload.Close()
	}
}

// A recorder drops the App's answer once there is a fault, and what the App sends after an answer:
// on some of its ways it answers twice.
type recorder struct {
	http.ResponseWriter
	x    *exchange
	sent bool // a header went out
}

// Unwrap is for http.ResponseController.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *recorder) WriteHeader(status int) {
	if w.sent || w.x.fault != nil {
		return
	}
	if status == http.StatusRequestedRangeNotSatisfiable && w.x.upload != nil {
		// The state in the URL is not where the session stands: an answer was lost, or a chunk sent twice.
		w.x.fault = errRange("the upload does not stand where this request takes it up", w.x.upload.Size())
		return
	}
	if status >= http.StatusInternalServerError {
		w.x.fault = &appError{status: status} // not one of ours; what Write gets says more
		return
	}
	w.sent = status >= 200
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(p []byte) (int, error) {
	if !w.sent {
		w.WriteHeader(http.StatusOK)
	}
	if w.sent {
		return w.ResponseWriter.Write(p) // all of a list at once
	}
	if e, ok := w.x.fault.(*appError); ok {
		e.body = append(e.body, p[:min(len(p), 1000-min(len(e.body), 1000))]...)
	}
	return len(p), nil // dropped
}

// An appError is an answer of the App's that a client should not see and the log should.
type appError struct {
	status int
	body   []byte
}

func (e *appError) Error() string {
	return fmt.Sprintf("distribution answered %d: %s", e.status, e.body)
}

// path is the path that a target was parsed from, in its canonical form.
func (t target) path() string {
	switch t.kind {
	case kindBase:
		return "/v2/"
	case kindCatalog:
		return "/v2/_catalog"
	case kindTags:
		return "/v2/" + t.repo + "/tags/list"
	case kindManifest:
		return "/v2/" + t.repo + "/manifests/" + t.tag + t.digest.String()
	case kindBlob:
		return "/v2/" + t.repo + "/blobs/" + t.digest.String()
	case kindUploads:
		return "/v2/" + t.repo + "/blobs/uploads/"
	case kindUpload:
		return "/v2/" + t.repo + "/blobs/uploads/" + t.id
	default:
		return "/v2/" + t.repo + "/referrers/" + t.digest.String()
	}
}
