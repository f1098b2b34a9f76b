package oci

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/mirror-appliance/appliance/registry/auth"
)

const (
	maxPage     = 10000 // entries in a page of the catalog, or of tags with a page size
	catalogPage = 100   // entries in a page of the catalog without a page size
)

// getBase answers /v2/, where clients recognise a registry and check their login.
func (a *API) getBase(w http.ResponseWriter, r *http.Request, _ target) error {
	return answerJSON(w, r, struct{}{})
}

// getCatalog lists the repositories that the user may see.
func (a *API) getCatalog(w http.ResponseWriter, r *http.Request, t target) error {
	query := r.URL.Query()
	n, err := pageSize(query, catalogPage)
	if err != nil {
		return err
	}
	names, more, err := a.repositories(r.Context(), query.Get("last"), n)
	if err != nil {
		return repoCodes.explain(fmt.Errorf("list repositories: %w", err))
	}
	if more {
		setNext(w.Header(), t, n, names[len(names)-1], nil)
	}
	return answerJSON(w, r, map[string]any{"repositories": names})
}

// repositories lists at most n repositories after last.
func (a *API) repositories(ctx context.Context, last string, n int) (names []string, more bool, err error) {
	if id, ok := auth.IdentityFrom(ctx); ok && id.Restricted() {
		return a.store.FindAmong(ctx, id.Seen(), "", last, n)
	}
	return a.store.Repositories(ctx, last, n)
}

// getTags lists the tags of a repository: all of them unless the client asks for pages.
func (a *API) getTags(w http.ResponseWriter, r *http.Request, t target) error {
	query := r.URL.Query()
	n, err := pageSize(query, -1)
	if err != nil {
		return err
	}
	list := a.store.Tags.List
	if a.pulledThrough(t.repo) {
		list = func(ctx context.Context, repo, last string, n int) ([]string, bool, error) {
			return a.tagsThrough(w, r, repo, last, n)
		}
	}
	tags, more, err := list(r.Context(), t.repo, query.Get("last"), n)
	if err != nil {
		return repoCodes.explain(fmt.Errorf("list tags: %w", err))
	}
	if more {
		setNext(w.Header(), t, n, tags[len(tags)-1], nil)
	}
	return answerJSON(w, r, map[string]any{"name": t.repo, "tags": tags})
}

// pageSize returns the page size of a request, and unasked if it has none. Larger ones become
// maxPage.
func pageSize(query url.Values, unasked int) (int, error) {
	asked := query.Get("n")
	if asked == "" {
		return unasked, nil
	}
	n, ok := parseAtMost(asked, maxPage)
	if !ok {
		return 0, errNumber(asked)
	}
	return int(n), nil
}

// setNext sets the Link to the page after an entry: t with the parameters in more.
func setNext(h http.Header, t target, n int, last string, more url.Values) {
	next := url.Values{"n": {strconv.Itoa(n)}, "last": {last}}
	for name, values := range more {
		next[name] = values
	}
	h.Set("Link", fmt.Sprintf(`<%s?%s>; rel="next"`, t.path(), next.Encode()))
}

// answerJSON answers with v. The content type is JSON's unless it is set.
func answerJSON(w http.ResponseWriter, r *http.Request, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("marshal the answer: %w", err)
	}
	h := w.Header()
	setVersion(h)
	if h.Get("Content-Type") == "" {
		h.Set("Content-Type", "application/json")
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodGet {
		_, _ = w.Write(body) // fails only if the client went away
	}
	return nil
}
