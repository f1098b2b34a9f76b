package admin

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// TestUnreachable_noRoute: a host that drops packets is unreachable as one that refuses is, though net calls it a deadline.
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

// TestClient_Ping_bounded: every command asks first whether a daemon runs, and one that hangs must not hold it up.
func TestClient_Ping_bounded(t *testing.T) {
	c := NewUnixClient("socket")
	c.http.Transport = transport(func(r *http.Request) (*http.Response, error) {
		if until, bounded := r.Context().Deadline(); !bounded || time.Until(until) > pingTimeout {
			t.Errorf("it may take until %s", until)
		}
		return nil, context.DeadlineExceeded
	})
	err := c.Ping(t.Context())
	var hint interface{ Hint() string }
	if !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &hint) || !strings.Contains(hint.Hint(), "journalctl") {
		t.Errorf("error is %v", err)
	}
}
