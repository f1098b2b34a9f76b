package upstream

import (
	"context"
	"errors"
	"io"
	"net/http"
)

// maxRenewals bounds how often the registry is asked for another address after one was refused.
const maxRenewals = 2

// follow sends a GET or HEAD and follows its redirects. A redirected request that fails is sent to
// the registry again: the address that it gave, which is often signed and valid for a short time,
// may have expired. Each attempt is a clone of req: authentication adds credentials to what it
// sends, and net/http would take them along to another port of the same host.
func (c *Client) follow(ctx context.Context, client *http.Client, req *http.Request) (*http.Response, error) {
	for failures := 1; ; failures++ {
		resp, err := client.Do(begun(req.Clone(ctx)))
		if !redirected(resp, err) || failures >= c.retry.attempts || ctx.Err() != nil {
			return resp, err
		}
		again, after, reason := verdict(resp, err)
		if refused := req.Method == http.MethodGet && expired(resp); refused && failures <= maxRenewals {
			again, reason = true, "the address that the registry leads to was refused, "+reason
		}
		if !again || c.retry.serving && tooLong(resp, err, after) {
			return resp, err
		}
		if resp != nil {
			discard(resp)
		}
		if err := c.retry.wait(ctx, failures, after, reason); err != nil {
			return nil, err
		}
	}
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
