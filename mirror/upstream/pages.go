package upstream

import (
	"fmt"
	"net/url"
	"strings"
)

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
