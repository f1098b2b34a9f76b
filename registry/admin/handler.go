package admin

import (
	"context"
	"log/slog"
	"net/http"
	"sync"

	"github.com/mirror-appliance/appliance/registry/auth"
	"github.com/mirror-appliance/appliance/registry/store"
)

// Options are what the handler works on.
type Options struct {
	Store *store.Store
	Auth  *auth.Authenticator // told to forget users that change
	Jobs  Jobs
	// Status says how the daemon is; nil when there is none, and a command that has opened the store answers.
	Status func(ctx context.Context) (Status, error)
	Drain  context.Context // ends when jobs are to end, since the process will; nil: never
	Log    *slog.Logger    // nil: discard
}

// Jobs are what a Handler has done by others. progress may be called often.
type Jobs struct {
	Collect func(ctx context.Context, q GCRequest, progress func(GCProgress)) (GCResult, error)             // ErrCollecting: one is under way
	Detach  func(q GCRequest) error                                                                         // begins to collect; ErrCollecting
	Scrub   func(ctx context.Context, bytesPerSecond int64, progress func(ScrubState)) (ScrubReport, error) // ErrScrubbing: one is under way
}

// Handler answers the control API. It checks no login, see the package comment.
type Handler struct {
	store  *store.Store
	auth   *auth.Authenticator
	jobs   Jobs
	status func(context.Context) (Status, error)
	drain  context.Context
	log    *slog.Logger
	mux    *http.ServeMux

	// users is held from a look at all users to the change that depends on it, so that two
	// requests cannot remove the last two administrators.
	users sync.Mutex

	backups sync.Map // under way: names of snapshots, and for each a func() that ends its request
}

// NewHandler returns the handler of everything under /api/v1/.
func NewHandler(o Options) *Handler {
	h := &Handler{store: o.Store, auth: o.Auth, jobs: o.Jobs, status: o.Status, drain: o.Drain, log: o.Log, mux: http.NewServeMux()}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	if h.drain == nil {
		h.drain = context.Background()
	}
	for pattern, serve := range map[string]endpoint{
		"GET /api/v1/ping":            h.ping,
		"GET /api/v1/status":          h.getStatus,
		"GET /api/v1/users":           h.listUsers,
		"POST /api/v1/users":          h.createUser,
		"PUT /api/v1/users/{name}":    h.changeUser,
		"DELETE /api/v1/users/{name}": h.deleteUser,

		"POST /api/v1/sync":                        h.beginSync,
		"POST /api/v1/sync/{id}/held":              h.held,
		"POST /api/v1/sync/{id}/confirm":           h.confirm,
		"PUT /api/v1/sync/{id}/blobs/{digest}":     h.putBlob,
		"PUT /api/v1/sync/{id}/manifests/{digest}": h.putManifest,
		"POST /api/v1/sync/{id}/tags":              h.tag,
		"POST /api/v1/sync/{id}/sources":           h.source,
		"POST /api/v1/sync/{id}/commit":            h.commit,
		"DELETE /api/v1/sync/{id}":                 h.abort,
		"/":                                        h.unknown,
	} {
		h.mux.Handle(pattern, h.endpoint(serve))
	}
	h.mux.HandleFunc("POST /api/v1/gc", h.postGC)
	h.mux.HandleFunc("POST /api/v1/verify", h.verify)
	h.mux.HandleFunc("POST /api/v1/scrub", h.postScrub)
	h.mux.HandleFunc("POST /api/v1/backup", h.backup)
	h.mux.Handle("DELETE /api/v1/backup/{snapshot}", h.endpoint(h.endBackup))
	return h
}

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mux.ServeHTTP(w, r.WithContext(store.WithUser(r.Context(), by(r.Context()))))
}

// endpoint serves one kind of request. What it returns is answered as JSON with the status, an
// error in the form of errorAnswer.
type endpoint func(r *http.Request) (status int, answer any, err error)

func (h *Handler) endpoint(serve endpoint) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status, answer, err := serve(r)
		if err != nil {
			h.refuse(w, r, err)
			return
		}
		write(w, status, answer)
	})
}

// ping costs nothing, whatever the store holds and however it is.
func (h *Handler) ping(*http.Request) (int, any, error) {
	if h.status == nil {
		return 0, nil, errNoDaemon
	}
	return http.StatusNoContent, nil, nil
}

func (h *Handler) getStatus(r *http.Request) (int, any, error) {
	if h.status == nil {
		return 0, nil, errNoDaemon
	}
	s, err := h.status(r.Context())
	return http.StatusOK, s, err
}

// unknown answers what no other pattern matches.
func (h *Handler) unknown(r *http.Request) (int, any, error) {
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete} {
		other := r.Clone(r.Context())
		other.Method = method
		if _, pattern := h.mux.Handler(other); pattern != "/" {
			allowed = append(allowed, method)
		}
	}
	return 0, nil, &unknownRequest{method: r.Method, path: r.URL.Path, allowed: allowed}
}

// by is who a change is logged for.
func by(ctx context.Context) string {
	if id, ok := auth.IdentityFrom(ctx); ok {
		return id.Name
	}
	return "local"
}
