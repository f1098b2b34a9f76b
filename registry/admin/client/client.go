// Package client makes the calls of the control API, which package api declares.
//
// Use [NewUnix] for the daemon on this host and [Dial] for a registry on another host, which may
// turn out not to be an appliance. The package does not import the store, so that an installer
// and a command stay small.
package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/retry"
	"github.com/mirror-appliance/appliance/registry/admin/api"
)

const (
	dialTimeout = 10 * time.Second
	// answerTimeout limits the wait for an answer after the whole request was sent.
	answerTimeout = 5 * time.Minute
	pingTimeout   = 30 * time.Second
)

// Client speaks to a daemon. It is safe for concurrent use.
type Client struct {
	http           *http.Client // with a timeout for the answer
	patient        *http.Client // without: jobs and commits take as long as they take
	base           string       // such as https://registry.example.com:8443
	user, password string       // "" on the socket
	daemon         api.Status   // as Dial found it
	files          *files       // nil: the daemon is elsewhere, or was not dialed
}

// Dial returns a client of the appliance at addr (host:port), for a user of role admin. A nil trust
// verifies its certificate by the system's CAs.
//
// Any other server is a *NotApplianceError. An appliance that rejects the login is a *Refused with
// status 401, or 403 for a user of another role. Other errors mean that there was no answer.
func Dial(ctx context.Context, addr, user, password string, trust *tls.Config) (*Client, error) {
	c := NewHTTPS(addr, user, password, trust)
	err := redial(ctx, func() error {
		s, err := c.Status(ctx)
		if err == nil && s.Address == "" { // which each appliance has
			return &NotApplianceError{Answer: "200 OK", status: http.StatusOK}
		}
		c.daemon = s
		return orForeign(err)
	})
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Near returns a client of the daemon that was dialed over its control socket, if that is on this
// host and takes this process, or nil. Nothing is encrypted on that way, and large blobs are written
// into the store's own files.
func (c *Client) Near(ctx context.Context) *Client {
	socket, err := os.Stat(c.daemon.Socket)
	if err != nil {
		return nil
	}
	owner := socket.Sys().(*syscall.Stat_t).Uid
	near := NewUnixOf(c.daemon.Socket, int(owner))
	here, err := near.Status(ctx)
	if err != nil || here.Address != c.daemon.Address || !here.Started.Equal(c.daemon.Started) {
		near.Close() // it is another's, at the same path
		return nil
	}
	near.daemon, near.files = here, &files{owner: owner}
	return near
}

// redial retries when a connection drops, but not if the host is not reached or has answered.
func redial(ctx context.Context, ask func() error) error {
	dropped := func(err error) (bool, time.Duration) {
		var dial *net.OpError
		return !is[*Refused](err) && !is[*NotApplianceError](err) && !(errors.As(err, &dial) && dial.Op == "dial"), 0
	}
	return retry.Policy{Attempts: 3, Again: dropped}.Do(ctx, ask)
}

// NewHTTPS returns a client of the appliance at addr (host:port), and asks nothing. It is for the
// calls that users of every role may make; the others need Dial.
func NewHTTPS(addr, user, password string, trust *tls.Config) *Client {
	if trust == nil {
		trust = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	t := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSHandshakeTimeout: dialTimeout,
		// This makes it HTTP/1.1, one connection a blob, which is faster than streams of one HTTP/2
		// connection.
		TLSClientConfig: trust,
	}
	return newClient(t, "https://"+addr, user, password)
}

func newClient(t *http.Transport, base, user, password string) *Client {
	t.MaxIdleConnsPerHost = 64
	t.IdleConnTimeout = time.Minute
	t.ExpectContinueTimeout = 2 * time.Second
	t.WriteBufferSize, t.ReadBufferSize = 64<<10, 64<<10
	patient := t.Clone()
	t.ResponseHeaderTimeout = answerTimeout
	// An appliance does not redirect: a single sign-on before another registry does, to a host that
	// need not be reached.
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Client{http: &http.Client{Transport: t, CheckRedirect: stay},
		patient: &http.Client{Transport: patient, CheckRedirect: stay}, base: base, user: user, password: password}
}

// Close closes idle connections.
func (c *Client) Close() {
	c.http.CloseIdleConnections()
	c.patient.CloseIdleConnections()
}

// Ping returns nil if a daemon answers that has the database of a name, see config.Config.DatabaseName.
func (c *Client) Ping(ctx context.Context, database string) error {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	r, err := c.request(ctx, api.Ping.Method, api.Ping.Path, nil)
	if err != nil {
		return err
	}
	r.Header.Set(api.ForDatabase, url.QueryEscape(database))
	return c.do(c.http, r, nil)
}

// Status returns the state of the daemon.
func (c *Client) Status(ctx context.Context) (api.Status, error) {
	return call(ctx, c, api.GetStatus, api.None{})
}

// Resources returns the cluster resources of what the user may pull.
func (c *Client) Resources(ctx context.Context) ([]api.Resource, error) {
	return call(ctx, c, api.GetResources, api.None{})
}

// Users lists all users.
func (c *Client) Users(ctx context.Context) ([]api.User, error) {
	return call(ctx, c, api.ListUsers, api.None{})
}

// CreateUser creates a user; a *Refused of status 409 says that the name is taken.
func (c *Client) CreateUser(ctx context.Context, u api.NewUser) (api.User, error) {
	return call(ctx, c, api.CreateUser, u)
}

// ChangeUser changes a user.
func (c *Client) ChangeUser(ctx context.Context, name string, change api.UserChange) (api.User, error) {
	return call(ctx, c, api.ChangeUser, change, name)
}

// DeleteUser removes a user.
func (c *Client) DeleteUser(ctx context.Context, name string) error {
	_, err := call(ctx, c, api.DeleteUser, api.None{}, name)
	return err
}

// call makes a call. args stand for the {names} in its path.
func call[Q, A any](ctx context.Context, c *Client, k api.Call[Q, A], q Q, args ...string) (A, error) {
	return callVia(ctx, c, c.http, k, q, args...)
}

func callVia[Q, A any](ctx context.Context, c *Client, via *http.Client, k api.Call[Q, A], q Q,
	args ...string) (A, error) {
	var a A
	var body io.Reader
	if k.Max > 0 {
		var err error
		if body, err = encode(q); err != nil {
			return a, err
		}
	}
	r, err := c.request(ctx, k.Method, fill(k.Path, args...), body)
	if err != nil {
		return a, err
	}
	if any(a) == any(api.None{}) {
		return a, c.do(via, r, nil)
	}
	return a, c.do(via, r, &a)
}

// fill puts args in the place of the {names} of a path.
func fill(path string, args ...string) string {
	for _, arg := range args {
		before, rest, _ := strings.Cut(path, "{")
		_, after, _ := strings.Cut(rest, "}")
		path = before + url.PathEscape(arg) + after
	}
	return path
}

func encode(q any) (io.Reader, error) {
	data, err := json.Marshal(q)
	if err != nil {
		return nil, fmt.Errorf("encode the request: %w", err)
	}
	return bytes.NewReader(data), nil
}

func (c *Client) request(ctx context.Context, method, path string, body io.Reader) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, fmt.Errorf("control API: %w", err)
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if c.user != "" {
		r.SetBasicAuth(c.user, c.password)
	}
	return r, nil
}

func (c *Client) do(via *http.Client, r *http.Request, out any) error {
	resp, err := via.Do(r)
	if err != nil {
		return unreachable(c.base, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return refused(resp)
	}
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, api.MaxLine)).Decode(out); err != nil {
		if resp.Header.Get("Server") != api.Product {
			return notAppliance(resp)
		}
		return fmt.Errorf("read the daemon's answer to %s %s: %w", r.Method, r.URL.Path, err)
	}
	return nil
}

// NewUnix returns a client of the daemon on this host, over its socket.
func NewUnix(socket string) *Client {
	return newUnix(socket, func(net.Conn) error { return nil })
}

// NewUnixOf returns a client of a daemon that user uid runs. It sends nothing to another user's
// process.
func NewUnixOf(socket string, uid int) *Client {
	return newUnix(socket, func(c net.Conn) error { return answeredBy(c, socket, uid) })
}

func newUnix(socket string, check func(net.Conn) error) *Client {
	t := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			d := net.Dialer{Timeout: dialTimeout}
			c, err := d.DialContext(ctx, "unix", socket)
			if err != nil {
				return nil, err
			}
			if err := check(c); err != nil {
				return nil, errors.Join(err, c.Close())
			}
			return c, nil
		},
	}
	return newClient(t, "http://local", "", "")
}

// answeredBy asks the kernel which user listens (unix(7), SO_PEERCRED).
func answeredBy(c net.Conn, socket string, uid int) error {
	raw, err := c.(*net.UnixConn).SyscallConn()
	if err != nil {
		return err
	}
	var peer *unix.Ucred
	var failed error
	if err := raw.Control(func(fd uintptr) {
		peer,
			failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return err
	}
	if failed != nil {
		return fmt.Errorf("find out who answers on %s: %w", socket, failed)
	}
	if int(peer.Uid) != uid {
		return hint.New(
			fmt.Errorf("what answers on the control socket %s runs as user %d, and the registry as user %d", socket, peer.Uid, uid),
			"find out what it is: ss -xlp; then stop it, and start the registry")
	}
	return nil
}
