package upstream

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"

	"github.com/mirror-appliance/appliance/internal/retry"
	"github.com/mirror-appliance/appliance/internal/webpage"
)

// proxyError reports a proxy that does not let a request through, or is not reached. It has the
// proxy's host and not its login.
type proxyError struct {
	proxy, host string
	status      int // of its answer, 0 without one
	err         error
}

func (e *proxyError) Error() string {
	if e.status != 0 {
		return fmt.Sprintf("the proxy %s answers %s for %s", e.proxy, statusText(e.status), e.host)
	}
	return fmt.Sprintf("the proxy %s is not reached: %v", e.proxy, e.err)
}

func (e *proxyError) Unwrap() error { return e.err }

// Hint returns what to do about it.
func (e *proxyError) Hint() string {
	switch {
	case e.status == http.StatusProxyAuthRequired:
		return "give its login: HTTPS_PROXY=http://user:password@" + e.proxy + " (and HTTP_PROXY), or name " + e.host + " in NO_PROXY"
	case e.status != 0:
		return "have " + e.host + " allowed in the proxy, or name it in NO_PROXY if it is reached without"
	}
	return "check HTTPS_PROXY and HTTP_PROXY, or name " + e.host + " in NO_PROXY if it is reached without"
}

// hintOfNamed is Hint for a proxy that the configuration of an upstream names.
func (e *proxyError) hintOfNamed() string {
	switch {
	case e.status == http.StatusProxyAuthRequired:
		return "a login of a proxy is not for config.yaml, which others may read: leave proxy out of the upstream, and set " +
			"HTTPS_PROXY=http://user:password@" + e.proxy + " (and HTTP_PROXY) for the service"
	case e.status != 0:
		return "have " + e.host + " allowed in the proxy, or write proxy: none for the upstream if it is reached without"
	}
	return "check proxy of the upstream in config.yaml, and that the proxy runs"
}

// final reports whether the proxy's answer will be the same again.
func (e *proxyError) final() bool { return e.status != 0 && !retry.Status(e.status) }

// connected judges the answer of a proxy to CONNECT, as a transport's OnProxyConnectResponse.
func connected(_ context.Context, proxy *url.URL, connect *http.Request, answer *http.Response) error {
	if answer.StatusCode == http.StatusOK {
		return nil
	}
	return &proxyError{proxy: proxy.Host, host: connect.Host, status: answer.StatusCode}
}

// through names the proxy in the failure of a request that went through it. Of plain HTTP only the
// demand for a login is known to be the proxy's.
func through(proxy *url.URL, req *http.Request, resp *http.Response, err error) (*http.Response, error) {
	var dial *net.OpError
	switch {
	case err == nil && resp.StatusCode == http.StatusProxyAuthRequired:
		resp.Body.Close()
		return nil, &proxyError{proxy: proxy.Host, host: req.URL.Host, status: resp.StatusCode}
	case errors.As(err, &dial) && dial.Op == "proxyconnect":
		return nil, &proxyError{proxy: proxy.Host, host: req.URL.Host, err: dial.Err}
	}
	return resp, err
}

// proxyHost returns the proxy through which the registry is asked, "" for none.
func (c *Client) proxyHost() string {
	req, err := http.NewRequest(http.MethodGet, c.root(), nil)
	if err != nil || c.hosts.own.Proxy == nil {
		return ""
	}
	proxy, err := c.hosts.own.Proxy(req)
	if err != nil || proxy == nil {
		return ""
	}
	return proxy.Host
}

// mayBeProxys reports whether a failure may be that of the proxy that the registry is asked through,
// and not the registry's. One that is known to be the proxy's names it already. An answer with an error
// code is a registry's, and so is one through TLS, except a page: some proxies break TLS open.
func (e *readError) mayBeProxys() bool {
	if e.proxy == "" || errors.As(e.Err, new(*proxyError)) || errors.As(e.Err, new(*otherHostError)) {
		return false
	}
	switch e.Kind() {
	case "login", "denied", "failing", "refused":
		return e.Status != 0 && e.words.plain && e.Code == ""
	case "timeout", "broken", "unreachable":
		return true
	case "tls":
		return errors.As(e.Err, new(x509.UnknownAuthorityError))
	case "nonsense":
		return e.words.plain || errors.As(e.Err, new(*webpage.Error))
	}
	return false
}

// way names the proxy in the text of a failure that may be the proxy's.
func (e *readError) way() string {
	if !e.mayBeProxys() {
		return ""
	}
	return " (the registry is asked through the proxy " + e.proxy + ")"
}

// hintOfWay returns what to do about a failure that may be the proxy's. other is what to do if it is not.
func (e *readError) hintOfWay(other string) string {
	key, without := "HTTPS_PROXY", "name "+e.Registry+" in NO_PROXY"
	if e.words.plain {
		key = "HTTP_PROXY"
	}
	if e.words.proxied {
		key, without = "proxy of the upstream in config.yaml", "write proxy: none for the upstream"
	}
	advice := fmt.Sprintf("it may be the proxy %s (%s): check that it runs and lets requests for %s through, or %s if it is reached without",
		e.proxy, key, e.Registry, without)
	if kind := e.Kind(); other == "" || kind == "timeout" || kind == "broken" || kind == "unreachable" {
		return advice
	}
	return advice + "; if it is not the proxy: " + other
}
