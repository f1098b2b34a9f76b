package upstream

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
)

// maxSessions bounds the cached sessions: clients of a pull-through registry choose the names.
const maxSessions = 1024

// session is an authenticated transport for one repository. It renews its token.
type session struct {
	transport http.RoundTripper
	login     authn.AuthConfig // the credentials
	anonymous bool
	open      bool // the ping asked for no login
	basic     bool // it asked for Basic
	made      time.Time
}

// freshLogin is how long after a login a refusal is believed. Later its token may have expired:
// most registries then answer 401 and are asked for another, some answer 403.
const freshLogin = 5 * time.Second

type sessions struct {
	mu    sync.Mutex // guards slots
	slots map[string]*sessionSlot
}

// sessionSlot is held while its session is made, so that concurrent requests for a repository cause
// one ping. It is a channel and not a mutex, because waiting ends with a context.
type sessionSlot struct {
	held    chan struct{}
	session *session // used by the holder only
}

func (s *sessions) slot(key string) *sessionSlot {
	s.mu.Lock()
	defer s.mu.Unlock()
	if slot, ok := s.slots[key]; ok {
		return slot
	}
	if s.slots == nil || len(s.slots) >= maxSessions {
		s.slots = make(map[string]*sessionSlot)
	}
	slot := &sessionSlot{held: make(chan struct{}, 1)}
	s.slots[key] = slot
	return slot
}

// drop removes a session whose credentials were refused: they may have been renewed.
func (s *sessions) drop(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.slots, key)
}

func (c *Client) session(ctx context.Context, repo name.Repository) (*session, error) {
	slot := c.sessions.slot(repo.Name())
	if err := c.hold(ctx, slot); err != nil {
		return nil, c.failed(repo, attemptLogin, err)
	}
	defer func() { <-slot.held }()
	if slot.session != nil {
		return slot.session, nil
	}
	made, err := c.newSession(ctx, repo, nil)
	if err != nil {
		return nil, err
	}
	slot.session = made
	return made, nil
}

// Login makes a connection, and logs in for a repository or for those below it, which need not exist.
// "" is any repository. It reports whether there were no credentials, and so no login.
func (c *Client) Login(ctx context.Context, repo string) (anonymous bool, err error) {
	if repo == "" {
		repo = "library/any"
	}
	r, err := c.repository(repo)
	if err != nil {
		return false, err
	}
	s, err := c.session(ctx, r)
	if err != nil {
		return false, err
	}
	if !s.basic || s.anonymous {
		return s.anonymous, nil
	}
	resp, err := c.get(ctx, http.MethodGet, r, attemptLogin, c.root(), nil, http.StatusOK)
	if err == nil {
		resp.Body.Close()
	}
	return false, err
}

// credentials returns those for a repository; anonymous: there are none.
func (c *Client) credentials(ctx context.Context,
	repo name.Repository) (auth authn.Authenticator, anonymous bool, err error) {
	auth, err = authn.Resolve(ctx, c.keychain, repo)
	return auth, auth == authn.Anonymous, err
}

// hold waits for a slot.
func (c *Client) hold(ctx context.Context, slot *sessionSlot) error {
	select {
	case slot.held <- struct{}{}:
		return nil
	default:
	}
	held := false
	err := c.retry.idle(ctx, func(ctx context.Context) error {
		select {
		case slot.held <- struct{}{}:
			held = true
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	if err != nil && held {
		<-slot.held
	}
	return err
}

// get sends a request and returns the answer if its status is one of want. what is the attempt in
// errors.
func (c *Client) get(ctx context.Context, method string, repo name.Repository, what, url string,
	header http.Header, want ...int) (*http.Response, error) {
	s, err := c.session(ctx, repo)
	if err != nil {
		return nil, err
	}
	resp, s, err := c.exchange(ctx, s, method, repo, what, url, header)
	if c.refusedLogin(resp, err) && (c.renewed(ctx, repo, s) || !s.anonymous && c.now().Sub(s.made) > freshLogin) {
		if resp != nil {
			discard(resp)
		}
		if s, err = c.anew(ctx, repo, s, nil); err != nil {
			return nil, err
		}
		resp, s, err = c.exchange(ctx, s, method, repo, what, url, header)
	}
	if err != nil {
		return nil, err
	}
	if slices.Contains(want, resp.StatusCode) {
		return resp, nil
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusUnauthorized {
		c.sessions.drop(repo.Name())
	}
	return nil, c.refused(repo, s.anonymous, what, resp)
}

// exchange sends a request in a session, and again in the one that it returns if the registry asks
// for a login only now.
func (c *Client) exchange(ctx context.Context, s *session, method string, repo name.Repository,
	what, url string, header http.Header) (*http.Response, *session, error) {
	resp, err := c.send(ctx, s, method, repo, what, url, header)
	if err != nil {
		return nil, s, err
	}
	again, err := c.challenged(ctx, repo, s, resp)
	if again == nil && err == nil {
		return resp, s, nil
	}
	resp.Body.Close()
	if err != nil {
		return nil, s, err
	}
	resp, err = c.send(ctx, again, method, repo, what, url, header)
	return resp, again, err
}

// refusedLogin reports whether the registry or its token server refused a login or its right.
func (c *Client) refusedLogin(resp *http.Response, err error) bool {
	if err != nil {
		var e *readError
		return errors.As(err, &e) && e.Attempt == attemptLogin &&
			(e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden)
	}
	return expired(resp) && c.answered(resp.Request)
}

// renewed reports whether the credentials are others than those of a session: a login that ends
// after hours, as that of a cloud's registry does, is renewed in its file meanwhile.
func (c *Client) renewed(ctx context.Context, repo name.Repository, s *session) bool {
	auth, _, err := c.credentials(ctx, repo)
	if err != nil {
		return false
	}
	login, err := authn.Authorization(ctx, auth)
	return err == nil && *login != s.login
}

func (c *Client) send(ctx context.Context, s *session, method string, repo name.Repository, what,
	url string, header http.Header) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return nil, c.failed(repo, what, err)
	}
	for key, values := range header {
		req.Header[key] = values
	}
	resp, err := c.follow(ctx, s.transport, req)
	if err != nil {
		return nil, c.requestFailed(repo, s.anonymous, what, err)
	}
	return resp, nil
}

func (c *Client) url(repo name.Repository, path string) string {
	return c.root() + repo.RepositoryStr() + "/" + path
}

func (c *Client) root() string {
	scheme := "https"
	if c.plain {
		scheme = "http"
	}
	return scheme + "://" + c.registry.RegistryStr() + "/v2/"
}
