package admin

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"path/filepath"
	"syscall"
	"time"

	"github.com/mirror-appliance/appliance/registry/store"
)

// BackupRequest asks for a backup into a directory, or a file that ends in .tar, on the daemon's host.
type BackupRequest struct {
	Path           string `json:"path"`                     // absolute
	Prune          bool   `json:"prune,omitempty"`          // remove blobs of older backups that this one does not need
	BytesPerSecond int64  `json:"bytesPerSecond,omitempty"` // copy no faster; 0: as fast as it goes
}

// BackupProgress is how far a backup is.
type BackupProgress struct {
	Done store.BackupReport `json:"done"`
	Of   store.StoreSize    `json:"of"`
}

func (h *Handler) backup(w http.ResponseWriter, r *http.Request) {
	var q BackupRequest
	if err := decode(r, maxJSON, &q); err != nil {
		h.refuse(w, r, err)
		return
	}
	if !filepath.IsAbs(q.Path) || q.BytesPerSecond < 0 {
		h.refuse(w, r, &badRequest{"path is not absolute, or bytesPerSecond is negative", "name the directory or the .tar file by its whole path"})
		return
	}
	h.serveJob(w, r, func(ctx context.Context, progress func(any)) (any, error) {
		last := time.Now()
		report, err := h.store.Backup(ctx, q.Path, store.BackupOptions{
			Prune: q.Prune, BytesPerSecond: q.BytesPerSecond,
			Progress: func(done store.BackupReport, of store.StoreSize) {
				if time.Since(last) >= progressEvery {
					last = time.Now()
					progress(BackupProgress{Done: done, Of: of})
				}
			},
		})
		return report, reachable(err)
	})
}

// reachable says what to do when the daemon may not write where it was told to: its service sees its own directories
// and no others.
func reachable(err error) error {
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) || errors.Is(err, fs.ErrNotExist) {
		return &badRequest{err.Error(), "the service can write to its own directories only: back up to a directory below the install directory, " +
			"where links take no space, and copy it from there"}
	}
	return err
}

// Backup backs the store up while it serves. progress may be nil.
func (c *Client) Backup(ctx context.Context, q BackupRequest, progress func(BackupProgress)) (store.BackupReport, error) {
	return ask[BackupProgress, store.BackupReport](ctx, c, "/api/v1/backup", q, progress)
}
