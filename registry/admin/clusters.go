package admin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"

	"github.com/mirror-appliance/appliance/cluster/state"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/auth"
)

// Clusters are the attached clusters. *retain.Clusters is it.
type Clusters interface {
	List(ctx context.Context) ([]api.AttachedCluster, error)
	Attach(ctx context.Context, q api.AttachRequest) (api.AttachedCluster, error)
	Detach(ctx context.Context, name string) error
	// MayPush returns an error unless a user that is no administrator may say what a cluster runs.
	MayPush(ctx context.Context, id, user string) error
}

func (h *Handler) listClusters(r *http.Request, _ api.None) ([]api.AttachedCluster, error) {
	return h.clusters.List(r.Context())
}

func (h *Handler) attachCluster(r *http.Request, q api.AttachRequest) (api.AttachedCluster, error) {
	attached, err := h.clusters.Attach(r.Context(), q)
	if err == nil {
		h.audit(r, "cluster attached", "id", attached.ID, "name", attached.Name, "version", attached.Version)
	}
	return attached, err
}

// pushCluster reads what a cluster tells of itself. The user that an administrator has named for the
// cluster may call it too.
func (h *Handler) pushCluster(r *http.Request, _ api.None) (api.AttachedCluster, error) {
	id := r.PathValue("id")
	if user, ok := auth.IdentityFrom(r.Context()); ok && user.Role != auth.Admin {
		if err := h.clusters.MayPush(r.Context(), id, user.Name); err != nil {
			if errors.Is(err, fs.ErrPermission) {
				err = &refusal{err, http.StatusForbidden}
			}
			return api.AttachedCluster{}, err
		}
	}
	facts, err := state.Read(http.MaxBytesReader(nil, r.Body, api.MaxExport))
	switch {
	case is[*http.MaxBytesError](err):
		return api.AttachedCluster{}, err
	case err != nil:
		return api.AttachedCluster{}, &refusal{err, http.StatusBadRequest}
	case facts.ID != id:
		return api.AttachedCluster{}, badRequest(fmt.Sprintf("the export is of cluster %s, and not of the one in the path", facts.ID),
			"send what that cluster tells of itself")
	}
	q := api.AttachRequest{Facts: *facts}
	if err := q.Check(); err != nil {
		return api.AttachedCluster{}, &refusal{err, http.StatusBadRequest}
	}
	return h.attachCluster(r, q)
}

func (h *Handler) detachCluster(r *http.Request, _ api.None) (api.None, error) {
	err := h.clusters.Detach(r.Context(), r.PathValue("id"))
	if err == nil {
		h.audit(r, "cluster detached", "cluster", r.PathValue("id"))
	}
	return api.None{}, err
}
