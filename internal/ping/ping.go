// Package ping asks a registry once how it wants to be logged in to.
//
// Use Once below a client of go-containerregistry, which asks again for each repository and for
// each kind of request. Not for a client that lives as long as a daemon: a registry may change.
package ping

import (
	"io"
	"net/http"
	"strings"
)

// maxBody is how much of an answer is kept.
const maxBody = 64 << 10

// Once returns a transport that remembers what a registry, host[:port] as in its URLs, answers to a
// ping without a login, if it answers that it is a registry.
func Once(registry string, inner http.RoundTripper) http.RoundTripper {
	return &transport{registry: registry, inner: inner, held: make(chan struct{}, 1), answers: map[string]*answer{}}
}

type transport struct {
	registry string
	inner    http.RoundTripper

	held    chan struct{}      // has a token while answers is touched; a channel, since waiting ends with a context
	answers map[string]*answer // by scheme, of which a client may try both
}

type answer struct {
	status int
	header http.Header
	body   string
}

func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodGet || r.URL.Path != "/v2/" || r.URL.Host != t.registry || r.Header.Get("Authorization") != "" {
		return t.inner.RoundTrip(r)
	}
	select {
	case t.held <- struct{}{}:
		defer func() { <-t.held }()
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	if known := t.answers[r.URL.Scheme]; known != nil {
		return known.to(r), nil
	}
	resp, err := t.inner.RoundTrip(r)
	if err != nil || resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusUnauthorized {
		return resp, err
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	resp.Body.Close()
	if err != nil {
		return nil, err
	}
	known := &answer{status: resp.StatusCode, header: resp.Header, body: string(body)}
	t.answers[r.URL.Scheme] = known
	return known.to(r), nil
}

func (a *answer) to(r *http.Request) *http.Response {
	return &http.Response{
		Status: http.StatusText(a.status), StatusCode: a.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: a.header.Clone(), Body: io.NopCloser(strings.NewReader(a.body)), ContentLength: int64(len(a.body)), Request: r,
	}
}
