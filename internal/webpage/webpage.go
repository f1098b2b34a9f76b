// Package webpage recognizes the web page that a server sends in place of a registry's answer: the
// login page of a single sign-on, or the notice of a proxy.
//
// The header Content-Type alone does not tell: Quay's answers to uploads have text/html, with an
// empty body.
package webpage

import (
	"bufio"
	"bytes"
	"io"
	"mime"
	"net/http"
)

// peek is how much of a body is looked at.
const peek = 512

// Error is the error of an answer that is a web page.
type Error struct{ url string }

// New returns the error of a page from a registry, host[:port], which was asked with or without TLS.
func New(registry string, plain bool) *Error {
	if plain {
		return &Error{"http://" + registry}
	}
	return &Error{"https://" + registry}
}

func (e *Error) Error() string {
	return "the answer is a web page, as that of a single sign-on or of a proxy, and not a registry's"
}

// Hint returns what to do about it.
func (e *Error) Hint() string {
	return "open " + e.url + "/v2/_catalog in a browser to see the page, and have everything below /v2/ " +
		"excepted from the single sign-on or the proxy that sends it"
}

// Is reports whether the body of an answer is a web page, and leaves the body to be read whole.
func Is(resp *http.Response) bool {
	if !Claims(resp) || resp.Body == nil || resp.Body == http.NoBody {
		return false
	}
	buffered := bufio.NewReaderSize(resp.Body, peek)
	start, _ := buffered.Peek(peek) // an error is had again by reading
	resp.Body = &body{buffered, resp.Body}
	return bytes.HasPrefix(bytes.TrimLeft(bytes.TrimPrefix(start, []byte("\xef\xbb\xbf")), " \t\r\n"), []byte("<"))
}

// Claims reports whether the headers of a successful answer say that it is a web page.
func Claims(resp *http.Response) bool {
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return false
	}
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	return kind == "text/html" || kind == "application/xhtml+xml"
}

// body reads what was peeked at first.
type body struct {
	io.Reader
	io.Closer
}
