package admin

import (
	"context"
	"net/http"

	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/jobs"
)

// Upkeep knows what uses the space of the store, and what its jobs have found.
type Upkeep interface {
	GCPlan(ctx context.Context) api.GCPlan
	Damage(ctx context.Context) (api.Damage, error)
	Usage(ctx context.Context, q api.UsageRequest) (api.Usage, error)
}

// LastBackup is the name of the note of the last backup that was complete.
const LastBackup = "backup.last"

func (h *Handler) getGCPlan(r *http.Request, _ api.None) (api.GCPlan, error) {
	if err := h.isDaemon(); err != nil {
		return api.GCPlan{}, err
	}
	return h.upkeep.GCPlan(r.Context()), nil
}

func (h *Handler) getDamage(r *http.Request, _ api.None) (api.Damage, error) {
	return h.upkeep.Damage(r.Context())
}

func (h *Handler) getUsage(r *http.Request, q api.UsageRequest) (api.Usage, error) {
	if err := h.isDaemon(); err != nil {
		return api.Usage{}, err
	}
	return h.upkeep.Usage(r.Context(), q)
}

// keepBackup remembers a backup that is complete, for the status.
func (h *Handler) keepBackup(ctx context.Context, b api.BackupState) {
	jobs.OpenNote[api.BackupState](ctx, h.store, LastBackup, h.log).Set(ctx, b)
}
