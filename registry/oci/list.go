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
	maxPage     = 10000 // entries in one answer of a catalog, or of a list of tags that says how many it wants
	catalogPage = 100   // of a catalog that does not
)

// getBase answers /v2/, where clients find out that this is a registry and whether their login is right.
func (a *API) getBase(w http.ResponseWriter, r *http.Request, _ target) error {
	return answerJSON(w, r, struct{}{})
}

// getCatalog lists the repositories that the user may know of.
func (a *API) getCatalog(w http.ResponseWriter, r *http.Request, t target) error {
	query := r.URL.Query()
	n, err := pageSize(query, catalogPage)
	if err != nil {
		return err
	}
	names, more, err := a.repositories(r.Context(), query.Get("last"), n)
	if err != nil {
		return aboutRepo.explain(fmt.Errorf("list repositories: %w", err))
	}
	if more {
		setNext(w.Header(), t, n, names[len(names)-1], nil)
	}
	return answerJSON(w, r, struct {
		Repositories []string `json:"repositories"`
	}{names})
}

// repositories lists at most n after last.
func (a *API) repositories(ctx context.Context, last string, n int) (names []string, more bool, err error) {
	if id, ok := auth.IdentityFrom(ctx); ok && id.Restricted() {
		return a.visible(ctx, last, n, id.Sees)
	}
	return a.store.Repositories(ctx, last, n)
}

// visible is repositories for a user who may know of some only. It looks one further than it lists, so that a Link
// to a next page is there exactly if that page will not be empty.
func (a *API) visible(ctx context.Context, last string, n int, may func(string) bool) (names []string, more bool, err error) {
	names = []string{}
	for more = n > 0; more; {
		var found []string
		if found, more, err = a.store.Repositories(ctx, last, a.scan); err != nil {
			return nil, false, err
		}
		for _, name := range found {
			if !may(name) {
				continue
			}
			if len(names) == n {
				return names, true, nil
			}
			names = append(names, name)
		}
		if len(found) > 0 {
			last = found[len(found)-1]
		}
	}
	return names, false, nil
}

// getTags lists the tags of a repository: all of them, unless the client asks for pages.
func (a *API) getTags(w http.ResponseWriter, r *http.Request, t target) error {
	query := r.URL.Query()
	n, err := pageSize(query, -1)
	if err != nil {
		return err
	}
	tags, more, err := a.store.Tags(r.Context(), t.repo, query.Get("last"), n)
	if err != nil {
		return aboutRepo.explain(fmt.Errorf("list tags: %w", err))
	}
	if more {
		setNext(w.Header(), t, n, tags[len(tags)-1], nil)
	}
	return answerJSON(w, r, struct {
		Name string   `json:"name"`
		Tags []string `json:"tags"`
	}{t.repo, tags})
}

// pageSize is how many entries a client asks for, and unasked if it does not say. Of more than maxPage it gets
// maxPage, with a Link to the next.
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

// setNext tells where the next page is, after an entry: t again, with the parameters in more.
func setNext(h http.Header, t target, n int, last string, more url.Values) {
	next := url.Values{"n": {strconv.Itoa(n)}, "last": {last}}
	for name, values := range more {
		next[name] = values
	}
	h.Set("Link", fmt.Sprintf(`<%s?%s>; rel="next"`, t.path(), next.Encode()))
}

// answerJSON answers with v. Its header may say what media type it is.
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
		_, _ = w.Write(body) // an error is the client's going away
	}
	return nil
}
