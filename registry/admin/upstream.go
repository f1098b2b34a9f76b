package admin

import (
	"context"
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// Link is the registry's way to other hosts.
type Link interface {
	Offline() bool
	// SetOffline cuts the link, or restores it, also for later starts.
	SetOffline(ctx context.Context, cut bool) error
}

// Upstreams are the registries that are pulled through.
type Upstreams interface {
	List() []api.Upstream
	Test(ctx context.Context, q api.UpstreamTest) ([]api.UpstreamTested, error)
	// Reload reads them again from the configuration.
	Reload(ctx context.Context) error
}

func (h *Handler) getOffline(*http.Request, api.None) (api.Offline, error) {
	return api.Offline{Offline: h.link.Offline()}, nil
}

func (h *Handler) setOffline(r *http.Request, q api.Offline) (api.Offline, error) {
	if err := h.link.SetOffline(r.Context(), q.Offline); err != nil {
		return api.Offline{}, err
	}
	h.audit(r, "link set", "offline", q.Offline)
	return q, nil
}

func (h *Handler) listUpstreams(*http.Request, api.None) ([]api.Upstream, error) {
	if err := h.isServing(); err != nil {
		return nil, err
	}
	return h.upstreams.List(), nil
}

// NoUpstream is the error of a test of what no upstream in force has.
func NoUpstream(problem, next string) error { return badRequest(problem, next) }

func (h *Handler) testUpstreams(r *http.Request, q api.UpstreamTest) ([]api.UpstreamTested, error) {
	if err := h.isServing(); err != nil {
		return nil, err
	}
	return h.upstreams.Test(r.Context(), q)
}

func (h *Handler) reloadUpstreams(r *http.Request, _ api.None) (api.None, error) {
	if err := h.isServing(); err != nil {
		return api.None{}, err
	}
	err := h.upstreams.Reload(r.Context())
	if err == nil {
		h.audit(r, "upstreams reloaded")
	}
	return api.None{}, err
}

func (h *Handler) isServing() error {
	if h.upstreams == nil {
		return conflict("the registry is not running", "systemctl start appliance")
	}
	return nil
}

// Pins are the images that are kept from eviction.
type Pins interface {
	List(ctx context.Context) ([]api.PinnedImage, error)
	Remove(ctx context.Context, q api.PinRequest) (api.PinResult, error)
}

func (h *Handler) listPins(r *http.Request, _ api.None) ([]api.PinnedImage, error) {
	return h.pins.List(r.Context())
}

func (h *Handler) unpin(r *http.Request, q api.PinRequest) (api.PinResult, error) {
	result, err := h.pins.Remove(r.Context(), q)
	if err == nil {
		h.audit(r, "unpinned", "images", strings.Join(q.Images, ","))
	}
	return result, err
}

// Misses are what clients asked for and did not get.
type Misses interface {
	List(ctx context.Context, held func(ctx context.Context, repository, reference string) bool) ([]api.Miss, error)
	Clear(ctx context.Context) error
}

func (h *Handler) missedImageSet(r *http.Request, _ api.None) (api.ImageSetFile, error) {
	if err := h.isDaemon(); err != nil {
		return api.ImageSetFile{}, err
	}
	all, err := h.misses.List(r.Context(), h.held)
	if err != nil {
		return api.ImageSetFile{}, err
	}
	text, err := h.mirrors.Missed(r.Context(), all)
	return api.ImageSetFile{Text: text}, err
}

func (h *Handler) listMisses(r *http.Request, _ api.None) ([]api.Miss, error) {
	return h.misses.List(r.Context(), h.held)
}

// held reports whether the store has a manifest.
func (h *Handler) held(ctx context.Context, repository, reference string) bool {
	if d, err := digest.Parse(reference); err == nil {
		_, err = h.store.Manifests.Get(ctx, repository, d)
		return err == nil
	}
	_, err := h.store.Manifests.ByTag(ctx, repository, reference)
	return err == nil
}

func (h *Handler) clearMisses(r *http.Request, _ api.None) (api.None, error) {
	if err := h.misses.Clear(r.Context()); err != nil {
		return api.None{}, err
	}
	h.audit(r, "misses cleared")
	return api.None{}, nil
}
