package oci

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxReferrers bounds one answer, which must stay an index that clients accept (4 MiB) also when
// every descriptor carries annotations.
const maxReferrers = 500

// getReferrers lists what refers to a manifest. There is no 404: a client would take it to mean that
// the registry does not have the API, and fall back to tags.
func (a *API) getReferrers(w http.ResponseWriter, r *http.Request, t target) error {
	query := r.URL.Query()
	artifactType := query.Get("artifactType")
	list, err := a.store.Referrers(r.Context(), t.repo, t.digest, artifactType)
	if err != nil {
		return aboutManifest.explain(fmt.Errorf("list referrers: %w", err))
	}
	page, next, err := pageOf(list, query)
	if err != nil {
		return err
	}
	body, err := json.Marshal(ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageIndex,
		Manifests: page,
	})
	if err != nil {
		return fmt.Errorf("marshal referrers: %w", err)
	}
	h := w.Header()
	setVersion(h)
	h.Set("Content-Type", ocispec.MediaTypeImageIndex)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if artifactType != "" {
		h.Set("OCI-Filters-Applied", "artifactType")
	}
	if next != nil {
		h.Set("Link", fmt.Sprintf(`<%s?%s>; rel="next"`, t.path(), next.Encode()))
	}
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodGet {
		w.Write(body) // an error here is the client's going away
	}
	return nil
}

// pageOf is the part of the list after the digest "last", at most "n" long, and the query for the next
// one, nil if there is none. The order is that of digests, so that a page begins in the right place
// also if what the last one ended with has been deleted meanwhile.
func pageOf(list []ocispec.Descriptor, query url.Values) ([]ocispec.Descriptor, url.Values, error) {
	n := maxReferrers
	if s := query.Get("n"); s != "" {
		asked, ok := parseDecimal(s)
		if !ok || asked == 0 {
			return nil, nil, &problem{status: http.StatusBadRequest, code: codeSizeInvalid, message: fmt.Sprintf("n=%.100q is no number of referrers", s)}
		}
		n = int(min(asked, maxReferrers))
	}
	byDigest := func(d, e ocispec.Descriptor) int { return strings.Compare(string(d.Digest), string(e.Digest)) }
	slices.SortFunc(list, byDigest)
	if last := query.Get("last"); last != "" {
		i := slices.IndexFunc(list, func(d ocispec.Descriptor) bool { return string(d.Digest) > last })
		if i < 0 {
			i = len(list)
		}
		list = list[i:]
	}
	if len(list) <= n {
		return append([]ocispec.Descriptor{}, list...), nil, nil // never null in JSON
	}
	next := url.Values{"n": {strconv.Itoa(n)}, "last": {string(list[n-1].Digest)}}
	if artifactType := query.Get("artifactType"); artifactType != "" {
		next.Set("artifactType", artifactType)
	}
	return list[:n], next, nil
}
