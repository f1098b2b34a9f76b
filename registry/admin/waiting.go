package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// NewWaiting returns the handler of a daemon that waits at its start and has no store yet: it has a status, and all
// other calls are refused with what the daemon waits for, so that no command opens the store itself meanwhile.
func NewWaiting(status func() api.Status, serves func(database string) bool, log *slog.Logger) http.Handler {
	h := &Handler{serves: serves, log: log, mux: http.NewServeMux(),
		status: func(context.Context) (api.Status, error) { return status(), nil }}
	handle(h, api.Ping, h.ping)
	handle(h, api.GetStatus, h.getStatus)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, pattern := h.mux.Handler(r); pattern != "" {
			h.ServeHTTP(w, r)
			return
		}
		now := status()
		reason, next := errors.New("it has just been started"), "try again in some seconds"
		if of := now.Waiting; of != nil {
			reason, next = fmt.Errorf("it waits for the %s %s: %s", of.For, of.Name, of.Problem()), cmp.Or(of.Hint, next)
		}
		h.refuse(w, r, hint.New(&refusal{fmt.Errorf("the registry cannot do this before its start is over: %w", reason), http.StatusServiceUnavailable}, next))
	})
}
