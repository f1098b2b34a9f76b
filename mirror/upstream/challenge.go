package upstream

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/mirror-appliance/appliance/internal/webpage"
)

// pingTransport watches the ping of a login. Some registries leave /v2/ open and ask for a login
// below it: their later challenge then takes the place of the ping's answer, because
// go-containerregistry reads a challenge there only.
type pingTransport struct {
	inner     http.RoundTripper
	registry  string
	plain     bool
	challenge []string // WWW-Authenticate of a later answer; nil: the ping is sent
	closed    atomic.Bool
	basic     atomic.Bool // the ping asked for Basic, which does not check the credentials
}

func (t *pingTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	ping := req.URL.Path == "/v2/" && (req.URL.Scheme == "http") == t.plain
	if ping && t.challenge != nil {
		t.closed.Store(true)
		return &http.Response{
			StatusCode: http.StatusUnauthorized, Header: http.Header{"Www-Authenticate": t.challenge},
			Body: io.NopCloser(strings.NewReader("")), Request: req,
		}, nil
	}
	resp, err := t.inner.RoundTrip(req)
	if ping && err == nil && resp.StatusCode == http.StatusUnauthorized {
		t.closed.Store(true)
		t.basic.Store(strings.HasPrefix(strings.ToLower(resp.Header.Get("WWW-Authenticate")), "basic"))
	}
	if _, ok := journeyOf(req); err == nil && !ok && webpage.Is(resp) { // a token server, or the ping
		resp.Body.Close()
		return nil, webpage.New(t.registry, t.plain)
	}
	return resp, err
}

// challenged returns a session that answers the challenge of resp, nil if there is none to answer.
// That of another host is not answered: the credentials are the registry's.
func (c *Client) challenged(ctx context.Context, repo name.Repository, s *session,
	resp *http.Response) (*session, error) {
	challenge := resp.Header.Values("WWW-Authenticate")
	if resp.StatusCode != http.StatusUnauthorized || !s.open || len(challenge) == 0 || !c.answered(resp.Request) {
		return nil, nil
	}
	return c.anew(ctx, repo, s, challenge)
}

// anew returns a session in the place of another, made by the first caller of several.
func (c *Client) anew(ctx context.Context, repo name.Repository, s *session, challenge []string) (*session, error) {
	slot := c.sessions.slot(repo.Name())
	if err := c.hold(ctx, slot); err != nil {
		return nil, c.failed(repo, attemptLogin, err)
	}
	defer func() { <-slot.held }()
	if slot.session != nil && slot.session != s {
		return slot.session, nil
	}
	made, err := c.newSession(ctx, repo, challenge)
	if err != nil {
		return nil, err
	}
	slot.session = made
	return made, nil
}

// newSession logs in. challenge takes the place of a ping's, nil sends the ping.
func (c *Client) newSession(ctx context.Context, repo name.Repository, challenge []string) (*session, error) {
	auth, anonymous, err := c.credentials(ctx, repo)
	if err != nil {
		return nil, c.failed(repo, attemptLogin, err)
	}
	login, err := authn.Authorization(ctx, auth)
	if err != nil {
		return nil, c.failed(repo, attemptLogin, err)
	}
	watched := &pingTransport{inner: c.base, registry: c.Registry(), plain: c.plain, challenge: challenge}
	rt, err := transport.NewWithContext(ctx, c.registry, auth, watched, []string{repo.Scope(transport.PullScope)})
	if err != nil {
		return nil, c.requestFailed(repo, anonymous, attemptLogin, err)
	}
	return &session{transport: rt, login: *login, anonymous: anonymous, open: !watched.closed.Load(), basic: watched.basic.Load(), made: c.now()}, nil
}
