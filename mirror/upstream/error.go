package upstream

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/retry"
	"github.com/mirror-appliance/appliance/internal/webpage"
)

const attemptLogin = "log in"

// readError reports a failed read: the registry and repository, the attempt, and either the
// registry's answer or the reason that there is none. Callers match its methods.
type readError struct {
	Registry   string
	Repository string
	Attempt    string        // "get manifest v1", "get blob sha256:…", "list tags", "log in"
	Status     int           // of the registry's answer, 0 without one or if it is not the cause
	Code       string        // the registry's own error code, such as MANIFEST_UNKNOWN
	Message    string        // the registry's message
	Anonymous  bool          // no credentials were found
	Helper     string        // the program that might have some and is not on this host
	told       string        // why an appliance does not have it, in a word; "" of other registries
	After      time.Duration // Retry-After of the answer, 0 without one
	Err        error         // the cause if it is not the status
	silent     bool          // neither the registry nor its token server answered
	proxy      string        // that the registry is asked through, "" for none or if another host failed
	words      words
}

func (e *readError) Error() string {
	var reasons []string
	if e.Status != 0 {
		reasons = append(reasons, statusText(e.Status))
	}
	for _, s := range []string{e.Code, e.Message} {
		if s != "" {
			reasons = append(reasons, s)
		}
	}
	if e.Err != nil {
		reasons = append(reasons, oneLine(e.Err.Error()))
	}
	return fmt.Sprintf("registry %s: repository %s: %s: %s%s", e.Registry, e.Repository, e.Attempt,
		strings.Join(reasons, ": "), e.way())
}

func statusText(status int) string {
	return strings.TrimSpace(fmt.Sprintf("%d %s", status, http.StatusText(status)))
}

// Refused returns the status of the registry's refusal, and 0 for a failure that a retry may end.
// after is its Retry-After.
func (e *readError) Refused() (status int, after time.Duration) {
	switch {
	case e.Status == http.StatusTooManyRequests:
		return e.Status, e.After
	case e.Status == http.StatusRequestTimeout, e.Status < 400, e.Status >= 500:
		return 0, e.After
	case e.Attempt == attemptLogin && e.Status != http.StatusUnauthorized && e.Status != http.StatusForbidden:
		return 0, e.After // not a registry's answer
	}
	return e.Status, e.After
}

// Answered reports whether the registry answered.
func (e *readError) Answered() bool { return e.Status != 0 }

// Answer returns the status of the registry's answer, 0 without one, and its error code and message.
func (e *readError) Answer() (status int, code, message string) { return e.Status, e.Code, e.Message }

// Unwrap returns the cause.
func (e *readError) Unwrap() error { return e.Err }

// Is makes errors.Is(err, fs.ErrNotExist) report that the content does not exist. The answer of a
// server that is not a registry does not count.
func (e *readError) Is(target error) bool {
	if target != fs.ErrNotExist || e.Attempt == attemptLogin || e.Status < 400 || e.Status >= 500 {
		return false
	}
	switch e.Code {
	case "MANIFEST_UNKNOWN", "NAME_UNKNOWN", "BLOB_UNKNOWN":
		return true
	}
	return e.Status == http.StatusNotFound || e.Status == http.StatusGone
}

// unsupported reports whether an error is about the kind of a request, by the registry's answer or
// one of the other statuses, and not about the content.
func unsupported(err error, others ...int) bool {
	var e *readError
	if !errors.As(err, &e) || e.Attempt == attemptLogin {
		return false
	}
	switch e.Status {
	case http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusNotAcceptable, http.StatusNotImplemented:
		return true
	}
	return slices.Contains(others, e.Status)
}

// Hint returns what to do about it.
func (e *readError) Hint() string {
	if e.mayBeProxys() {
		return e.hintOfWay(e.hintOfRegistry())
	}
	return e.hintOfRegistry()
}

// hintOfRegistry is Hint for a failure that is not a proxy's.
func (e *readError) hintOfRegistry() string {
	switch {
	case errors.Is(e, fs.ErrNotExist):
		return fmt.Sprintf("check the name: skopeo list-tags docker://%s/%s", e.login(), e.Repository)
	case e.Helper != "":
		return fmt.Sprintf("the credentials file names the helper %s, which is not in PATH: install it, or %s", e.Helper, e.toLogIn())
	case e.told != "":
		return e.hintOfAppliance()
	case e.Status == http.StatusUnauthorized && e.Anonymous:
		return "no credentials were found for it (or there is no such repository): " + e.toLogIn()
	case e.Status == http.StatusUnauthorized:
		return "its credentials were refused (or there is no such repository): " + e.toLogIn()
	case e.Status == http.StatusForbidden:
		return fmt.Sprintf("the account may not read %s: ask for the right to, or as a user with that right: %s", e.Repository, e.toLogIn())
	case e.Status == http.StatusTooManyRequests:
		return "wait, or for a higher limit: " + e.toLogIn()
	case e.Status == http.StatusNotFound:
		return fmt.Sprintf("%s does not answer as a registry: check host and port", e.Registry)
	case e.Err != nil:
		return e.hintOfCause()
	}
	return ""
}

func (e *readError) hintOfCause() string {
	var (
		dns     *net.DNSError
		unknown x509.UnknownAuthorityError
		host    x509.HostnameError
		invalid x509.CertificateInvalidError
		record  tls.RecordHeaderError
		stalled *stallError
		other   *otherHostError
		proxy   *proxyError
	)
	switch {
	case e.words.proxied && errors.As(e.Err, &proxy):
		return proxy.hintOfNamed()
	case hint.Of(e.Err) != "":
		return hint.Of(e.Err)
	case strings.Contains(e.Err.Error(), "realm host "): // of go-containerregistry, which has no type for it
		return fmt.Sprintf("have %s name its token server by a host name: an address that is not public is not trusted with a login", e.Registry)
	case errors.As(e.Err, &other):
		return fmt.Sprintf("%s sends this host to %s: have that host reached from here (firewall, HTTPS_PROXY, NO_PROXY) and trusted too", e.Registry, oneLine(other.host))
	case errors.As(e.Err, &unknown):
		return fmt.Sprintf("trust the CA of %s: name its PEM file as the upstream's CA, or copy it to /etc/pki/ca-trust/source/anchors/ and run update-ca-trust (Debian: /usr/local/share/ca-certificates/*.crt, update-ca-certificates)", e.Registry)
	case errors.As(e.Err, &host):
		return "use a name that its certificate is for"
	case errors.As(e.Err, &invalid):
		return "check this machine's clock, and have the certificate renewed if it has expired"
	case endedHandshake(e.Err):
		return "it ends the handshake: it may want a client's certificate, or not take the one that it is shown: check " + e.words.certDir()
	case errors.As(e.Err, &record), errors.Is(e.Err, http.ErrSchemeMismatch):
		return fmt.Sprintf("%s does not speak TLS there: check the port, or allow plain HTTP (of a mirror: --src-tls-verify=false)", e.Registry)
	case errors.As(e.Err, &dns) && dns.IsNotFound:
		return fmt.Sprintf("no host has that name here: check the spelling and DNS (getent hosts %s), and HTTPS_PROXY if a proxy leads there", dns.Name)
	case errors.Is(e.Err, syscall.ECONNREFUSED):
		return fmt.Sprintf("nothing listens there: check the port of %s and that it runs, and HTTPS_PROXY if a proxy leads there", e.Registry)
	case errors.As(e.Err, &stalled), errors.Is(e.Err, syscall.EHOSTUNREACH),
		errors.Is(e.Err, syscall.ENETUNREACH), errors.Is(e.Err, syscall.ETIMEDOUT):
		return "check the network to it, and HTTPS_PROXY and NO_PROXY"
	}
	return ""
}

func (c *Client) failed(repo name.Repository, attempt string, err error) *readError {
	return &readError{Registry: c.Registry(), Repository: repo.RepositoryStr(), Attempt: attempt, Err: err, proxy: c.proxyHost(), words: c.words}
}

// requestFailed returns the error of a request without an answer. It omits the URL: after a
// redirect it may have a signature, which is a secret.
func (c *Client) requestFailed(repo name.Repository, anonymous bool, attempt string, err error) *readError {
	e := c.failed(repo, attempt, nil)
	e.Anonymous = anonymous
	var (
		answer *transport.Error // from the token server, or the ping
		limit  *limitError
		conn   *connError
		asked  *url.Error
		page   *webpage.Error
	)
	switch {
	case errors.As(err, &page):
		e.Err = page
	case errors.As(err, &answer):
		// A token may expire while a blob is read: the attempt is the login.
		e.Attempt, e.Status = attemptLogin, answer.StatusCode
		if len(answer.Errors) > 0 && c.answered(answer.Request) {
			e.Code, e.Message = oneLine(string(answer.Errors[0].Code)), oneLine(answer.Errors[0].Message)
		}
	case errors.As(err, &limit):
		e.Attempt, e.Status, e.After = attemptLogin, limit.status, limit.after
	case errors.As(err, &conn):
		e.Err, e.silent = conn.err, !conn.redirected && !decided(err)
		if conn.redirected {
			e.proxy = ""
		}
		if errors.Is(e.Err, io.EOF) {
			e.Err = &closedError{e.Err}
		}
	case errors.As(err, &asked):
		e.Err = asked.Err
	default:
		// The first line of the transport's text: the second would be a token server's answer.
		e.Err = errors.New(oneLine(err.Error()))
	}
	e.Helper = c.helperOf(e, repo)
	return e
}

// helperOf returns the program that an anonymous request might have had credentials from.
func (c *Client) helperOf(e *readError, repo name.Repository) string {
	if !e.Anonymous || e.Status != http.StatusUnauthorized && e.Status != http.StatusForbidden {
		return ""
	}
	return helperMissing(c.keychain, repo)
}

// refused returns the error of an answer.
func (c *Client) refused(repo name.Repository, anonymous bool, attempt string, resp *http.Response) *readError {
	e := c.failed(repo, attempt, nil)
	e.Anonymous, e.Status, e.After = anonymous, resp.StatusCode, retry.After(resp)
	e.Helper = c.helperOf(e, repo)
	if !c.answered(resp.Request) {
		e.proxy = ""
		e.Err = errors.New("so answers the host that the registry leads to, " + resp.Request.URL.Host)
		return e
	}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxDrain))
	var answer struct {
		Errors []struct {
			Code, Message string
			Detail        json.RawMessage
		}
	}
	if json.Unmarshal(body, &answer) == nil && len(answer.Errors) > 0 {
		e.told = toldIn(answer.Errors[0].Detail)
		e.Code, e.Message = oneLine(answer.Errors[0].Code), oneLine(answer.Errors[0].Message)
		return e
	}
	if kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); kind == "text/plain" {
		e.Message = oneLine(string(body))
	}
	return e
}

// answered reports whether the registry itself answered. The answer of a host that the registry
// chose is not passed on.
func (c *Client) answered(req *http.Request) bool {
	return req != nil && req.URL != nil && sameHost(req.URL, c.Registry())
}

// oneLine returns the first line of a registry's text, shortened and without control characters.
func oneLine(s string) string {
	s, _, _ = strings.Cut(strings.TrimSpace(s), "\n")
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	if runes := []rune(s); len(runes) > 300 {
		s = string(runes[:300]) + "…"
	}
	return s
}
