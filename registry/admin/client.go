package admin

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/registry/store"
)

const (
	dialTimeout = 10 * time.Second
	// answerTimeout is how long the daemon may take to begin an answer after the whole request
	// was sent. It is no bound on sending: a blob takes as long as it takes.
	answerTimeout = 5 * time.Minute
	// pingTimeout is how long it may take to say that it is there, which costs it nothing.
	pingTimeout = 30 * time.Second
)

// Client speaks to a daemon. It is safe for concurrent use.
type Client struct {
	http           *http.Client // gives up on a daemon that does not answer
	patient        *http.Client // does not: collections and commits take as long as they take
	base           string       // such as https://registry.example.com:8443
	user, password string       // "" on the socket
}

// NewUnixClient speaks to the daemon on this host over its socket.
func NewUnixClient(socket string) *Client {
	return newUnixClient(socket, func(net.Conn) error { return nil })
}

// NewUnixClientOf is that for a daemon that a certain user runs: another who answers on the socket is told nothing.
func NewUnixClientOf(socket string, uid int) *Client {
	return newUnixClient(socket, func(c net.Conn) error { return answeredBy(c, socket, uid) })
}

func newUnixClient(socket string, check func(net.Conn) error) *Client {
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

// answeredBy asks the kernel who listens (unix(7), SO_PEERCRED).
func answeredBy(c net.Conn, socket string, uid int) error {
	raw, err := c.(*net.UnixConn).SyscallConn()
	if err != nil {
		return err
	}
	var peer *unix.Ucred
	var failed error
	if err := raw.Control(func(fd uintptr) { peer, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return err
	}
	if failed != nil {
		return fmt.Errorf("find out who answers on %s: %w", socket, failed)
	}
	if int(peer.Uid) != uid {
		return &unreachableError{
			fmt.Errorf("what answers on the control socket %s runs as user %d, and the registry as user %d", socket, peer.Uid, uid),
			"find out what it is: ss -xlp; then stop it, and start the registry",
		}
	}
	return nil
}

// NewHTTPSClient speaks to the daemon at addr (host:port) as a user of role admin. trust says
// how its certificate is verified; nil is by the system's CAs.
func NewHTTPSClient(addr, user, password string, trust *tls.Config) *Client {
	if trust == nil {
		trust = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	t := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSHandshakeTimeout: dialTimeout,
		// A transport with a TLS configuration of its own stays with HTTP/1.1, one connection a
		// blob, which moves more bytes than many streams in one HTTP/2 connection do.
		TLSClientConfig: trust,
	}
	return newClient(t, "https://"+addr, user, password)
}

func newClient(t *http.Transport, base, user, password string) *Client {
	t.MaxIdleConnsPerHost = 16
	t.IdleConnTimeout = time.Minute
	t.ExpectContinueTimeout = 2 * time.Second
	t.WriteBufferSize, t.ReadBufferSize = 64<<10, 64<<10
	patient := t.Clone()
	t.ResponseHeaderTimeout = answerTimeout
	return &Client{http: &http.Client{Transport: t}, patient: &http.Client{Transport: patient}, base: base, user: user, password: password}
}

// Close gives up connections that wait for another request.
func (c *Client) Close() {
	c.http.CloseIdleConnections()
	c.patient.CloseIdleConnections()
}

// Ping says nothing if a daemon answers.
func (c *Client) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	return c.json(ctx, c.http, http.MethodGet, "/api/v1/ping", nil, nil)
}

// Status says how the daemon is.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var s Status
	err := c.json(ctx, c.http, http.MethodGet, "/api/v1/status", nil, &s)
	return s, err
}

// Users lists all users.
func (c *Client) Users(ctx context.Context) ([]User, error) {
	var us []User
	err := c.json(ctx, c.http, http.MethodGet, "/api/v1/users", nil, &us)
	return us, err
}

// CreateUser creates a user; an *Error of status 409 says that there is one of that name.
func (c *Client) CreateUser(ctx context.Context, u NewUser) (User, error) {
	var made User
	err := c.json(ctx, c.http, http.MethodPost, "/api/v1/users", u, &made)
	return made, err
}

// ChangeUser changes role or password or both.
func (c *Client) ChangeUser(ctx context.Context, name string, change UserChange) (User, error) {
	var now User
	err := c.json(ctx, c.http, http.MethodPut, "/api/v1/users/"+url.PathEscape(name), change, &now)
	return now, err
}

// DeleteUser removes a user.
func (c *Client) DeleteUser(ctx context.Context, name string) error {
	return c.json(ctx, c.http, http.MethodDelete, "/api/v1/users/"+url.PathEscape(name), nil, nil)
}

// json sends in, unless it is nil, and reads the answer into out, unless that is nil.
func (c *Client) json(ctx context.Context, via *http.Client, method, path string, in, out any) error {
	body, err := encode(in)
	if err != nil {
		return err
	}
	r, err := c.request(ctx, method, path, body)
	if err != nil {
		return err
	}
	if in != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	return c.do(via, r, out)
}

// encode is the JSON of a request, or no body at all.
func encode(in any) (io.Reader, error) {
	if in == nil {
		return nil, nil
	}
	data, err := json.Marshal(in)
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
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxJobLine)).Decode(out); err != nil {
		if resp.Header.Get("Server") != Product {
			return foreign(resp)
		}
		return fmt.Errorf("read the daemon's answer to %s %s: %w", r.Method, r.URL.Path, err)
	}
	return nil
}

// Error is a refusal by the daemon.
type Error struct {
	Status  int
	Message string
	// Product is who answered, by the header Server: see the constant of that name.
	Product string
	hint    string
}

func (e *Error) Error() string { return e.Message }

// Hint says what to do about it, in the daemon's words.
func (e *Error) Hint() string { return e.hint }

// Refused says that the same request would be refused again: the disk is full, the run is gone, the user may not. Other
// answers may be due to how the request came.
func (e *Error) Refused() bool {
	switch e.Status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusInsufficientStorage:
		return true
	}
	return false
}

// Is lets a refusal of status 404 be store.ErrNotFound on this side too.
func (e *Error) Is(target error) bool {
	return target == store.ErrNotFound && e.Status == http.StatusNotFound
}

func refused(resp *http.Response) error {
	var a errorAnswer
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxJSON))
	if err != nil || json.Unmarshal(data, &a) != nil || a.Error == "" {
		return foreign(resp)
	}
	return &Error{Status: resp.StatusCode, Product: resp.Header.Get("Server"), Message: a.Error, hint: a.Hint}
}

// foreign is an answer of something else than an appliance, whatever its status: a console says 200 to every path.
func foreign(resp *http.Response) error {
	return &Error{Status: resp.StatusCode, Product: resp.Header.Get("Server"), Message: "the answer was " + resp.Status + ", and not an appliance's",
		hint: "make sure that the address is an appliance's, and that no proxy stands between"}
}

// ErrNotRunning says that no daemon answers on the socket.
var ErrNotRunning = errors.New("the registry is not running on this host")

type unreachableError struct {
	err  error
	hint string
}

func (e *unreachableError) Error() string { return e.err.Error() }
func (e *unreachableError) Unwrap() error { return e.err }
func (e *unreachableError) Hint() string  { return e.hint }

// unreachable says in words why there was no answer, and what to do.
func unreachable(base string, err error) error {
	var dial *net.OpError
	isDial := errors.As(err, &dial) && dial.Op == "dial"
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case isDial && dial.Net == "unix" && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED)):
		return &unreachableError{fmt.Errorf("%w: %w", ErrNotRunning, dial), "start it: systemctl start appliance, or systemctl --user start appliance if it was installed without root"}
	case isDial && dial.Net == "unix" && errors.Is(err, fs.ErrPermission):
		return &unreachableError{dial, "run this as root, or as the user that the registry runs as"}
	case isDial:
		return &unreachableError{fmt.Errorf("reach %s: %w", base, dial), "check the name, the port, and that the registry runs"}
	case is[*tls.CertificateVerificationError](err):
		return &unreachableError{err, "trust the registry's CA: " + base + "/ca.crt belongs into /etc/containers/certs.d/" + strings.TrimPrefix(base, "https://") + "/ca.crt, or into a directory named with --dest-cert-dir"}
	case errors.Is(err, context.DeadlineExceeded):
		return &unreachableError{fmt.Errorf("no answer from the daemon: %w", err), "its log says what it is doing: journalctl -u appliance"}
	}
	return fmt.Errorf("speak to the daemon: %w", err)
}
