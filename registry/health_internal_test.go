package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"testing"

	"github.com/mirror-appliance/appliance/registry/store"
)

// A part that does not answer takes no time from the others: an S3 storage that hangs is no reason to restart.
func TestHealth_eachCheckHasItsTime(t *testing.T) {
	waits := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	works := func(ctx context.Context) error { return ctx.Err() }
	h := &health{log: slog.New(slog.NewTextHandler(io.Discard, nil)), checks: []check{{service: "disk_space", run: waits}, {service: "web_gunicorn", run: works, vital: true}}}
	if got := h.report(t.Context()).services; got["disk_space"] || !got["web_gunicorn"] {
		t.Errorf("services are %v", got)
	}
}

// Errors of all that reads a database which does not answer are one.
func TestOnce(t *testing.T) {
	down := func(what string) error {
		return fmt.Errorf("%s: %w", what, &store.UnavailableError{Database: "postgres://login@db/appliance", Err: errors.New("an old primary")})
	}
	count, other := down("count"), errors.New("the clock is wrong")
	if left := once([]error{nil, count, other, down("clock")}, false); !slices.Equal(left, []error{nil, count, other}) {
		t.Errorf("left are %v", left)
	}
	if left := once([]error{count, other}, true); !slices.Equal(left, []error{other}) {
		t.Errorf("where it is told already %v are left", left)
	}
}
