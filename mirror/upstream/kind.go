package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"syscall"

	"github.com/mirror-appliance/appliance/internal/retry"
	"github.com/mirror-appliance/appliance/internal/webpage"
)

// Silent reports whether neither the registry nor its token server gave an answer. That of a proxy,
// and a failure at the target of a redirect, which the registry answered with, do not count.
func (e *readError) Silent() bool { return e.silent }

// Reason returns why there was no answer, without the name of the repository.
func (e *readError) Reason() string {
	if e.Err == nil {
		return statusText(e.Status) + e.way()
	}
	return oneLine(e.Err.Error()) + e.way()
}

// decided reports whether a request was not sent because this client does not send it.
func decided(err error) bool {
	return errors.As(err, new(*gateError)) || errors.As(err, new(*refusal)) || errors.Is(err, context.Canceled)
}

// Kind returns the kind of the failure in a word, for metrics and for programs.
func (e *readError) Kind() string {
	switch {
	case errors.Is(e, fs.ErrNotExist):
		return "absent"
	case e.Status == 0:
		return e.kindOfCause()
	case e.Status == http.StatusUnauthorized:
		return "login"
	case e.Status == http.StatusForbidden && e.told == toldOffline:
		return "offline"
	case e.Status == http.StatusForbidden && e.told == "":
		return "denied"
	case e.Status == http.StatusTooManyRequests:
		return "limit"
	case retry.Status(e.Status), e.Status >= 500:
		return "failing"
	}
	return "refused"
}

func (e *readError) kindOfCause() string {
	var (
		dns     *net.DNSError
		timeout net.Error
	)
	is := func(target any) bool { return errors.As(e.Err, target) }
	switch {
	case is(new(*webpage.Error)):
		return "nonsense"
	case is(new(*gateError)):
		return "offline"
	case is(new(*refusal)):
		return "redirect"
	case is(new(*proxyError)):
		return "proxy"
	case is(&dns):
		return "unresolvable"
	case is(new(*tls.CertificateVerificationError)), is(new(x509.UnknownAuthorityError)), is(new(x509.HostnameError)),
		is(new(x509.CertificateInvalidError)), is(new(tls.RecordHeaderError)), is(new(tls.AlertError)),
		errors.Is(e.Err, http.ErrSchemeMismatch), endedHandshake(e.Err):
		return "tls"
	case is(new(*stallError)), is(&timeout) && timeout.Timeout():
		return "timeout"
	case errors.Is(e.Err, syscall.ECONNREFUSED), errors.Is(e.Err, syscall.EHOSTUNREACH), errors.Is(e.Err, syscall.ENETUNREACH):
		return "unreachable"
	case e.silent, errors.Is(e.Err, io.ErrUnexpectedEOF), errors.Is(e.Err, syscall.ECONNRESET):
		return "broken"
	case e.Attempt == attemptLogin:
		return "login"
	}
	return "nonsense"
}

// endedHandshake reports whether a registry ended the handshake of TLS, for which package tls has no type.
func endedHandshake(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}

// closedError reports a connection that was closed before an answer came. It is not io.EOF, which
// would be the end of a blob.
type closedError struct{ err error }

func (e *closedError) Error() string {
	if errors.As(e.err, new(*otherHostError)) {
		return e.err.Error()
	}
	return "the connection was closed before an answer came"
}

// Is reports that this is an unexpected end.
func (e *closedError) Is(target error) bool { return target == io.ErrUnexpectedEOF }

// As finds errors below.
func (e *closedError) As(target any) bool { return errors.As(e.err, target) }
