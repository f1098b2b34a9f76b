package oci

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/registry/store"
)

const (
	maxReferrers = 500 // in one answer
	// maxReferrersBytes bounds the descriptors in one answer. They repeat the annotations
	// of their manifests, up to 4 MiB each; clients limit the size of an answer, and it
	// must not fill the memory.
	maxReferrersBytes = image.MaxManifestBytes - 1<<10
)

// getReferrers lists the referrers of a manifest. It never answers 404: clients would conclude that
// the registry lacks the API and fall back to tags.
func (a *API) getReferrers(w http.ResponseWriter, r *http.Request, t target) error {
	r = a.markable(w, r)
	query := r.URL.Query()
	// Media types have no spaces: a space was the + of application/spdx+json, not escaped by the
	// client.
	artifactType := strings.ReplaceAll(query.Get("artifactType"), " ", "+")
	names, err := a.store.Manifests.Referrers(r.Context(), t.repo, t.digest, artifactType)
	if err != nil {
		return manifestCodes.explain(fmt.Errorf("list referrers: %w", err))
	}
	names, others, err := a.referrersThrough(r, t, artifactType, names)
	if err != nil {
		return err
	}
	names, n, err := pageOf(names, query)
	if err != nil {
		return err
	}
	page, more, err := a.describe(r.Context(), t.repo, names, others, n)
	if err != nil {
		return manifestCodes.explain(fmt.Errorf("describe referrers: %w", err))
	}
	h := w.Header()
	h.Set("Content-Type", ocispec.MediaTypeImageIndex)
	filter := url.Values{}
	if artifactType != "" {
		h.Set("OCI-Filters-Applied", "artifactType")
		filter.Set("artifactType", artifactType)
	}
	if more {
		setNext(h, t, n, page[len(page)-1].Digest.String(), filter)
	}
	return answerJSON(w, r, ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageIndex,
		Manifests: page,
	})
}

// pageOf returns the digests after "last" and the page size, "n". The order by digest makes a page
// begin correctly even if "last" has been deleted.
func pageOf(names []digest.Digest, query url.Values) (rest []digest.Digest, n int, err error) {
	n = maxReferrers
	if s := query.Get("n"); s != "" {
		asked, ok := parseDecimal(s)
		if !ok || asked == 0 {
			return nil, 0, errNumber(s)
		}
		n = int(min(asked, maxReferrers))
	}
	slices.Sort(names)
	i, found := slices.BinarySearch(names, digest.Digest(query.Get("last")))
	if found {
		i++
	}
	return names[i:], n, nil
}

// describe returns the descriptors of the first n, or of as many as fit into an answer, but at
// least one. The descriptors of others come from the upstream.
func (a *API) describe(ctx context.Context, repo string, names []digest.Digest,
	others map[digest.Digest]ocispec.Descriptor, n int) (page []ocispec.Descriptor, more bool, err error) {
	page = []ocispec.Descriptor{} // never null in JSON
	size := 0
	for _, d := range names {
		if len(page) == n {
			return page, true, nil
		}
		desc, ok := others[d]
		if !ok {
			m, err := a.store.Manifests.Get(ctx, repo, d)
			if errors.Is(err, store.ErrNotFound) {
				continue // deleted meanwhile
			}
			if err != nil {
				return nil, false, err
			}
			desc = m.Descriptor()
		}
		text, err := json.Marshal(desc)
		if err != nil {
			return nil, false, err
		}
		if size += len(text) + 1; size > maxReferrersBytes && len(page) > 0 {
			return page, true, nil
		}
		page = append(page, desc)
	}
	return page, false, nil
}
