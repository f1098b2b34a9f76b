package oci

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/store"
)

func TestBase(t *testing.T) {
	f := newFixture(t, nil)
	for _, path := range []string{"/v2/", "/v2"} {
		got := f.do(http.StatusOK, "GET", path, nil)
		got.wantHeader(t, "Docker-Distribution-Api-Version", "registry/2.0")
		if string(got.body) != "{}" {
			t.Errorf("%s: %s", path, got.body)
		}
		f.do(http.StatusOK, "HEAD", path, nil)
	}
}

func TestMethods(t *testing.T) {
	f := newFixture(t, nil)
	for path, allow := range map[string]string{
		"/v2/":                    "GET, HEAD",
		"/v2/_catalog":            "GET, HEAD",
		"/v2/a/tags/list":         "GET, HEAD",
		"/v2/a/manifests/latest":  "DELETE, GET, HEAD, PUT",
		"/v2/a/blobs/" + d256:     "DELETE, GET, HEAD",
		"/v2/a/blobs/uploads/":    "POST",
		"/v2/a/blobs/uploads/x":   "DELETE, GET, HEAD, PATCH, PUT",
		"/v2/a/referrers/" + d256: "GET, HEAD",
	} {
		got := f.do(http.StatusMethodNotAllowed, "BREW", path, nil)
		got.wantHeader(t, "Allow", allow)
		if got.code(t) != codeUnsupported {
			t.Errorf("%s: %s", path, got.body)
		}
	}
}

// Every malformed request is answered with a 4xx in the specification's form. The fixture fails if
// an internal error was logged.
func TestMalformed(t *testing.T) {
	f := newFixture(t, nil)
	f.pushImage("a", "latest", 1)
	location := f.begin("a")
	var paths []string
	for _, repo := range []string{"a", "nowhere", "A", "a//b", "..", "%00", "%2e%2e", "a%2fb", strings.Repeat("a/", 200) + "a", "a:80/b"} {
		for _, rest := range []string{
			"/tags/list", "/tags/list?n=x&last=%ff", "/manifests/latest", "/manifests/%00", "/manifests/", "/manifests/" + d256, "/manifests/" + d512 + "?tag=%zz&tag=;",
			"/manifests/sha256:", "/blobs/" + d256, "/blobs/sha512:" + hex256, "/blobs/uploads/", "/blobs/uploads/?mount=" + d256 + "&from=%00", "/blobs/uploads/?digest=%00",
			"/blobs/uploads/?digest=" + d256, "/blobs/uploads/x", "/blobs/uploads/..", "/blobs/uploads/x?_state=x&digest=x", "/referrers/" + d256 + "?n=x", "/referrers/x", "/nothing", "",
		} {
			paths = append(paths, "/v2/"+repo+rest)
		}
	}
	paths = append(paths, location, "/v2/_catalog?n=x", "/v2/_catalog?last=%00", "/v2//", "/v2/../v2/", "/v2/%", "/v2/a/manifests/latest?%", "//v2/")
	framings := []string{
		"Content-Length: 0\r\n\r\n",
		"Content-Length: 1\r\nContent-Type: application/x-www-form-urlencoded\r\n\r\n%",
		"Content-Length: 9\r\n\r\nshort",
		"Transfer-Encoding: chunked\r\n\r\nnot a chunk\r\n",
		"Transfer-Encoding: chunked\r\nContent-Type: multipart/form-data\r\nContent-Range: 0-\r\n\r\n0\r\n\r\n",
		"Content-Length: 2\r\nContent-Range: 5-9\r\nRange: bytes=9-1\r\nIf-None-Match: \"\r\nContent-Type: ;;\r\n\r\n{}",
	}
	for _, path := range paths {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"} {
			for _, framing := range framings {
				f.raw(method+" "+path+" HTTP/1.1\r\nHost: x\r\n", framing)
			}
		}
	}
}

// A body that cannot be read is reported as the client's fault, not the disk's.
func TestMalformed_body(t *testing.T) {
	f := newFixture(t, nil)
	for method, path := range map[string]string{
		"PATCH": f.begin("a"), "PUT": "/v2/a/manifests/x", "POST": "/v2/a/blobs/uploads/?digest=" + d256,
	} {
		got := f.raw(method+" "+path+" HTTP/1.1\r\nHost: x\r\n", "Transfer-Encoding: chunked\r\n\r\nnot a chunk\r\n")
		if got.StatusCode != http.StatusBadRequest || got.code(t) != codeSizeInvalid {
			t.Errorf("%s: %s %s", method, got.Status, got.body)
		}
	}
}

// A manifest whose announced size is too large is refused at once.
func TestManifest_announcedTooLarge(t *testing.T) {
	f := newFixture(t, nil)
	got := f.raw("PUT /v2/a/manifests/x HTTP/1.1\r\nHost: x\r\n", "Content-Length: 99999999999\r\n\r\n")
	if got.StatusCode != http.StatusRequestEntityTooLarge || got.code(t) != codeManifestInvalid {
		t.Errorf("%s %s", got.Status, got.body)
	}
}

// raw sends a request as it is. If it is shorter than announced, "short" half-closes
// the connection.
func (f *fixture) raw(head, rest string) reply {
	f.t.Helper()
	conn, err := net.Dial("tcp", f.server.Listener.Addr().String())
	if err != nil {
		f.t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	io.WriteString(conn, head+rest)
	if strings.HasSuffix(rest, "short") {
		conn.(*net.TCPConn).CloseWrite()
	}
	method, _, _ := strings.Cut(head, " ")
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		f.t.Fatalf("%q: %v", head+rest, err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	if resp.StatusCode >= 500 {
		f.t.Errorf("%q: %s %s", head+rest, resp.Status, body)
	}
	if resp.StatusCode >= 400 && method != "HEAD" && resp.Header.Get("Content-Type") != "text/plain; charset=utf-8" {
		(reply{resp, body}).code(f.t) // a 400 of net/http itself is plain text
	}
	return reply{resp, body}
}

// podman shows the text of a 4xx and only the number of a 5xx.
func TestExplain_diskFull(t *testing.T) {
	full := &store.FullError{Path: "/srv/quay-storage", Short: 4096, Err: syscall.ENOSPC}
	w := httptest.NewRecorder()
	(&API{log: slog.New(slog.DiscardHandler)}).answer(w, httptest.NewRequest("PATCH", "/v2/a/blobs/uploads/x", nil), uploadCodes.explain(fmt.Errorf("write upload: %w", full)))
	got := reply{w.Result(), w.Body.Bytes()}
	if got.StatusCode < 400 || got.StatusCode > 499 || got.code(t) != codeDenied {
		t.Errorf("%d %s", got.StatusCode, got.body)
	}
	for _, part := range []string{"/srv/quay-storage", "4.0 KiB short", "appliance gc"} {
		if !strings.Contains(string(got.body), part) {
			t.Errorf("%s lacks %q", got.body, part)
		}
	}
}

func TestExplain_tooLarge(t *testing.T) {
	w := httptest.NewRecorder()
	err := fmt.Errorf("write upload: %w", &store.TooLargeError{Place: "s3://images", Most: 7})
	(&API{log: slog.New(slog.DiscardHandler)}).answer(w, httptest.NewRequest("PATCH", "/v2/a/blobs/uploads/x", nil), uploadCodes.explain(err))
	got := reply{w.Result(), w.Body.Bytes()}
	if got.StatusCode != http.StatusRequestEntityTooLarge || got.code(t) != codeSizeInvalid || !strings.Contains(string(got.body), "s3://images has 7 bytes at most") {
		t.Errorf("%d %s", got.StatusCode, got.body)
	}
}

// A client asks again, and the log has the reason.
func TestExplain_storageUnavailable(t *testing.T) {
	var log bytes.Buffer
	w := httptest.NewRecorder()
	err := hint.New(fmt.Errorf("write blob: %w", store.ErrUnavailable), "look at the bucket")
	(&API{log: slog.New(slog.NewTextHandler(&log, nil))}).answer(w, httptest.NewRequest("PUT", "/v2/a/blobs/uploads/x", nil), uploadCodes.explain(err))
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") != "10" || !strings.Contains(log.String(), "look at the bucket") {
		t.Errorf("%d %s, logged %s", w.Code, w.Body, &log)
	}
}

// An internal error is logged and not shown to the client.
func TestAnswer_internalError(t *testing.T) {
	var log bytes.Buffer
	w := httptest.NewRecorder()
	(&API{log: slog.New(slog.NewTextHandler(&log, nil))}).answer(w, httptest.NewRequest("GET", "/v2/", nil), errors.New("why"))
	if w.Code != http.StatusInternalServerError || strings.Contains(w.Body.String(), "why") || !strings.Contains(log.String(), "why") {
		t.Errorf("%d %s, logged %s", w.Code, w.Body, &log)
	}
}
