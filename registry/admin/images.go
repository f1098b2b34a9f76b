package admin

import (
	"context"
	"net/http"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// Images describes what the store has, as far as the user of a context may see it. *images.Images is it.
type Images interface {
	Repositories(ctx context.Context, q api.Page) (api.Repositories, error)
	Tags(ctx context.Context, q api.TagsRequest) (api.TagPage, error)
	Describe(ctx context.Context, at api.Place) (api.Image, error)
	Signatures(ctx context.Context, at api.Place) (api.ImageSignatures, error)
	PlanDelete(ctx context.Context, at api.Place) (api.Deletion, error)
	// Delete deletes for the user of a request.
	Delete(r *http.Request, at api.Place) error
}

func (h *Handler) listRepositories(r *http.Request, q api.Page) (api.Repositories, error) {
	return h.images.Repositories(r.Context(), q)
}

func (h *Handler) listTags(r *http.Request, q api.TagsRequest) (api.TagPage, error) {
	return h.images.Tags(r.Context(), q)
}

func (h *Handler) getImage(r *http.Request, q api.Place) (api.Image, error) {
	return h.images.Describe(r.Context(), q)
}

func (h *Handler) getSignatures(r *http.Request, q api.Place) (api.ImageSignatures, error) {
	return h.images.Signatures(r.Context(), q)
}

func (h *Handler) planDelete(r *http.Request, q api.ImageDelete) (api.Deletion, error) {
	return h.images.PlanDelete(r.Context(), api.Place(q))
}

func (h *Handler) deleteImage(r *http.Request, q api.ImageDelete) (api.None, error) {
	if err := h.isDaemon(); err != nil {
		return api.None{}, err
	}
	return api.None{}, h.images.Delete(r, api.Place(q))
}
