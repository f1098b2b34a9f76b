package upstream

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"github.com/mirror-appliance/appliance/internal/busy"
	"github.com/mirror-appliance/appliance/internal/retry"
)

const (
	firstBackoff  = 500 * time.Millisecond
	maxRetryAfter = 2 * time.Minute // a registry that asks for hours fails after the retries
	maxServing    = 2 * time.Second // the longest Retry-After that a client of ours waits for
	maxDrain      = 64 << 10
)

// retrier decides how long to wait before the next attempt.
type retrier struct {
	attempts int
	serving  bool // see Options
	sleep    func(context.Context, time.Duration) error
	idle     func(context.Context, func(context.Context) error) error
	log      *slog.Logger
}

// wait waits before the next attempt. after is the registry's Retry-After, or 0.
func (r *retrier) wait(ctx context.Context, failures int, after time.Duration, reason string) error {
	d := retry.Policy{First: firstBackoff, MaxAfter: maxRetryAfter}.Delay(failures, after)
	r.log.WarnContext(ctx, "retrying", "in", d.Round(time.Millisecond), "attempt", failures+1, "of",
		r.attempts, "reason", oneLine(reason))
	return r.idle(ctx, func(ctx context.Context) error { return r.sleep(ctx, d) })
}

// retryTransport retries requests. It is below authentication, so that it covers the ping and the
// token. It returns the last answer, and so cannot be retry.Policy.Do. Redirected requests are
// retried by Client.follow, from their beginning.
type retryTransport struct {
	*retrier
	inner http.RoundTripper
}

// connError reports a request without an answer.
type connError struct {
	err        error
	redirected bool // the request to the target of a redirect
}

func (e *connError) Error() string { return e.err.Error() }
func (e *connError) Unwrap() error { return e.err }

func (t *retryTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	if _, ok := journeyOf(req); ok && req.Response != nil {
		resp, err := t.inner.RoundTrip(req)
		if err != nil {
			return nil, connErrorOf(err, true)
		}
		return resp, nil
	}
	for failures := 1; ; failures++ {
		resp, err := t.inner.RoundTrip(req)
		again, after, reason := verdict(resp, err)
		if again && !t.serving && resp != nil && busy.Busy(resp) {
			again = req.Response != nil // what was not redirected has been repeated, for minutes
		}
		if !again || failures >= t.attempts || ctx.Err() != nil || t.serving && tooLong(resp, err, after) {
			if err != nil {
				return nil, connErrorOf(err, false)
			}
			return t.last(resp)
		}
		if resp != nil {
			discard(resp)
		}
		if err := t.wait(ctx, failures, after, reason); err != nil {
			return nil, connErrorOf(err, false)
		}
		if req, err = rewound(req); err != nil {
			return nil, connErrorOf(err, false)
		}
	}
}

// tooLong reports whether a waiting client gets an error at once. A stalled upstream is not retried
// then.
func tooLong(resp *http.Response, err error, after time.Duration) bool {
	return errors.As(err, new(*stallError)) ||
		resp != nil && resp.StatusCode == http.StatusTooManyRequests || after > maxServing
}

// limitError keeps the headers of an answer to a login.
type limitError struct {
	status int
	after  time.Duration
}

func (e *limitError) Error() string { return http.StatusText(e.status) }

// last returns the last answer. That of a login becomes an error, because authentication drops its
// headers.
func (t *retryTransport) last(resp *http.Response) (*http.Response, error) {
	after := retry.After(resp)
	if _, ok := journeyOf(resp.Request); ok || after == 0 {
		return resp, nil
	}
	switch resp.StatusCode {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		resp.Body.Close()
		return nil, &limitError{status: resp.StatusCode, after: after}
	}
	return resp, nil
}

func connErrorOf(err error, redirected bool) error {
	if errors.As(err, new(*schemeError)) {
		return err // one of two schemes was not tried; the other's error matters
	}
	return &connError{err: err, redirected: redirected}
}

// rewound returns a request that can be sent again.
func rewound(req *http.Request) (*http.Request, error) {
	if req.Body == nil || req.Body == http.NoBody {
		return req, nil
	}
	if req.GetBody == nil {
		return nil, errors.New("a request body cannot be sent twice")
	}
	body, err := req.GetBody()
	if err != nil {
		return nil, err
	}
	req = req.Clone(req.Context())
	req.Body = body
	return req, nil
}

// verdict reports whether to retry, and the Retry-After. The reason is without the URL, which may
// have a signature.
func verdict(resp *http.Response, err error) (again bool, after time.Duration, reason string) {
	if err != nil {
		var asked *url.Error
		if errors.As(err, &asked) {
			return passing(err), 0, asked.Err.Error()
		}
		return passing(err), 0, err.Error()
	}
	if retry.Status(resp.StatusCode) {
		return true, retry.After(resp), statusText(resp.StatusCode)
	}
	return false, 0, ""
}

// passing reports whether a retry may get an answer. RoundTrip checks the request's own deadline.
func passing(err error) bool {
	var proxy *proxyError
	if errors.As(err, &proxy) && proxy.final() {
		return false
	}
	return !errors.As(err, new(*schemeError)) && !errors.As(err, new(*gateError)) && !errors.As(err, new(*refusal)) && retry.Passing(err)
}
