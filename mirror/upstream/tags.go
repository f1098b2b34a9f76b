package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
)

const (
	maxTagsPage = 16 << 20
	maxTagPages = 10000
)

// Tags lists a repository's tags in the registry's order.
// errors.Is(err, fs.ErrNotExist) when the registry has no such repository.
func (c *Client) Tags(ctx context.Context, repo string) ([]string, error) {
	r, err := c.repository(repo)
	if err != nil {
		return nil, err
	}
	const what = "list tags"
	var tags []string
	seen := make(map[string]bool)
	for page := c.url(r, "tags/list?n=1000"); page != ""; {
		if seen[page] || len(seen) >= maxTagPages {
			return nil, c.failed(r, what, errors.New("the pages have no end"))
		}
		seen[page] = true
		resp, body, err := c.getWhole(ctx, r, what, page, nil, maxTagsPage)
		if err != nil {
			return nil, err
		}
		var list struct {
			Tags []string `json:"tags"`
		}
		if err := json.Unmarshal(body, &list); err != nil {
			return nil, c.failed(r, what, fmt.Errorf("the answer is no list of tags: %w", err))
		}
		tags = append(tags, list.Tags...)
		if page, err = nextPage(page, resp.Header.Values("Link")); err != nil {
			return nil, c.failed(r, what, err)
		}
	}
	return tags, nil
}

// nextPage finds the address of the page after current, "" if that is the last.
func nextPage(current string, links []string) (string, error) {
	for link := range strings.SplitSeq(strings.Join(links, ","), ",") {
		target, params, ok := strings.Cut(link, ";")
		if !ok || !isNext(params) {
			continue
		}
		base, err := url.Parse(current)
		if err != nil {
			return "", err
		}
		next, err := base.Parse(strings.Trim(strings.TrimSpace(target), "<>"))
		if err != nil {
			return "", fmt.Errorf("the link to the next page: %w", err)
		}
		if next.Host != base.Host {
			return "", fmt.Errorf("the link to the next page leads to another host, %s", next.Host)
		}
		next.Scheme = base.Scheme // registries behind a proxy that ends TLS know no better than http
		return next.String(), nil
	}
	return "", nil
}

func isNext(params string) bool {
	for param := range strings.SplitSeq(params, ";") {
		key, value, _ := strings.Cut(strings.TrimSpace(param), "=")
		if strings.EqualFold(key, "rel") && strings.Trim(value, `"`) == "next" {
			return true
		}
	}
	return false
}
