package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// RegisterFollower tells the daemon of an appliance that follows it, and returns where that reads on.
func (c *Client) RegisterFollower(ctx context.Context, f api.NewFollower) (position string, err error) {
	r, err := call(ctx, c, api.RegisterFollower, f)
	return r.Position, err
}

// Followers lists the appliances that follow the daemon's.
func (c *Client) Followers(ctx context.Context) ([]api.Follower, error) {
	return call(ctx, c, api.ListFollowers, api.None{})
}

// RemoveFollower forgets a follower.
func (c *Client) RemoveFollower(ctx context.Context, id string) error {
	_, err := call(ctx, c, api.RemoveFollower, api.None{}, id)
	return err
}

// Feed returns what follows a position of the feed, and waits for a change while there is none. A *Refused of status
// 410 says that the follower has to register again.
func (c *Client) Feed(ctx context.Context, follower, since string, limit int, wait time.Duration) (page api.Changes, err error) {
	query := url.Values{api.ForFollower.Name: {follower}, api.SincePoint.Name: {since},
		api.ChangesLimit.Name: {strconv.Itoa(limit)}, api.ChangesWait.Name: {strconv.Itoa(int(wait.Seconds()))}}
	r, err := c.request(ctx, http.MethodGet, api.GetChanges.Path+"?"+query.Encode(), nil)
	if err == nil {
		err = c.do(c.http, r, &page)
	}
	return page, err
}
