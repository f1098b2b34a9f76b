// Package ping asks a registry once how it wants to be logged in to.
//
// Use Once below a client of go-containerregistry, which asks again for each repository and for
// each kind of request. For a client that lives as long as a daemon use For: a registry may change.
package ping

import (
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/mirror-appliance/appliance/internal/webpage"
)

// maxBody is how much of an answer is kept.
const maxBody = 64 << 10

// Once returns a transport that remembers what a registry, host[:port] as in its URLs, answers to a
// ping without a login, if it answers that it is a registry.
func Once(registry string, inner http.RoundTripper) http.RoundTripper {
	return For(0, nil, registry, inner)
}

// For is Once for a time, after which the registry is asked again; 0 is for good. now tells the time.
// Until the first answer has come each request is sent.
func For(d time.Duration, now func() time.Time, registry string, inner http.RoundTripper) http.RoundTripper {
	if now == nil {
		now = time.Now
	}
	return &transport{registry: registry, inner: inner, good: d, now: now, held: make(chan struct{}, 1), answers: map[string]*answer{}}
}

type transport struct {
	registry string
	inner    http.RoundTripper
	good     time.Duration // 0: without end
	now      func() time.Time

	held    chan struct{}      // has a token while answers is touched; a channel, since waiting ends with a context
	answers map[string]*answer // by scheme, of which a client may try both
}

type answer struct {
	status int
	header http.Header
	body   string
	at     time.Time
}

func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodGet || r.URL.Path != "/v2/" || r.URL.Host != t.registry || r.Header.Get("Authorization") != "" {
		return t.inner.RoundTrip(r)
	}
	if err := t.hold(r); err != nil {
		return nil, err
	}
	known := t.answers[r.URL.Scheme]
	if t.good > 0 {
		<-t.held // requests of many clients do not wait for each other's time-out
	} else {
		defer func() { <-t.held }()
	}
	if known != nil && (t.good == 0 || t.now().Sub(known.at) < t.good) {
		return known.to(r), nil
	}
	resp, err := t.inner.RoundTrip(r)
	if err != nil || resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusUnauthorized || webpage.Claims(resp) {
		return resp, err
	}
	// The status and the header are the answer: a body that breaks off takes nothing from it, and the
	// retries below would not see that.
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	resp.Body.Close()
	known = &answer{status: resp.StatusCode, header: resp.Header, body: string(body), at: t.now()}
	if t.good > 0 {
		if err := t.hold(r); err != nil {
			return nil, err
		}
		defer func() { <-t.held }()
	}
	t.answers[r.URL.Scheme] = known
	return known.to(r), nil
}

func (t *transport) hold(r *http.Request) error {
	select {
	case t.held <- struct{}{}:
		return nil
	case <-r.Context().Done():
		return r.Context().Err()
	}
}

func (a *answer) to(r *http.Request) *http.Response {
	return &http.Response{
		Status: http.StatusText(a.status), StatusCode: a.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: a.header.Clone(), Body: io.NopCloser(strings.NewReader(a.body)), ContentLength: int64(len(a.body)), Request: r,
	}
}
