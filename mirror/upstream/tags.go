package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

const (
	maxTagPages = 1000
	maxTags     = 32 << 20 // bytes of all pages
)

// Tags lists the tags of a repository.
func (c *Client) Tags(ctx context.Context, repo string) ([]string, error) {
	r, err := c.repository(repo)
	if err != nil {
		return nil, err
	}
	const what = "list tags"
	var all []string
	left, page := int64(maxTags), c.url(r, "tags/list")
	for range maxTagPages {
		resp, body, err := c.getWhole(ctx, r, what, page, http.Header{"Accept": {"application/json"}}, left)
		if err != nil {
			return nil, err
		}
		left -= int64(len(body))
		var answer struct {
			Tags []string `json:"tags"`
		}
		if err := json.Unmarshal(body, &answer); err != nil {
			return nil, c.failed(r, what, fmt.Errorf("the answer is malformed: %w", err))
		}
		all = append(all, answer.Tags...)
		if page, err = nextPage(page, resp.Header.Values("Link")); err != nil {
			return nil, c.failed(r, what, err)
		}
		if page == "" {
			return all, nil
		}
	}
	return nil, c.failed(r, what, errors.New("the pages have no end"))
}

// Tags is Client.Tags.
func (r *Repository) Tags(ctx context.Context) ([]string, error) { return r.client.Tags(ctx, r.name) }
