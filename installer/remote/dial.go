package remote

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// patience is how long a host may take to answer, without the time for which a user is asked.
const patience = 30 * time.Second

// firstAnswer is how long a host may take to run the first command; tests make it shorter.
var firstAnswer = patience

// giveUp is how long a host may take to end a session that was closed here.
const giveUp = time.Second

// host is a connection to a host, over the connections to those in between.
type host struct {
	*ssh.Client
	name    string // as messages have it
	user    string // of the login
	to      *Target
	console Console
	between []*ssh.Client
	keys    *keys
}

// dial connects to a target.
func dial(ctx context.Context, to *Target, c Console) (*host, error) {
	hops, err := to.route()
	if err != nil {
		return nil, err
	}
	h := &host{to: to, console: c, name: hops[len(hops)-1].alias, user: hops[len(hops)-1].user, keys: &keys{to: to, console: c, read: map[string]ssh.Signer{}}}
	for i, hop := range hops {
		client, err := h.next(ctx, hop)
		if err != nil {
			if i < len(hops)-1 {
				err = fmt.Errorf("jump host %s: %w", hop.alias, err)
			}
			h.Close()
			return nil, err
		}
		if i < len(hops)-1 {
			h.between = append(h.between, client)
			continue
		}
		h.Client = client
	}
	go h.keepAlive()
	return h, nil
}

// Close ends the connection, and those under it.
func (h *host) Close() {
	if h.Client != nil {
		_ = h.Client.Close()
	}
	for i := len(h.between) - 1; i >= 0; i-- {
		_ = h.between[i].Close()
	}
	h.keys.Close()
}

// next connects to the next host on the way.
func (h *host) next(ctx context.Context, hop hop) (*ssh.Client, error) {
	known, err := h.to.ssh.known(hop)
	if err != nil {
		return nil, err
	}
	signers, err := h.keys.signers(ctx, hop)
	if err != nil {
		return nil, err
	}
	conn, err := h.dialTCP(ctx, hop.address)
	if err != nil {
		return nil, hint.New(fmt.Errorf("reach %s: %w", hop.address, err), "check the name, and that sshd answers there: ssh "+hop.user+"@"+hop.alias)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	check := known.check(ctx, h.to, hop, h.console)
	var refused error // by us; the library adds words of its own
	watch := time.AfterFunc(patience, func() { _ = conn.Close() })
	defer watch.Stop()
	client, channels, requests, err := ssh.NewClientConn(conn, hop.known, &ssh.ClientConfig{
		User:              hop.user,
		Auth:              []ssh.AuthMethod{ssh.PublicKeys(signers...)},
		HostKeyAlgorithms: known.algorithms(hop.known),
		HostKeyCallback: func(name string, address net.Addr, key ssh.PublicKey) error {
			watch.Stop() // from here on, a user may be asked
			refused = check(name, address, key)
			return refused
		},
	})
	if err == nil {
		return ssh.NewClient(client, channels, requests), nil
	}
	_ = conn.Close()
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case refused != nil:
		return nil, refused
	case strings.Contains(err.Error(), "unable to authenticate"): // the library has no type for it
		return nil, hint.New(fmt.Errorf("%s@%s takes none of the keys: %s", hop.user, hop.alias, fingerprints(signers)),
			"name the key with --ssh-key and the user with --targetUsername; the host takes keys that stand in ~/.ssh/authorized_keys there: ssh-copy-id -i KEY "+hop.user+"@"+hop.alias)
	}
	err = fmt.Errorf("log in to %s: %w", hop.address, err)
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || strings.HasSuffix(err.Error(), "EOF") {
		return nil, hint.New(err, "the host has ended the login: the account may have expired (there: chage -l "+hop.user+"), or sshd does not let it in "+
			"(there: journalctl -u sshd); see what ssh says: ssh "+hop.user+"@"+hop.alias)
	}
	return nil, err
}

func fingerprints(signers []ssh.Signer) string {
	var all []string
	for _, s := range signers {
		all = append(all, s.PublicKey().Type()+" "+ssh.FingerprintSHA256(s.PublicKey()))
	}
	return strings.Join(all, ", ")
}

func (h *host) dialTCP(ctx context.Context, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if n := len(h.between); n > 0 {
		return h.between[n-1].DialContext(ctx, "tcp", address)
	}
	return (&net.Dialer{}).DialContext(ctx, "tcp", address)
}

// keepAlive closes a connection whose other end does not answer any more.
func (h *host) keepAlive() {
	for {
		time.Sleep(alive)
		watch := time.AfterFunc(silence, func() { _ = h.Client.Close() })
		_, _, err := h.SendRequest("keepalive@openssh.com", true, nil)
		if watch.Stop(); err != nil {
			return
		}
	}
}

// closeWith closes a session when ctx ends, and the connection if the host does not end the session: the
// shell of a user may wait for what never comes. The caller calls release at the end.
func (h *host) closeWith(ctx context.Context, session *ssh.Session) (release func()) {
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = session.Close()
		select {
		case <-ended:
		case <-time.After(giveUp):
			_ = h.Client.Close()
		}
	})
	return func() { stop(); close(ended) }
}

// output runs a line of shell on the host, in which no single quote stands, and returns what it
// prints. The login shell of the user need not be a POSIX one.
func (h *host) output(ctx context.Context, script string) (string, error) {
	session, err := h.NewSession()
	if err != nil {
		return "", err
	}
	defer session.Close()
	defer h.closeWith(ctx, session)()
	var out, errs bytes.Buffer
	session.Stdout, session.Stderr = &out, &errs
	if err := session.Run(shell(script)); err != nil {
		return out.String(), h.failed(ctx, err, cmp.Or(strings.TrimSpace(errs.String()), out.String())) // nologin prints its reason
	}
	return out.String(), nil
}

func shell(script string) string { return "exec sh -c '" + script + "'" }

// failed returns the error of a command that the host has run.
func (h *host) failed(ctx context.Context, err error, said string) error {
	var exit *ssh.ExitError
	switch said = strings.TrimSpace(said); {
	case ctx.Err() != nil:
		return ctx.Err()
	case !errors.As(err, &exit):
		return lost(h.name, err)
	default:
		return fmt.Errorf("%s: %s", h.name, cmp.Or(said, err.Error()))
	}
}
