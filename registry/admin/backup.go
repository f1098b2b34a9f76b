package admin

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/auth"
	"github.com/mirror-appliance/appliance/registry/jobs"
	"github.com/mirror-appliance/appliance/registry/store"
)

// backup makes a snapshot of the database and keeps the files that it names, until EndBackup or
// until the caller is gone.
//
// The command copies, with the rights of its user: the daemon's sandbox hides home directories and
// network shares. Refused: a request whose body ends with the command, for which net/http's client
// waits for ever when the daemon is killed.
func (h *Handler) backup(w http.ResponseWriter, r *http.Request) {
	if _, overHTTPS := auth.IdentityFrom(r.Context()); overHTTPS {
		h.refuse(w, r, badRequest("a backup is made on the registry's own host: it is files there that are copied",
			"run `appliance backup PATH` on that host"))
		return
	}
	h.audit(r, "backup began")
	ctx, cancel := jobs.Until(r.Context(), h.drain)
	defer cancel()
	h.serveJob(w, r, func(progress func(any)) (any, error) {
		err := h.holdSnapshot(ctx, cancel, func(name string) { progress(api.Snapshot{Snapshot: name}) })
		if errors.Is(context.Cause(ctx), jobs.ErrStopping) {
			err = jobs.ErrStopping
		}
		return api.None{}, err
	})
}

// holdSnapshot makes a snapshot, tells its name, and removes it when ctx ends.
func (h *Handler) holdSnapshot(ctx context.Context, cancel context.CancelFunc, made func(name string)) error {
	snapshot, err := h.store.Snapshot(ctx)
	if err != nil {
		return err
	}
	h.backups.Store(snapshot.Name, snapshotHeld{time.Now(), cancel})
	defer h.backups.Delete(snapshot.Name)
	made(snapshot.Name)
	<-ctx.Done()
	if err := snapshot.Release(); err != nil {
		h.log.Error("could not remove the snapshot of a backup", "name", snapshot.Name, "error", err)
		return err
	}
	return nil
}

// endBackup ends a backup whose copy is complete.
func (h *Handler) endBackup(r *http.Request, _ api.None) (api.None, error) {
	name := r.PathValue("snapshot")
	held, underWay := h.backups.Load(name)
	if !underWay {
		return api.None{}, &store.NotFoundError{Kind: "backup", Name: name}
	}
	if failed, _ := strconv.ParseBool(r.URL.Query().Get(api.CopyFailed.Name)); !failed {
		h.keepBackup(r.Context(), api.BackupState{Began: held.(snapshotHeld).began, Ended: time.Now()})
	}
	held.(snapshotHeld).end()
	return api.None{}, nil
}

// snapshotHeld is a snapshot whose files are kept until end is called.
type snapshotHeld struct {
	began time.Time
	end   context.CancelFunc
}
