package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/internal/retry"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/auth"
	"github.com/mirror-appliance/appliance/registry/jobs"
	"github.com/mirror-appliance/appliance/registry/store"
)

// refusal is an error with the status of its answer.
type refusal struct {
	error
	status int
}

func (e *refusal) Unwrap() error { return e.error }

func badRequest(problem, next string) error {
	return &refusal{hint.New(errors.New(problem), next), http.StatusBadRequest}
}

func conflict(problem, next string) error {
	return &refusal{hint.New(errors.New(problem), next), http.StatusConflict}
}

// brokenBody is for a body that does not arrive whole.
func brokenBody(err error) error {
	return &refusal{fmt.Errorf("read the request body: %w", err), http.StatusBadRequest}
}

// statusOf returns the status for an error. All errors become statuses here.
func statusOf(err error) int {
	var refused *refusal
	switch {
	case is[*http.MaxBytesError](err):
		return http.StatusRequestEntityTooLarge
	case errors.As(err, &refused):
		return refused.status
	case errors.Is(err, store.ErrNotFound):
		return http.StatusNotFound
	case refusedByRole(err), is[*store.KeptError](err), is[*store.BusyError](err), is[*store.PartialError](err), is[*jobs.BusyError](err), errors.Is(err, jobs.ErrStopping), errors.Is(err, jobs.ErrCancelled):
		return http.StatusConflict
	case is[*store.RelistError](err):
		return http.StatusGone
	case is[*store.MissingError](err):
		return http.StatusUnprocessableEntity
	case is[*store.FullError](err):
		return http.StatusInsufficientStorage
	case is[*store.UnavailableError](err), errors.Is(err, store.ErrUnavailable):
		return http.StatusServiceUnavailable
	case is[*store.DigestError](err), is[*store.InvalidError](err), is[*auth.InvalidError](err),
		is[*image.PatternError](err):
		return http.StatusBadRequest
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

func is[E error](err error) bool {
	var e E
	return errors.As(err, &e)
}

// refusalOf returns the answer for an error.
func refusalOf(err error) *api.Refusal {
	next := hint.Of(err)
	switch {
	case is[*jobs.BusyError](err):
		next = "wait until it has ended: `appliance status` says how far it is"
	case errors.Is(err, jobs.ErrCancelled):
		next = "begin it again: what is done stays done"
	case errors.Is(err, jobs.ErrStopping):
		next = "run it again when it is up, or while it is stopped; what is done stays done"
	}
	return &api.Refusal{Problem: err.Error(), Hint: next}
}

func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, err error) {
	status := statusOf(err)
	if status == http.StatusInternalServerError {
		h.log.ErrorContext(r.Context(), "control request failed", "method", r.Method, "path", r.URL.Path, "error", err)
	}
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", retry.Later)
	}
	write(w, status, refusalOf(err))
}

// unknown answers a path or a method that is not a call.
func (h *Handler) unknown(w http.ResponseWriter, r *http.Request) {
	refused := &refusal{fmt.Errorf("the control API has no %s", r.URL.Path), http.StatusNotFound}
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete} {
		other := r.Clone(r.Context())
		other.Method = method
		if _, pattern := h.mux.Handler(other); pattern != "/" {
			allowed = append(allowed, method)
		}
	}
	if len(allowed) > 0 {
		list := strings.Join(allowed, ", ")
		w.Header().Set("Allow", list)
		refused = &refusal{fmt.Errorf("%s does not take %s, only %s", r.URL.Path, r.Method, list),
			http.StatusMethodNotAllowed}
	}
	h.refuse(w, r, hint.New(refused, "use a command and a daemon of the same version; 'appliance --version' tells it"))
}

// Denied answers a request that auth.Require rejects. It names the roles that the request needs.
func Denied(w http.ResponseWriter, r *http.Request, status int) {
	needed := "a user of role " + strings.Join(roles(Action(r)), " or ")
	answer := api.Refusal{Problem: fmt.Sprintf("%s %s is for %s", r.Method, r.URL.Path, needed),
		Hint: "log in as one, or ask an administrator of the registry"}
	switch status {
	case http.StatusUnauthorized:
		answer = api.Refusal{Problem: "user name and password are wanted, or were wrong",
			Hint: "log in as " + needed + ", for example init"}
	case http.StatusTooManyRequests:
		answer = api.Refusal{Problem: "too many wrong logins",
			Hint: "wait as long as Retry-After says, and try again with the right password"}
	case http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", retry.Later)
		answer = api.Refusal{Problem: "the login could not be checked",
			Hint: "see the log of the daemon, and try again"}
	}
	write(w, status, answer)
}

// write sends the answer. An error in sending concerns the client alone, which notices.
func write(w http.ResponseWriter, status int, answer any) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Server", api.Product)
	if answer == nil {
		w.WriteHeader(status)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answer)
}

// decode reads one JSON value of known fields, and nothing after it, and checks it.
func decode(r *http.Request, limit int64, into any) error {
	dec := json.NewDecoder(http.MaxBytesReader(nil, r.Body, limit))
	dec.DisallowUnknownFields()
	err := dec.Decode(into)
	if err == nil {
		if _, more := dec.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("something follows the JSON value")
		}
	}
	if err != nil {
		return &refusal{fmt.Errorf("the request is not the JSON wanted here: %w", err), http.StatusBadRequest}
	}
	if q, ok := into.(interface{ Check() error }); ok {
		if err := q.Check(); err != nil {
			return &refusal{err, http.StatusBadRequest}
		}
	}
	return nil
}
