package remote

import (
	"io"
	"net/http"
	"strings"
)

// sparing spares the registry questions whose answers are known: the ping, which
// go-containerregistry repeats for each repository and kind of request, and whether a blob exists
// that has just been asked for.
type sparing struct {
	registry string // its host[:port], as in URLs
	inner    http.RoundTripper

	held chan struct{} // has a token while ping is touched
	ping *pong         // nil: the registry has not been asked
}

// pong is the answer to a ping without a login.
type pong struct {
	status int
	header http.Header
	body   string
}

// maxPong is how much of an answer to a ping is kept.
const maxPong = 64 << 10

func newSparing(registry string, inner http.RoundTripper) *sparing {
	return &sparing{registry: registry, inner: inner, held: make(chan struct{}, 1)}
}

func (t *sparing) RoundTrip(r *http.Request) (*http.Response, error) {
	switch {
	case r.Method == http.MethodHead && strings.Contains(r.URL.Path, "/blobs/") && r.Context().Value(absentBlob{}) != nil:
		return (&pong{status: http.StatusNotFound}).to(r), nil
	case r.Method == http.MethodGet && r.URL.Path == "/v2/" && r.URL.Host == t.registry && r.Header.Get("Authorization") == "":
		return t.pinged(r)
	}
	return t.inner.RoundTrip(r)
}

func (t *sparing) pinged(r *http.Request) (*http.Response, error) {
	select {
	case t.held <- struct{}{}:
		defer func() { <-t.held }()
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	if t.ping != nil {
		return t.ping.to(r), nil
	}
	resp, err := t.inner.RoundTrip(r)
	if err != nil || resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusUnauthorized {
		return resp, err
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxPong))
	resp.Body.Close()
	if err != nil {
		return nil, err
	}
	t.ping = &pong{status: resp.StatusCode, header: resp.Header, body: string(body)}
	return t.ping.to(r), nil
}

func (p *pong) to(r *http.Request) *http.Response {
	return &http.Response{
		Status: http.StatusText(p.status), StatusCode: p.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: p.header.Clone(), Body: io.NopCloser(strings.NewReader(p.body)), ContentLength: int64(len(p.body)), Request: r,
	}
}
