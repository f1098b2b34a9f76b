package registry_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry"
	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/registry/store/backup"
)

// TestRun_backup_draining: a daemon that is to stop waits for no backup. The command
// is told, and fails.
func TestRun_backup_draining(t *testing.T) {
	r := start(t)
	err := r.admin.Backup(t.Context(), func(ctx context.Context, _ string) error {
		r.stop()
		<-ctx.Done()
		return ctx.Err()
	})
	if err == nil || !strings.Contains(err.Error(), "the registry is stopping") {
		t.Errorf("error is %v", err)
	}
}

// TestRun_backup_overHTTPS makes no sense: what would be copied is files of this host.
func TestRun_backup_overHTTPS(t *testing.T) {
	r := start(t)
	code, body := r.as(t, "admin", http.MethodPost, "/api/v1/backup")
	if code != http.StatusBadRequest || !strings.Contains(body, "on the registry's own host") || !strings.Contains(body, "hint") {
		t.Errorf("answered %d %s", code, body)
	}
}

// The blobs of S3 are not in a backup: one without them must not look like a whole one.
func TestBackup_refusesS3(t *testing.T) {
	cfg := &config.Config{Storage: "s3://images?endpoint=https://s3.example.com", Database: "/srv/appliance.db"}
	_, back := registry.Backup(t.Context(), nil, cfg, 0, t.TempDir(), backup.Options{})
	_, restored := registry.Restore(t.Context(), cfg, t.TempDir(), backup.RestoreOptions{})
	for _, err := range []error{back, restored} {
		if err == nil || !strings.Contains(hint.Of(err), cfg.Database) {
			t.Errorf("got %v, hint %q", err, hint.Of(err))
		}
	}
}
