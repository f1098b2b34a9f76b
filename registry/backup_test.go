package registry_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
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
