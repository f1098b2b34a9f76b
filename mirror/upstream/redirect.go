package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/mirror-appliance/appliance/internal/busy"
)

// maxRenewals bounds how often the registry is asked for another address after one was refused that
// was used at once. The others have expired.
const (
	maxRenewals = 2
	atOnce      = 500 * time.Millisecond
)

// maxRedirects is that of net/http.
const maxRedirects = 10

// pursuit is a request that is sent to the registry again when the target of its redirect fails.
type pursuit struct {
	*Client
	http     http.Client
	given    time.Time     // when the registry gave the address
	failures int           // without those below
	refusals int           // in a row, of addresses that were used at once
	rested   time.Duration // as busy targets asked
}

// follow sends a GET or HEAD and follows its redirects. A redirected request that fails is sent to
// the registry again: the address that it gave, which is often signed and valid for a short time,
// may have expired. Each attempt is a clone of req: authentication adds credentials to what it
// sends, and net/http would take them along to another port of the same host.
func (c *Client) follow(ctx context.Context, over http.RoundTripper, req *http.Request) (*http.Response, error) {
	p := &pursuit{Client: c}
	p.http = http.Client{Transport: over, CheckRedirect: p.redirect} // follows without the credentials
	ctx = busy.WithTurn(ctx)
	for {
		resp, err := p.http.Do(begun(req.Clone(ctx)))
		if errors.Is(err, busy.ErrWaited) {
			continue
		}
		if !redirected(resp, err) || ctx.Err() != nil {
			return resp, err
		}
		again, after, reason := p.judge(req, resp, err)
		if !again {
			return resp, err
		}
		if resp != nil {
			discard(resp)
		}
		if err := c.retry.wait(ctx, max(p.failures, 1), after, reason); err != nil {
			return nil, err
		}
	}
}

func (p *pursuit) redirect(_ *http.Request, via []*http.Request) error {
	if len(via) >= maxRedirects {
		return fmt.Errorf("it redirects more than %d times", maxRedirects)
	}
	p.given = p.now()
	return nil
}

// judge reports whether the registry is asked again, and the wait that the target asks for.
func (p *pursuit) judge(req *http.Request, resp *http.Response, err error) (again bool, after time.Duration, reason string) {
	again, after, reason = verdict(resp, err)
	switch {
	case p.retry.serving && tooLong(resp, err, after):
		return false, after, reason
	case again && !p.retry.serving && after > 0 && busy.Busy(resp) && p.rested+after <= busy.Patience:
		p.rested += after // it says that it can do it later
		return true, after, reason
	case req.Method == http.MethodGet && expired(resp):
		reason = "the address that the registry leads to was refused, " + statusText(resp.StatusCode)
		if p.now().Sub(p.given) < atOnce {
			p.refusals++
		}
		again = p.refusals <= maxRenewals
	default:
		p.refusals = 0
	}
	p.failures++
	return again && p.failures < p.retry.attempts, after, reason
}

// redirected reports whether an answer, or the failure to get one, is of a redirect's target.
func redirected(resp *http.Response, err error) bool {
	if err != nil {
		var conn *connError
		return errors.As(err, &conn) && conn.redirected
	}
	return resp.Request.Response != nil
}

// expired reports whether an answer may be that to a signed address that has expired.
func expired(resp *http.Response) bool {
	return resp != nil && (resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden)
}

// discard reads a little of an answer, so that its connection can be reused, and closes it.
func discard(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, maxDrain)
	resp.Body.Close()
}
