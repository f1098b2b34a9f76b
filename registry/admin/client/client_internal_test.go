package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// TestUnreachable_noRoute: a host that drops packets is unreachable as one that refuses is, though
// net calls it a deadline.
func TestUnreachable_noRoute(t *testing.T) {
	_, err := (&net.Dialer{Deadline: time.Unix(1, 0)}).Dial("tcp", "127.0.0.1:1")
	err = unreachable("https://registry.test:8443", &url.Error{Op: "Get", URL: "https://registry.test:8443/api/v1/ping", Err: err})
	var hint interface{ Hint() string }
	if !strings.Contains(err.Error(), "reach https://registry.test:8443: ") || !errors.As(err, &hint) || !strings.Contains(hint.Hint(), "check the name") {
		t.Errorf("error is %v", err)
	}
}

type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestClient_Ping_bounded: every command asks first whether a daemon runs, and one that
// hangs must not hold it up.
func TestClient_Ping_bounded(t *testing.T) {
	c := NewUnix("socket")
	c.http.Transport = transport(func(r *http.Request) (*http.Response, error) {
		if until, bounded := r.Context().Deadline(); !bounded || time.Until(until) > pingTimeout {
			t.Errorf("it may take until %s", until)
		}
		return nil, context.DeadlineExceeded
	})
	err := c.Ping(t.Context(), "")
	var hint interface{ Hint() string }
	if !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &hint) || !strings.Contains(hint.Hint(), "journalctl") {
		t.Errorf("error is %v", err)
	}
}

// unread fails the test when it is read.
type unread struct{ t *testing.T }

func (u unread) Read([]byte) (int, error) {
	u.t.Error("the blob is read")
	return 0, io.EOF
}

// TestRun_PutBlob_refused asserts that a blob is not sent before the daemon asks for it.
func TestRun_PutBlob_refused(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Server", api.Product)
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `{"error":"run x not found"}`)
	}))
	defer server.Close()
	c := NewHTTPS(server.Listener.Addr().String(), "u", "p", server.Client().Transport.(*http.Transport).TLSClientConfig)
	defer c.Close()
	c.http.Transport.(*http.Transport).ExpectContinueTimeout = time.Minute // on a slow machine too
	err := (&Run{client: c, id: "x"}).PutBlob(t.Context(), "a", ocispec.Descriptor{Digest: digest.FromString("x"), Size: 1 << 40}, unread{t})
	if !errors.Is(err, ErrNotFound) {
		t.Errorf("error is %v", err)
	}
}

// TestRun_PutBlob_whole: another upload of the blob is under way, so that this one begins at the
// beginning.
func TestRun_PutBlob_whole(t *testing.T) {
	const content = "content"
	d := digest.FromString(content)
	var offsets []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Server", api.Product)
		if r.Method == http.MethodPost {
			_ = json.NewEncoder(w).Encode(api.Existing{Partial: map[digest.Digest]int64{d: 3}})
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		offsets = append(offsets, r.Header.Get(api.UploadOffset))
		switch len(offsets) {
		case 1: // as if the connection broke
			w.WriteHeader(http.StatusInternalServerError)
			fmt.Fprint(w, `{"error":"out of order"}`)
		case 2:
			w.WriteHeader(http.StatusConflict)
			fmt.Fprint(w, `{"error":"another request uses it"}`)
		default:
			w.WriteHeader(http.StatusCreated)
		}
	}))
	t.Cleanup(server.Close)
	c := newClient(&http.Transport{}, server.URL, "", "")
	t.Cleanup(c.Close)
	run := &Run{client: c, id: "id"}
	if _, _, _, err := run.Existing(t.Context(), map[string][]digest.Digest{"a": {d}}, nil); err != nil {
		t.Fatal(err)
	}
	for attempt := range 3 {
		err := run.PutBlob(t.Context(), "a", ocispec.Descriptor{Digest: d, Size: int64(len(content))}, strings.NewReader(content))
		if (err == nil) != (attempt == 2) {
			t.Errorf("attempt %d: %v", attempt, err)
		}
	}
	if want := []string{"3", "3", ""}; !slices.Equal(offsets, want) {
		t.Errorf("the offsets are %q, want %q", offsets, want)
	}
}

// A certificate for another name is not mended by trust in its CA.
func TestUnreachable_anotherName(t *testing.T) {
	server := httptest.NewTLSServer(http.NotFoundHandler()) // whose certificate is for example.com and 127.0.0.1
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c := NewHTTPS("localhost:"+port, "me", "password1", &tls.Config{RootCAs: roots})
	defer c.Close()
	if _, err := c.Status(t.Context()); err == nil || !strings.Contains(hint.Of(err), "a name that its certificate is for") {
		t.Errorf("error %v, hint %q", err, hint.Of(err))
	}
}

// What people read of a request that had no answer is the address without parameters.
func TestUnreachable_withoutParameters(t *testing.T) {
	err := unreachable("https://first.example.com", &url.Error{Op: "Get", URL: "https://first.example.com/api/v1/changes?follower=A&since=B", Err: errors.New("TLS handshake timeout")})
	if text := err.Error(); strings.Contains(text, "since") || !strings.Contains(text, "https://first.example.com/api/v1/changes") || !strings.Contains(text, "TLS handshake timeout") {
		t.Errorf("it is %s", text)
	}
}
