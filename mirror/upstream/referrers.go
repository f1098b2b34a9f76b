package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/internal/webpage"
)

const (
	maxReferrerPages = 100
	maxReferrers     = 4 << 20 // bytes of all pages
)

// Referrers lists the referrers of a manifest by the registry's API or, without it, by the fallback
// tag. A manifest that does not exist has none.
func (c *Client) Referrers(ctx context.Context, repo string, subject digest.Digest) ([]ocispec.Descriptor, error) {
	r, err := c.repository(repo)
	if err != nil {
		return nil, err
	}
	what := "list referrers of " + subject.String()
	if err := subject.Validate(); err != nil {
		return nil, c.failed(r, what, err)
	}
	list, err := c.referrerPages(ctx, r, what, subject)
	if !errors.Is(err, fs.ErrNotExist) && !unsupported(err) && !errors.Is(err, errNotIndex) &&
		!errors.As(err, new(*webpage.Error)) {
		return list, err
	}
	_, body, err := c.Manifest(ctx, repo, strings.Replace(subject.String(), ":", "-", 1))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	list, err = referrersIn(body)
	if err != nil {
		return nil, c.failed(r, what, err)
	}
	return list, nil
}

func (c *Client) referrerPages(ctx context.Context, r name.Repository, what string,
	subject digest.Digest) ([]ocispec.Descriptor, error) {
	var list []ocispec.Descriptor
	left := int64(maxReferrers)
	page := c.url(r, "referrers/"+subject.String())
	for range maxReferrerPages {
		resp, body, err := c.getWhole(ctx, r, what, page, http.Header{"Accept": {ocispec.MediaTypeImageIndex}}, left)
		if err != nil {
			return nil, err
		}
		left -= int64(len(body))
		found, err := referrersIn(body)
		if err != nil {
			return nil, c.failed(r, what, err)
		}
		list = append(list, found...)
		if page, err = nextPage(page, resp.Header.Values("Link")); err != nil {
			return nil, c.failed(r, what, err)
		}
		if page == "" {
			return list, nil
		}
	}
	return nil, c.failed(r, what, errors.New("the pages have no end"))
}

// errNotIndex reports an answer other than a list of referrers, such as a web page.
var errNotIndex = errors.New("the answer is not an index")

// referrersIn returns the valid descriptors of an index.
func referrersIn(body []byte) ([]ocispec.Descriptor, error) {
	var index struct {
		Manifests *[]ocispec.Descriptor `json:"manifests"`
	}
	if err := json.Unmarshal(body, &index); err != nil {
		return nil, fmt.Errorf("%w: %v", errNotIndex, err)
	}
	if index.Manifests == nil {
		return nil, fmt.Errorf("%w: it has no manifests", errNotIndex)
	}
	var list []ocispec.Descriptor
	for _, d := range *index.Manifests {
		if d.Digest.Validate() == nil && d.MediaType != "" && d.Size >= 0 {
			list = append(list, d)
		}
	}
	return list, nil
}

// nextPage returns the address of the page after current, "" if that is the last.
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
		next.Scheme = base.Scheme // behind a proxy that terminates TLS, registries write http
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
