package remote

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// upload is the upload of a blob, in the context of its requests.
type upload struct {
	registry, repo string
	desc           ocispec.Descriptor
	content        io.Reader
	offset         int64 // bytes that the registry had before
}

type uploadKey struct{}

// resuming is the wire of uploads. Where an earlier upload of a blob broke off, the registry is asked
// how much of it has come, in the place of a new session, and the rest is sent. The whole goes in
// one PATCH, as ever.
type resuming struct {
	inner    http.RoundTripper
	sessions *sessions
	warn     func(error)
}

func (t *resuming) RoundTrip(r *http.Request) (*http.Response, error) {
	u, ok := r.Context().Value(uploadKey{}).(*upload)
	switch {
	case !ok:
	case r.Method == http.MethodPost:
		return t.begin(r, u)
	case r.Method == http.MethodPatch && u.offset == u.desc.Size && u.offset > 0: // all has come
		if r.Body != nil {
			r.Body.Close()
		}
		return accepted(r, r.URL), nil
	case r.Method == http.MethodPatch && u.offset > 0:
		r = r.Clone(r.Context())
		r.ContentLength = u.desc.Size - u.offset
		r.Header.Set("Content-Range", fmt.Sprintf("%d-%d", u.offset, u.desc.Size-1))
	}
	return t.inner.RoundTrip(r)
}

// begin answers the request for a session with the one that broke off, or asks for a new one.
func (t *resuming) begin(r *http.Request, u *upload) (*http.Response, error) {
	if r.URL.Query().Get("mount") == "" {
		if resp, err := t.earlier(r, u); resp != nil || err != nil {
			return resp, err
		}
	}
	t.sessions.forget(u)
	resp, err := t.inner.RoundTrip(r)
	if err != nil || resp.StatusCode != http.StatusAccepted {
		return resp, err
	}
	if at, err := r.URL.Parse(resp.Header.Get("Location")); err == nil && own(r.URL, at) {
		if err := t.sessions.keep(u, at.String()); err != nil {
			t.warn(err)
		}
	}
	return resp, nil
}

// own reports whether a session is at the registry itself. Others are not kept: a file is not to
// decide where a login is sent.
func own(registry, location *url.URL) bool {
	return location.Scheme == registry.Scheme && location.Host == registry.Host
}

// earlier asks for the session that broke off. No answer and no error: there is none to continue.
func (t *resuming) earlier(r *http.Request, u *upload) (*http.Response, error) {
	seeker, ok := u.content.(io.Seeker)
	at, err := url.Parse(t.sessions.find(u))
	if !ok || err != nil || !own(r.URL, at) {
		return nil, nil
	}
	ask, err := http.NewRequestWithContext(r.Context(), http.MethodGet, at.String(), nil)
	if err != nil {
		return nil, nil
	}
	ask.Header = http.Header{"User-Agent": r.Header["User-Agent"], "Authorization": r.Header["Authorization"]}
	resp, err := t.inner.RoundTrip(ask)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusUnauthorized { // go-containerregistry logs in and begins once more
		return resp, nil
	}
	resp.Body.Close()
	has := received(resp)
	if has <= 0 || has > u.desc.Size {
		return nil, nil
	}
	if _, err := seeker.Seek(has, io.SeekStart); err != nil {
		return nil, nil
	}
	u.offset = has
	if next, err := at.Parse(resp.Header.Get("Location")); err == nil {
		at = next // where it has none, the same
	}
	return accepted(r, at), nil
}

// accepted is the answer that an upload goes on at a location.
func accepted(r *http.Request, location *url.URL) *http.Response {
	return &http.Response{
		Status: "202 Accepted", StatusCode: http.StatusAccepted, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Location": {location.String()}}, Body: io.NopCloser(strings.NewReader("")), Request: r,
	}
}

// received returns how many bytes a registry says it has, from "0-99"; 0 if it does not. Of one
// byte, which is "0-0" as none is, it says 0.
func received(resp *http.Response) int64 {
	if resp.StatusCode != http.StatusNoContent && resp.StatusCode != http.StatusAccepted {
		return 0
	}
	last, ok := strings.CutPrefix(strings.TrimPrefix(resp.Header.Get("Range"), "bytes="), "0-")
	n, err := strconv.ParseInt(last, 10, 64)
	if !ok || err != nil || n <= 0 || n == 1<<63-1 {
		return 0
	}
	return n + 1
}

// errContinued is in the error of an upload that was continued and then refused: what the registry
// had may have been other bytes. It is sent again from its beginning.
var errContinued = errors.New("the upload that broke off could not be continued")

// ended forgets the session of an upload that has ended, or that the registry has refused. It is
// kept while there is no answer: more may have come than is known here.
func (s *sessions) ended(u *upload, err error) error {
	var answer *transport.Error
	switch refused := errors.As(err, &answer); {
	case refused && (answer.StatusCode == http.StatusTooManyRequests || answer.StatusCode >= 500 && u.offset == 0):
		return err
	case refused && u.offset > 0:
		err = fmt.Errorf("%w: %w", errContinued, err)
	case err != nil && !refused && !errors.Is(err, errMismatch):
		return err
	}
	s.forget(u)
	return err
}
