package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"syscall"
)

// An upstream chooses the targets of its redirects and its token server, and it may be malicious.
// It must not lead this client, which is often inside a network, to hosts that only that network
// can reach:
//
//   - Most registries redirect blobs to storage. A redirect is followed to public addresses, and to
//     others only if the upstream has such an address itself.
//   - Registries that only forward (registry.k8s.io) redirect manifests and lists. Such a redirect
//     is followed over HTTPS and to public addresses only.
//   - A login is not redirected to another host. The token server may be another host, under the
//     rule for blobs; credentials are sent there over HTTPS only.
//
// An address is checked when it is dialed, after the name has been resolved, so that a name that
// resolves differently the second time gains nothing. The answer of another host is not passed on,
// see otherHostError.

// journey is the purpose of a request, which decides where its redirects may lead.
type journey struct {
	url   string
	blobs bool
}

type (
	journeyKey struct{}
	blobsKey   struct{}
)

// forBlobs marks requests for blobs.
func forBlobs(ctx context.Context) context.Context { return context.WithValue(ctx, blobsKey{}, true) }

// begun begins the journey of a request.
func begun(req *http.Request) *http.Request {
	blobs, _ := req.Context().Value(blobsKey{}).(bool)
	return req.WithContext(context.WithValue(req.Context(), journeyKey{}, journey{url: req.URL.String(), blobs: blobs}))
}

// journeyOf returns the journey of a request. It returns false for a login, which inherits the
// context of the request that needs it.
func journeyOf(req *http.Request) (journey, bool) {
	j, ok := req.Context().Value(journeyKey{}).(journey)
	for req.Response != nil && req.Response.Request != nil {
		req = req.Response.Request
	}
	return j, ok && req.URL.String() == j.url
}

// hostGuard sends requests to the upstream, and to other hosts if that is allowed.
type hostGuard struct {
	host string
	of   func(netip.Addr) reach // reachOf, except in tests
	seen atomic.Uint32          // the kinds of the upstream's addresses

	own    *http.Transport // to the upstream, and through proxies
	public *http.Transport // to public addresses of other hosts
	same   *http.Transport // to addresses of other hosts of the upstream's kind too
}

func newHostGuard(host string, wire *http.Transport) *hostGuard {
	g := &hostGuard{host: host, of: reachOf, own: wire}
	g.public = g.guarded(func() reach { return 0 })
	g.same = g.guarded(g.granted)
	return g
}

func (g *hostGuard) granted() reach { return reach(g.seen.Load()).granted() }

// guarded returns a transport that connects only to public and allowed addresses.
func (g *hostGuard) guarded(allowed func() reach) *http.Transport {
	t := g.own.Clone()
	t.Proxy = nil                        // toOther handles proxies
	t.TLSClientConfig.Certificates = nil // the registry's alone
	t.DialContext = (&net.Dialer{Timeout: dialLimit, Control: func(_, address string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(address)
		if err != nil {
			return errAddress
		}
		return allow(g.of(at.Addr()), allowed())
	}}).DialContext
	return t
}

func (g *hostGuard) CloseIdleConnections() {
	for _, t := range []*http.Transport{g.own, g.public, g.same} {
		t.CloseIdleConnections()
	}
}

func (g *hostGuard) RoundTrip(req *http.Request) (*http.Response, error) {
	downgraded := req.Response != nil && req.Response.Request != nil &&
		req.Response.Request.URL.Scheme == "https" && req.URL.Scheme != "https"
	if sameHost(req.URL, g.host) && !downgraded {
		return g.toUpstream(req)
	}
	resp, err := g.toOther(req, downgraded)
	if err != nil && req.Context().Err() == nil {
		err = &otherHostError{host: req.URL.Host, err: err}
	}
	return resp, err
}

// toUpstream records the kind of the upstream's address after the handshake, which proves that it
// is the upstream.
func (g *hostGuard) toUpstream(req *http.Request) (*http.Response, error) {
	if proxy, err := g.own.Proxy(req); proxy != nil || err != nil {
		if ip, err := netip.ParseAddr(req.URL.Hostname()); err == nil {
			g.seen.Or(uint32(g.of(ip)))
		}
		if err != nil {
			return nil, err
		}
		resp, err := g.own.RoundTrip(req)
		return through(proxy, req, resp, err)
	}
	ctx := httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		if at, err := netip.ParseAddrPort(info.Conn.RemoteAddr().String()); err == nil {
			g.seen.Or(uint32(g.of(at.Addr())))
		}
	}})
	return g.own.RoundTrip(req.WithContext(ctx))
}

func (g *hostGuard) toOther(req *http.Request, downgraded bool) (*http.Response, error) {
	j, ok := journeyOf(req)
	allowed, direct := g.granted(), g.same
	switch {
	case downgraded:
		return nil, &refusal{reason: "a redirect from HTTPS to HTTP is not followed"}
	case req.Response == nil: // a token server
		if req.URL.Scheme != "https" && (req.Header.Get("Authorization") != "" ||
			req.Body != nil && req.Body != http.NoBody) {
			return nil, &refusal{reason: "credentials are sent to another host over HTTPS only"}
		}
	case !ok || req.Method != http.MethodGet && req.Method != http.MethodHead:
		if before := req.Response.Request; before == nil || !strings.EqualFold(before.URL.Host, req.URL.Host) {
			return nil, &refusal{reason: "a login is not redirected to another host"}
		}
	case !j.blobs:
		if req.URL.Scheme != "https" {
			return nil, &refusal{reason: "only blobs are redirected to another host without TLS"}
		}
		allowed, direct = 0, g.public
	}
	proxy, err := g.own.Proxy(req)
	if err != nil {
		return nil, err
	}
	if proxy == nil {
		return direct.RoundTrip(req)
	}
	if err := checkName(req.Context(), req.URL.Hostname(), allowed, g.of); err != nil {
		return nil, err
	}
	resp, err := g.own.RoundTrip(req)
	return through(proxy, req, resp, err)
}

// sameHost reports whether u is at host, which may omit the default port.
func sameHost(u *url.URL, host string) bool {
	return strings.EqualFold(withPort(u.Host, u.Scheme), withPort(host, u.Scheme))
}

func withPort(host, scheme string) string {
	if _, _, err := net.SplitHostPort(host); err == nil {
		return host
	}
	if scheme == "http" {
		return host + ":80"
	}
	return host + ":443"
}

// A refusal is a host or an address that the upstream chose and that is not contacted.
type refusal struct{ reason, hint string }

func (e *refusal) Error() string { return e.reason }

// Hint returns what to do about it, "" if nothing helps.
func (e *refusal) Hint() string { return e.hint }

// otherHostError reports a failure at a host that the upstream chose. It has the host and the kind
// of failure only: the host's answer and address are not for the upstream's users.
type otherHostError struct {
	host string
	err  error
}

func (e *otherHostError) Unwrap() error { return e.err }

func (e *otherHostError) Error() string {
	return "the upstream leads to " + oneLine(e.host) + ": " + e.reason()
}

func (e *otherHostError) reason() string {
	var (
		refused *refusal
		dns     *net.DNSError
		cert    *tls.CertificateVerificationError
		timeout net.Error
		proxy   *proxyError
	)
	switch {
	case errors.As(e.err, &refused):
		return refused.Error()
	case errors.As(e.err, &proxy):
		return "the proxy does not lead there"
	case errors.As(e.err, &dns) && dns.IsNotFound:
		return "no such host"
	case errors.As(e.err, &cert):
		return "its certificate is not trusted"
	case errors.Is(e.err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.As(e.err, &timeout) && timeout.Timeout():
		return "no answer in time"
	}
	return "no usable answer"
}
