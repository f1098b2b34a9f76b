package registry

import (
	"context"
	"io"
	"log/slog"
	"testing"
)

// A part that does not answer takes no time from the others: an S3 storage that hangs is no reason to restart.
func TestHealth_eachCheckHasItsTime(t *testing.T) {
	waits := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	works := func(ctx context.Context) error { return ctx.Err() }
	h := &health{log: slog.New(slog.NewTextHandler(io.Discard, nil)), checks: []check{{"disk_space", waits, false}, {"web_gunicorn", works, true}}}
	if got := h.report(t.Context()).services; got["disk_space"] || !got["web_gunicorn"] {
		t.Errorf("services are %v", got)
	}
}
