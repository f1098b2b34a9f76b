package client_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/client"
)

func TestDial(t *testing.T) {
	for _, tc := range []struct {
		name    string
		status  int
		product string
		answer  string
		foreign bool
		refused int // the status of the refusal
	}{
		{"an appliance", 200, api.Product, `{"address":"registry.example.com:8443"}`, false, 0},
		{"a login that is wrong", 401, api.Product, `{"error":"no"}`, false, 401},
		{"a user who is not an administrator", 403, api.Product, `{"error":"no"}`, false, 403},
		{"a console that answers each path", 200, "other", "<html>", true, 0},
		{"JSON without an address", 200, "other", "{}", true, 0},
		{"a single sign-on", 302, "other", "", true, 0},
		{"a registry without the path", 404, "other", "not found", true, 0},
		{"a registry with errors like ours", 401, "other", `{"error":"no"}`, true, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Server", tc.product)
				w.Header().Set("Location", "https://sso.invalid/login")
				w.WriteHeader(tc.status)
				_, _ = io.WriteString(w, tc.answer)
			}))
			defer s.Close()
			c, err := client.Dial(t.Context(), s.Listener.Addr().String(), "u", "p", trust(s))
			var refused *client.Refused
			switch {
			case errors.As(err, new(*client.NotApplianceError)) != tc.foreign:
				t.Errorf("error is %v", err)
			case !tc.foreign && errors.As(err, &refused) != (tc.refused != 0), refused != nil && refused.Status != tc.refused:
				t.Errorf("error is %v", err)
			case (c != nil) != (err == nil):
				t.Errorf("client %v, error %v", c, err)
			}
			if c != nil {
				c.Close()
			}
		})
	}
}

// TestDial_again asserts that a connection which drops does not decide what a registry is.
func TestDial_again(t *testing.T) {
	var asked atomic.Int32
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) == 1 {
			panic(http.ErrAbortHandler)
		}
		_, _ = io.WriteString(w, `{"address":"registry.example.com:8443"}`)
	}))
	defer s.Close()
	c, err := client.Dial(t.Context(), s.Listener.Addr().String(), "u", "p", trust(s))
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

func trust(s *httptest.Server) *tls.Config {
	return s.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
}
