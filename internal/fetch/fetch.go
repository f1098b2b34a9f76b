// Package fetch gets small documents over HTTP: an update graph, a release signature.
//
// Use Client.Get. It retries what may pass, heeds Retry-After, and bounds the size of an answer.
// Content of a registry is read by mirror/upstream, which resumes and verifies.
package fetch

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/mirror-appliance/appliance/internal/retry"
)

// NewHTTPClient returns a client that goes through the proxy of the environment. verify is false
// only where the user says so.
func NewHTTPClient(verify bool) *http.Client {
	return &http.Client{Timeout: 10 * time.Minute, Transport: &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: 30 * time.Second,
		// Where packets are dropped, as in an enclave, the kernel waits for two minutes.
		DialContext:           (&net.Dialer{Timeout: 30 * time.Second}).DialContext,
		ResponseHeaderTimeout: 2 * time.Minute,
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: !verify},
	}}
}

// attempts is the number of requests to a service that fails.
const attempts = 4

// Client gets documents.
type Client struct {
	HTTP  *http.Client
	Sleep func(ctx context.Context, d time.Duration) error // between attempts; nil is a timer
}

// StatusError is an answer other than 200.
type StatusError struct {
	Status int
	reason string
	after  time.Duration
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("%d %s%s", e.Status, http.StatusText(e.Status), e.reason)
}

// Get returns the document at an address, of at most max bytes. An answer other than
// 200 is a *StatusError.
func (c Client) Get(ctx context.Context, at, accept string, max int64) (body []byte, err error) {
	tries := 0
	policy := retry.Policy{Attempts: attempts, First: time.Second, MaxAfter: time.Minute, Again: again, Sleep: c.Sleep}
	err = policy.Do(ctx, func() (err error) {
		tries++
		body, err = c.once(ctx, at, accept, max)
		return err
	})
	if err != nil && tries == attempts {
		err = fmt.Errorf("%w (tried %d times)", err, attempts)
	}
	return body, err
}

func again(err error) (bool, time.Duration) {
	var refused *StatusError
	if errors.As(err, &refused) {
		return retry.Status(refused.Status), refused.after
	}
	return retry.Passing(err), 0
}

func (c Client) once(ctx context.Context, at, accept string, max int64) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", accept)
	resp, err := c.HTTP.Do(r)
	if err != nil {
		var whole *url.Error // its text repeats the address
		if errors.As(err, &whole) {
			err = whole.Err
		}
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, max+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the answer: %w", err)
	case resp.StatusCode != http.StatusOK:
		return nil, &StatusError{Status: resp.StatusCode, reason: reason(body), after: retry.After(resp)}
	case int64(len(body)) > max:
		return nil, fmt.Errorf("the answer has more than %d bytes", max)
	}
	return body, nil
}

// reason returns the reason that an update service gives for a refusal.
func reason(body []byte) string {
	var answer struct{ Value string }
	if json.Unmarshal(body, &answer) != nil || answer.Value == "" {
		return ""
	}
	return ": " + answer.Value
}
