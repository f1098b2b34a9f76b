package admin

import (
	"net/http"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/store"
)

// inventory lists a part of what the store has: blobs and then tags, or images.
func (h *Handler) inventory(r *http.Request, q api.InventoryRequest) (a api.Inventory, err error) {
	if q.Image != nil {
		images, err := h.store.Manifests.All(r.Context(), store.Image(*q.Image), api.AtOnce)
		if err != nil {
			return a, err
		}
		for _, one := range images {
			a.Images = append(a.Images, api.InventoryImage(one))
		}
		if len(images) == api.AtOnce {
			a.Next = &api.InventoryRequest{Image: &a.Images[len(images)-1]}
		}
		return a, nil
	}
	if q.Tag == nil {
		digests, more, err := h.store.Blobs.Needed(r.Context(), q.Digest, api.AtOnce)
		if err != nil {
			return a, err
		}
		for _, d := range digests {
			a.Digests = append(a.Digests, digest.Digest(d))
		}
		if a.Next = (&api.InventoryRequest{Tag: &api.Tag{}}); more {
			a.Next = &api.InventoryRequest{Digest: digests[len(digests)-1]}
		}
		return a, nil
	}
	tags, err := h.store.Tags.All(r.Context(), store.Tag{Repository: q.Tag.Repository, Name: q.Tag.Tag}, api.AtOnce)
	if err != nil {
		return a, err
	}
	for _, t := range tags {
		a.Tags = append(a.Tags, api.Tag{Repository: t.Repository, Tag: t.Name, Digest: t.Digest})
	}
	if len(tags) == api.AtOnce {
		a.Next = &api.InventoryRequest{Tag: &a.Tags[len(tags)-1]}
	}
	return a, nil
}
