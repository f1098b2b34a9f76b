package oci

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/retry"
	"github.com/mirror-appliance/appliance/registry/auth"
	"github.com/mirror-appliance/appliance/registry/store"
)

// The error codes of the specification, and those that docker adds.
const (
	codeBlobUnknown         = "BLOB_UNKNOWN"
	codeUploadInvalid       = "BLOB_UPLOAD_INVALID"
	codeUploadUnknown       = "BLOB_UPLOAD_UNKNOWN"
	codeDigestInvalid       = "DIGEST_INVALID"
	codeManifestBlobUnknown = "MANIFEST_BLOB_UNKNOWN"
	codeManifestInvalid     = "MANIFEST_INVALID"
	codeManifestUnknown     = "MANIFEST_UNKNOWN"
	codeNameInvalid         = "NAME_INVALID"
	codeNameUnknown         = "NAME_UNKNOWN"
	codeSizeInvalid         = "SIZE_INVALID"
	codeUnauthorized        = "UNAUTHORIZED"
	codeDenied              = "DENIED"
	codeUnsupported         = "UNSUPPORTED"
	codeUnknown             = "UNKNOWN"
	codeUnavailable         = "UNAVAILABLE"
	codeTooMany             = "TOOMANYREQUESTS"
	codeNumberInvalid       = "PAGINATION_NUMBER_INVALID"
)

// A problem is an error that the client receives as it is.
type problem struct {
	status  int
	code    string
	message string
	detail  any
	header  map[string]string // extra headers, by canonical name
	cause   error             // for the log only
}

func (p *problem) Error() string { return p.code + ": " + p.message }
func (p *problem) Unwrap() error { return p.cause }

// refuse returns a problem with a formatted message.
func refuse(status int, code, format string, args ...any) *problem {
	return &problem{status: status, code: code, message: fmt.Sprintf(format, args...)}
}

// with adds a header to the answer.
func (p *problem) with(name, value string) *problem {
	p.header = map[string]string{name: value}
	return p
}

func errNoRoute(path string) error {
	return refuse(http.StatusNotFound, codeUnsupported, "the API has no path %.300q", path)
}

func errBadName(repo string) error {
	return refuse(http.StatusBadRequest, codeNameInvalid, "invalid repository name %.300q", repo)
}

func errBadDigest(err error) error {
	return &problem{status: http.StatusBadRequest, code: codeDigestInvalid, message: err.Error()}
}

func errNumber(n string) error {
	return refuse(http.StatusBadRequest, codeNumberInvalid, "n=%.100q is not a number of entries", n)
}

// errBadTag is 404: a tag that is malformed does not exist.
func errBadTag(tag string) error {
	return refuse(http.StatusNotFound, codeManifestUnknown, "%.200q cannot be a tag", tag)
}

func errMethod(method string, allow string) error {
	return refuse(http.StatusMethodNotAllowed, codeUnsupported, "not allowed here: %s", method).with("Allow", allow)
}

// errRange refuses a chunk that does not continue the upload.
func errRange(begins, stands int64) error {
	return refuse(http.StatusRequestedRangeNotSatisfiable, codeUploadInvalid,
		"the upload has %d bytes, the request continues at %d", stands, begins)
}

// rangeHeader returns the Range of an upload. The specification has no form for an empty
// one; clients accept 0-0.
func rangeHeader(size int64) string { return "0-" + strconv.FormatInt(max(size-1, 0), 10) }

// errorCodes are the codes of errors of the store, which depend on the operation.
type errorCodes struct {
	notFound string // for store.ErrNotFound
	invalid  string // for *store.InvalidError
}

var (
	manifestCodes = errorCodes{notFound: codeManifestUnknown, invalid: codeManifestInvalid}
	blobCodes     = errorCodes{notFound: codeBlobUnknown, invalid: codeDigestInvalid}
	uploadCodes   = errorCodes{notFound: codeUploadUnknown, invalid: codeUploadInvalid}
	repoCodes     = errorCodes{notFound: codeNameUnknown, invalid: codeNameInvalid}
)

// explain turns an error of the store into a *problem if the client can act on it.
func (c errorCodes) explain(err error) error {
	var (
		told     *problem
		missing  *store.MissingError
		full     *store.FullError
		inUse    *store.InUseError
		kept     *store.KeptError
		removing *store.RemovingError
		busy     *store.BusyError

		readOnly interface {
			error
			ReadOnly()
		}
	)
	refusal := func(status int, code string) *problem {
		return &problem{status: status, code: code, message: err.Error(), cause: err}
	}
	switch {
	case errors.As(err, &told):
		return told
	case errors.As(err, &readOnly):
		// podman, skopeo and oc show the message of a 403; a 405 or a 503 they repeat, or show as a number
		p := refusal(http.StatusForbidden, codeDenied)
		p.message = readOnly.Error() + ": " + hint.Of(readOnly)
		return p
	case errors.Is(err, store.ErrNotFound):
		return refusal(http.StatusNotFound, c.notFound)
	case errors.As(err, &missing):
		p := refusal(http.StatusBadRequest, codeManifestBlobUnknown)
		p.detail = missing.Digests
		return p
	case errors.As(err, new(*store.DigestError)):
		return refusal(http.StatusBadRequest, codeDigestInvalid)
	case errors.As(err, new(*store.InvalidError)):
		return refusal(http.StatusBadRequest, c.invalid)
	case errors.As(err, &full):
		return errFull(full)
	case errors.As(err, new(*store.TooLargeError)):
		return refusal(http.StatusRequestEntityTooLarge, codeSizeInvalid)
	case errors.As(err, new(*store.UnavailableError)):
		p := refusal(http.StatusServiceUnavailable, codeUnavailable).with("Retry-After", retry.Later)
		p.message = "the registry's database is not available at the moment; try again"
		return p
	case errors.As(err, new(*store.TooManyError)):
		return refusal(http.StatusTooManyRequests, codeTooMany).with("Retry-After", "60")
	case errors.As(err, &busy) && busy.Elsewhere:
		p := refusal(http.StatusServiceUnavailable, codeUnavailable).with("Retry-After", "10")
		p.message = busy.Error()
		return p
	case errors.As(err, &busy):
		return refusal(http.StatusConflict, codeUploadInvalid)
	case errors.As(err, &inUse):
		// the specification's answer of a registry that does not delete a blob
		p := refusal(http.StatusMethodNotAllowed, codeUnsupported).with("Allow", "GET, HEAD")
		p.message = inUse.Error()
		return p
	case errors.As(err, &kept):
		p := refusal(http.StatusForbidden, codeDenied)
		p.message = kept.Error()
		return p
	case errors.As(err, &removing):
		return &problem{status: http.StatusServiceUnavailable, code: codeUnavailable, cause: err, message: removing.Error(),
			header: map[string]string{"Retry-After": "10"}}
	case errors.Is(err, store.ErrUnavailable):
		return &problem{status: http.StatusServiceUnavailable, code: codeUnavailable, cause: err,
			message: "the storage of the blobs does not answer; the log of the appliance says more",
			header:  map[string]string{"Retry-After": "10"}}
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return &problem{status: http.StatusServiceUnavailable, code: codeUnavailable, message: "cancelled", cause: err}
	}
	return err
}

// errFull is a 4xx although the server is at fault: podman, skopeo and oc-mirror show the body of a
// 4xx, but only the status of a 5xx. Quay and Harbor answer 413 to a used-up quota, too.
func errFull(full *store.FullError) error {
	return &problem{status: http.StatusRequestEntityTooLarge, code: codeDenied,
		message: full.Error() + ": " + full.Hint(), cause: full}
}

// answer writes err. All errors are written here; nothing of the response may have been sent yet.
func (a *API) answer(w http.ResponseWriter, r *http.Request, err error) {
	var p *problem
	if r.Context().Err() != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		// The client went away: the status is nginx's, for the access log. net/http ends the
		// context of a client that stopped sending too, but that client still reads the answer.
		p = &problem{status: 499, code: codeUnavailable, message: "the client closed the connection", cause: err}
	} else if !errors.As(err, &p) {
		a.log.ErrorContext(r.Context(), "request failed", "method", r.Method, "path", r.URL.Path, "err", err)
		p = &problem{status: http.StatusInternalServerError, code: codeUnknown,
			message: "internal error; the log of the appliance says more"}
	}
	if errors.Is(p.cause, store.ErrUnavailable) {
		a.log.ErrorContext(r.Context(), "request failed", "method", r.Method, "path", r.URL.Path, "err", p.cause, "hint", hint.Of(p.cause))
	} else if p.cause != nil {
		a.log.DebugContext(r.Context(), "request refused", "method", r.Method, "path", r.URL.Path,
			"status", p.status, "err", p.cause)
	}
	writeProblem(w, p)
}

func writeProblem(w http.ResponseWriter, p *problem) {
	type entry struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Detail  any    `json:"detail,omitempty"`
	}
	body, err := json.Marshal(map[string][]entry{"errors": {{p.code, p.message, p.detail}}})
	if err != nil { // cannot happen: every detail can be marshalled
		body = []byte(`{"errors":[{"code":"UNKNOWN","message":"internal error"}]}`)
	}
	h := w.Header()
	for _, name := range []string{"Etag", "Docker-Content-Digest", "Last-Modified", "Content-Range",
		"Location", "Link", "Range", "Docker-Upload-Uuid"} {
		h.Del(name) // set for a success
	}
	for name, value := range p.header {
		h.Set(name, value)
	}
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("X-Content-Type-Options", "nosniff")
	setVersion(h)
	w.WriteHeader(p.status)
	w.Write(body) // fails only if the client went away
}

// setVersion sets the header by which old clients recognise a registry.
func setVersion(h http.Header) { h.Set("Docker-Distribution-Api-Version", "registry/2.0") }

// Denied answers a request that auth.Authenticator.RequireToken refused. The challenge is set
// already.
func Denied(w http.ResponseWriter, r *http.Request, status int) {
	p := &problem{status: status, code: codeUnavailable, message: "login could not be checked; try again"}
	switch status {
	case http.StatusServiceUnavailable:
		p = p.with("Retry-After", retry.Later)
	case http.StatusUnauthorized:
		p.code, p.message = codeUnauthorized, "log in with a user name and password of this registry"
	case http.StatusForbidden:
		p.code, p.message = codeDenied, "this user may not "+verb(Action(r))+" here"
	case http.StatusTooManyRequests:
		p.code, p.message = codeTooMany, "too many failed logins; try again later"
	}
	writeProblem(w, p)
}

func verb(a auth.Action) string {
	if a == auth.Read || a == auth.Login {
		return "read"
	}
	return "push or delete"
}

// Action returns the action of a request to /v2. Upload sessions need Write, even to read them.
// /v2/ is Login: clients check their login there.
func Action(r *http.Request) auth.Action {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return auth.Write
	}
	t, err := parse(r.URL.Path)
	switch {
	case err == nil && t.kind == kindBase:
		return auth.Login
	case err == nil && (t.kind == kindUpload || t.kind == kindUploads):
		return auth.Write
	}
	return auth.Read
}
