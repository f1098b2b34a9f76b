package busy

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/mirror-appliance/appliance/internal/retry"
)

// maxDrain is how much of a refusal is read, so that its connection can be used again.
const maxDrain = 64 << 10

// brief is how long a request may wait with an address that is signed.
const brief = 200 * time.Millisecond

// ErrWaited is the result of a redirected request that had to wait in its turn and was not sent: the
// address that it was redirected to may be signed for seconds.
var ErrWaited = errors.New("the address of the redirect may have expired while the request waited")

// turn is the slot that a redirected request has waited for.
type turn struct {
	host string // "" for none
	slot slot
}

type turnKey struct{}

// WithTurn returns a context in which a redirected request that has to wait for more than a moment
// returns ErrWaited after it. The next request in this context that leads to the same host is sent at once, unless the host
// has begun another rest. The context is for one request at a time.
func WithTurn(ctx context.Context) context.Context {
	return context.WithValue(ctx, turnKey{}, &turn{})
}

type transport struct {
	limits *Limits
	inner  http.RoundTripper
	sleep  func(ctx context.Context, d time.Duration) error
}

// RoundTrip returns a refusal if the patience for it is used up, or if the request cannot be
// repeated here: its body is gone, or it was redirected, to an address that may not be good for
// long. The host rests after these, too.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	name := req.URL.Host
	for waited := time.Duration(0); ; {
		if t.limits.resting(name) {
			closeBody(req)
			return givenUp(req), nil
		}
		s, err := t.turn(req, name)
		if err != nil {
			closeBody(req)
			return nil, err
		}
		resp, err := t.inner.RoundTrip(req)
		if err != nil {
			return nil, err
		}
		if !Busy(resp) {
			t.limits.answered(name)
			return resp, nil
		}
		waited += t.limits.refused(name, s, retry.After(resp))
		again := repeatable(req)
		if again == nil || waited >= Patience || t.limits.Exhausted(name) {
			return resp, nil
		}
		_, _ = io.CopyN(io.Discard, resp.Body, maxDrain)
		resp.Body.Close()
		req = again
	}
}

// givenUp is the refusal of a host that is not asked again while it rests, so that a run that it
// refuses ends soon. After the rest one more request finds out.
func givenUp(req *http.Request) *http.Response {
	const body = `{"errors":[{"code":"TOOMANYREQUESTS","message":"it has refused all requests for ten minutes"}]}`
	return &http.Response{
		Status: "429 Too Many Requests", StatusCode: http.StatusTooManyRequests, Proto: "HTTP/1.1",
		ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {"application/json"}}, Request: req,
		Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
	}
}

// turn waits for a slot, or returns the one that an earlier request has waited for.
func (t *transport) turn(req *http.Request, name string) (slot, error) {
	kept, _ := req.Context().Value(turnKey{}).(*turn)
	if kept == nil || req.Response == nil {
		s, _, err := t.wait(req.Context(), name)
		return s, err
	}
	if s := kept.slot; kept.host == name && t.limits.holds(name, s) {
		*kept = turn{}
		return s, nil
	}
	s, waited, err := t.wait(req.Context(), name)
	if err == nil && waited > brief {
		*kept, err = turn{name, s}, ErrWaited
	}
	return s, err
}

// wait waits for a slot that no rest has taken away.
func (t *transport) wait(ctx context.Context, name string) (s slot, waited time.Duration, err error) {
	for {
		s = t.limits.take(name)
		if s.wait > 0 {
			waited += s.wait
			if err := t.sleep(ctx, s.wait); err != nil {
				return s, waited, err
			}
		}
		if t.limits.holds(name, s) {
			return s, waited, nil
		}
	}
}

// repeatable returns a request that can be sent instead of one that was, nil if there is none.
func repeatable(req *http.Request) *http.Request {
	switch {
	case req.Response != nil:
		return nil
	case req.Body == nil || req.Body == http.NoBody:
		return req
	case req.GetBody == nil:
		return nil
	}
	body, err := req.GetBody()
	if err != nil {
		return nil
	}
	again := req.Clone(req.Context())
	again.Body = body
	return again
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		req.Body.Close()
	}
}
