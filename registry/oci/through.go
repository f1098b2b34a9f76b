package oci

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/store"
)

// locate returns the target that containerd means by ?ns=: the local repository that pulls
// through from that registry. Without ?ns= it returns t. The grants that count are those of
// the returned repository.
func (a *API) locate(r *http.Request, t target) target {
	switch {
	case a.upstream == nil || r.Method != http.MethodGet && r.Method != http.MethodHead,
		t.kind != kindManifest && t.kind != kindBlob && t.kind != kindReferrers,
		!strings.Contains(r.URL.RawQuery, "ns="):
		return t
	}
	ns := r.URL.Query().Get("ns")
	if ns == "" {
		return t
	}
	local, ok := a.upstream.Locate(ns, t.repo)
	if !ok {
		return t
	}
	if there, err := named(t, local); err == nil { // the prefix may make the name too long
		return there
	}
	return t
}

// headThrough answers a HEAD of a manifest that is pulled through without fetching it.
func (a *API) headThrough(w http.ResponseWriter, r *http.Request, t target) error {
	ref := t.tag
	if ref == "" {
		ref = t.digest.String()
	}
	desc, err := a.upstream.Resolve(r.Context(), t.repo, ref)
	if err != nil {
		return explainManifest(a.fromUpstream(r, manifestCodes, err))
	}
	beginManifest(w, r, desc.MediaType, desc.Digest, desc.Size)
	return nil
}

// notAsked is the header Warning of an answer with what is held, since the upstream could not be
// asked (RFC 7234, 5.5.2).
const notAsked = `111 - "the upstream could not be asked: this is what is held"`

type answerKey struct{}

// markable returns a request whose answer MarkUnchecked marks.
func (a *API) markable(w http.ResponseWriter, r *http.Request) *http.Request {
	if a.upstream == nil {
		return r
	}
	return r.WithContext(context.WithValue(r.Context(), answerKey{}, w.Header()))
}

// MarkUnchecked sets the header Warning of the answer to a request, before that is sent: it is what is
// held, since the upstream could not be asked.
func MarkUnchecked(ctx context.Context) {
	if h, ok := ctx.Value(answerKey{}).(http.Header); ok {
		h.Set("Warning", notAsked)
	}
}

// tagsThrough lists the tags that are held and those of the upstream, as store.Tags.List does. What is
// held is the list while the upstream cannot be asked, and a header says so.
func (a *API) tagsThrough(w http.ResponseWriter, r *http.Request, repo, last string, n int) ([]string, bool, error) {
	r = a.markable(w, r)
	held, _, err := a.store.Tags.List(r.Context(), repo, "", -1)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, false, err
	}
	there, err := a.upstream.Tags(r.Context(), repo, len(held) > 0)
	switch {
	case err == nil || errors.Is(err, store.ErrNotFound) && len(held) > 0:
	case r.Context().Err() != nil, len(held) == 0:
		return nil, false, a.fromUpstream(r, repoCodes, err)
	default:
		MarkUnchecked(r.Context())
	}
	all := held
	if err == nil {
		all = slices.Concat(held, there)
	}
	slices.Sort(all)
	all = slices.Compact(all)
	from, found := slices.BinarySearch(all, last)
	if found {
		from++
	}
	all = all[from:]
	if n == 0 || len(all) == 0 {
		return []string{}, false, nil
	}
	if n > 0 && len(all) > n {
		return all[:n], true, nil
	}
	return all, false, nil
}

// referrersThrough adds to the stored referrers those that only the upstream has, with their
// descriptors.
func (a *API) referrersThrough(r *http.Request, t target, artifactType string,
	names []digest.Digest) ([]digest.Digest, map[digest.Digest]ocispec.Descriptor, error) {
	if !a.pulledThrough(t.repo) {
		return names, nil, nil
	}
	list, err := a.upstream.Referrers(r.Context(), t.repo, t.digest)
	if err != nil {
		return nil, nil, a.fromUpstream(r, manifestCodes, err)
	}
	others := map[digest.Digest]ocispec.Descriptor{}
	for _, d := range list {
		if artifactType == "" || d.ArtifactType == artifactType {
			others[d.Digest] = d
		}
	}
	for _, held := range names {
		delete(others, held)
	}
	return slices.AppendSeq(names, maps.Keys(others)), others, nil
}

// reasonOf returns the detail of an upstream's failure: its kind in a word, and what to do about it.
func reasonOf(err error) any {
	var kind interface{ Kind() string }
	if !errors.As(err, &kind) {
		return nil
	}
	return struct {
		Reason string `json:"reason"`
		Hint   string `json:"hint,omitempty"`
	}{kind.Kind(), hint.Of(err)}
}

// fromUpstream explains an error of an upstream. The client gets its text: the user may be able to
// repair an upstream that is down, refuses the login or answers with the page of a proxy. A
// permanent refusal becomes a 4xx, whose message podman shows; a 401 would make the client ask for
// a login to this registry.
func (a *API) fromUpstream(r *http.Request, codes errorCodes, err error) error {
	if err == nil {
		return nil
	}
	var full *store.FullError
	if errors.As(err, &full) {
		a.log.ErrorContext(r.Context(), "what was pulled through could not be kept", "path", r.URL.Path, "err", err)
	}
	if errors.Is(err, store.ErrNotFound) || full != nil {
		return codes.explain(err)
	}
	if r.Context().Err() == nil {
		a.log.WarnContext(r.Context(), "upstream failed", "path", r.URL.Path, "err", err)
	}
	p := &problem{status: http.StatusBadGateway, code: codeUnavailable, message: "upstream: " + err.Error(), detail: reasonOf(err), cause: err}
	var answer interface {
		Refused() (status int, after time.Duration)
	}
	if !errors.As(err, &answer) {
		return p
	}
	status, after := answer.Refused()
	if after > 0 {
		p.header = map[string]string{"Retry-After": strconv.FormatInt(int64((after+time.Second-1)/time.Second), 10)}
	}
	switch status {
	case 0:
	case http.StatusTooManyRequests:
		p.status, p.code = http.StatusTooManyRequests, codeTooMany
	default:
		p.status, p.code = http.StatusForbidden, codeDenied
	}
	return p
}
