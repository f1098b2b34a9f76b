package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/pace"
	"github.com/mirror-appliance/appliance/internal/retry"
)

// dialLimit bounds a connection attempt: four packets of TCP, the last one after seven seconds.
const dialLimit = 15 * time.Second

// idleConnections is how many connections to a registry stay open for the next request. A mirror of
// ten images at once has fifty requests under way, and to make a connection costs more than a
// request.
const idleConnections = 64

// newWire returns the innermost transport, with the proxies of o and the CAs of the system and of its
// trust.
//
// Pings detect a dead HTTP/2 connection before its requests stall: until then retries would use the
// same connection.
func newWire(o Options) (*http.Transport, error) {
	wire := http.DefaultTransport.(*http.Transport).Clone()
	wire.Proxy, wire.OnProxyConnectResponse = o.Proxy, connected
	wire.DialContext = (&net.Dialer{Timeout: dialLimit}).DialContext
	wire.DisableCompression = true // digests are of the bytes as sent
	wire.MaxIdleConnsPerHost = idleConnections
	wire.HTTP2 = &http.HTTP2Config{SendPingTimeout: o.stall / 2, PingTimeout: o.stall / 4}
	var err error
	wire.TLSClientConfig, err = TLSConfig(o.Trust, o.SkipVerify)
	return wire, err
}

// schemeGuard refuses the scheme that was not chosen. go-containerregistry tries plain HTTP after
// HTTPS for private and loopback addresses, and HTTPS before HTTP for insecure ones.
type schemeGuard struct {
	plain     bool
	host      string
	userAgent string
	onlyHeld  bool
	gate      func() error
	inner     http.RoundTripper
}

// gateError is that of Options.Gate, which stays the same for a while.
type gateError struct{ error }

func (e *gateError) Unwrap() error { return e.error }

type schemeError struct{ url string }

func (e *schemeError) Error() string {
	return "not reading " + e.url + ": plain HTTP was not asked for"
}

func (g *schemeGuard) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := g.gate(); err != nil {
		return nil, &gateError{err}
	}
	redirected := req.Response != nil
	refused := req.URL.Scheme == "http" && !g.plain ||
		req.URL.Scheme == "https" && g.plain && req.URL.Host == g.host && !redirected
	if refused {
		return nil, &schemeError{url: req.URL.Scheme + "://" + req.URL.Host}
	}
	req = req.Clone(req.Context())
	req.Header.Set("User-Agent", g.userAgent)
	req.Header.Set("Accept-Encoding", "identity") // without it, a proxy may compress
	if g.onlyHeld {
		req.Header.Set("Cache-Control", "only-if-cached") // RFC 9111, 5.2.1.7
	}
	return g.inner.RoundTrip(req)
}

// stallTransport breaks a connection without progress for limit, before the answer or, as package
// pace defines it, within the body.
type stallTransport struct {
	limit time.Duration
	inner http.RoundTripper
}

type stallError struct{ limit time.Duration }

func (e *stallError) Error() string {
	return fmt.Sprintf("the connection stalled: fewer than %d bytes in %s", pace.Least, e.limit)
}

func (t *stallTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	stalled := &stallError{limit: t.limit}
	timer := time.AfterFunc(t.limit, func() { cancel(stalled) })
	resp, err := t.inner.RoundTrip(req.WithContext(ctx))
	timer.Stop()
	if err != nil {
		err = causeOf(ctx, err)
		cancel(nil)
		return nil, err
	}
	resp.Body = &stallBody{ReadCloser: resp.Body, ctx: ctx, cancel: cancel, timer: timer, limit: t.limit}
	return resp, nil
}

type stallBody struct {
	io.ReadCloser
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
	limit  time.Duration
	meter  pace.Meter
}

func (b *stallBody) Read(p []byte) (int, error) {
	began := time.Now()
	b.timer.Reset(b.meter.Left(b.limit))
	n, err := b.ReadCloser.Read(p)
	b.timer.Stop()
	b.meter.Took(time.Since(began), n)
	if err != nil && err != io.EOF {
		err = causeOf(b.ctx, err)
	}
	return n, err
}

func (b *stallBody) Close() error {
	b.timer.Stop()
	err := b.ReadCloser.Close()
	b.cancel(nil)
	return err
}

// causeOf returns err, or the stall that caused it.
func causeOf(ctx context.Context, err error) error {
	var stalled *stallError
	if errors.As(context.Cause(ctx), &stalled) {
		return stalled
	}
	return err
}

// AnswersPlain reports whether a registry answers without TLS. Call it only if the user allows
// plain HTTP. An error says that nothing listens at its port, where whether it has TLS is not known, or
// that it has no TLS and does not answer.
func AnswersPlain(ctx context.Context, registry string) (bool, error) {
	address := registry
	_, _, portless := net.SplitHostPort(registry)
	if portless != nil {
		address = net.JoinHostPort(registry, "80")
	}
	within, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(within, http.MethodGet, "http://"+address+"/v2/", nil)
	if err != nil {
		return false, nil
	}
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	var resp *http.Response
	policy := retry.Policy{Attempts: 3} // one lost connection must not decide for a whole run
	if portless == nil {
		policy = retry.Policy{Attempts: 4, First: 2 * time.Second}
	}
	answered := false
	var broken error
	err = policy.Do(within, func() (err error) {
		if resp, err = client.Do(r); err != nil {
			broken = err
			return err
		}
		answered, broken = true, nil
		resp.Body.Close()
		if retry.Status(resp.StatusCode) {
			return errors.New(resp.Status)
		}
		return nil
	})
	var dial *net.OpError
	switch {
	case err != nil && ctx.Err() != nil:
		return false, ctx.Err()
	case err != nil && answered: // it is down for now; on port 80 that may be another server
		return portless == nil, nil
	case portless == nil && errors.As(err, &dial) && dial.Op == "dial":
		return false, hint.New(fmt.Errorf("registry %s is not reached: %w", registry, dial), "check that it runs, and its port")
	case broken != nil && portless == nil && refusesTLS(ctx, address):
		return false, hint.New(fmt.Errorf("registry %s has no TLS, and breaks off connections of plain HTTP: %w", registry, broken),
			"check that it runs; if a proxy is before it, check what that leads to")
	case err != nil:
		return false, nil
	}
	// A TLS port answers 400, and a server that redirects to TLS with a redirect.
	return resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusUnauthorized, nil
}

// refusesTLS reports whether a port answers TLS with something else.
func refusesTLS(ctx context.Context, address string) bool {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+address+"/v2/", nil)
	if err != nil {
		return false
	}
	wire := http.DefaultTransport.(*http.Transport).Clone()
	wire.TLSClientConfig = &tls.Config{InsecureSkipVerify: true} // nothing is read
	defer wire.CloseIdleConnections()
	resp, err := wire.RoundTrip(r)
	if err == nil {
		resp.Body.Close()
	}
	return errors.Is(err, http.ErrSchemeMismatch) || errors.As(err, new(tls.RecordHeaderError))
}
