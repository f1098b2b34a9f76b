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
	"github.com/mirror-appliance/appliance/registry/auth"
	"github.com/mirror-appliance/appliance/registry/store"
)

// Requests that are refused before they reach the store.
type (
	badRequest     struct{ problem, hint string }
	conflict       struct{ problem, hint string }
	lengthRequired struct{}
	brokenBody     struct{ err error }
	unknownRequest struct {
		method, path string
		allowed      []string
	}
)

func (e *badRequest) Error() string     { return e.problem }
func (e *badRequest) Hint() string      { return e.hint }
func (e *conflict) Error() string       { return e.problem }
func (e *conflict) Hint() string        { return e.hint }
func (e *lengthRequired) Error() string { return "the length of the body is not known" }
func (e *lengthRequired) Hint() string  { return "send Content-Length" }
func (e *brokenBody) Error() string     { return "read the request body: " + e.err.Error() }
func (e *brokenBody) Unwrap() error     { return e.err }

func (e *unknownRequest) Error() string {
	if len(e.allowed) > 0 {
		return fmt.Sprintf("%s does not take %s, only %s", e.path, e.method, strings.Join(e.allowed, ", "))
	}
	return fmt.Sprintf("the control API has no %s", e.path)
}

func (e *unknownRequest) Hint() string {
	return "use a command and a daemon of the same version; 'appliance --version' tells it"
}

// errNoDaemon is for a second command, while a first has opened the store since no daemon runs.
var errNoDaemon = &conflict{"the registry is not running, and another command is at work on its store", "wait until that has ended"}

func badDigest(s string, err error) error {
	return &badRequest{fmt.Sprintf("%q is not a digest: %v", s, err), "write it as sha256:…"}
}

// statusOf is the one place where errors become statuses.
func statusOf(err error) int {
	var (
		unknown  *unknownRequest
		full     *store.FullError
		busy     *store.BusyError
		missing  *store.MissingError
		tooLarge *http.MaxBytesError
	)
	switch {
	case errors.As(err, &unknown) && len(unknown.allowed) > 0:
		return http.StatusMethodNotAllowed
	case errors.As(err, &unknown), errors.Is(err, store.ErrNotFound):
		return http.StatusNotFound
	case is[*conflict](err), errors.As(err, &busy), errors.Is(err, ErrCollecting), errors.Is(err, ErrScrubbing):
		return http.StatusConflict
	case is[*lengthRequired](err):
		return http.StatusLengthRequired
	case errors.As(err, &tooLarge):
		return http.StatusRequestEntityTooLarge
	case errors.As(err, &missing):
		return http.StatusUnprocessableEntity
	case errors.As(err, &full):
		return http.StatusInsufficientStorage
	case is[*badRequest](err), is[*brokenBody](err), is[*store.DigestError](err), is[*store.InvalidError](err),
		is[*auth.InvalidError](err), is[*image.PatternError](err):
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

func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, err error) {
	status := statusOf(err)
	if status == http.StatusInternalServerError {
		h.log.ErrorContext(r.Context(), "control request failed", "method", r.Method, "path", r.URL.Path, "error", err)
	}
	var unknown *unknownRequest
	if errors.As(err, &unknown) && len(unknown.allowed) > 0 {
		w.Header().Set("Allow", strings.Join(unknown.allowed, ", "))
	}
	write(w, status, errorAnswer{Error: err.Error(), Hint: hintOf(err)})
}

func hintOf(err error) string {
	if errors.Is(err, ErrCollecting) || errors.Is(err, ErrScrubbing) {
		return "wait until it has ended: `appliance status` says how far it is"
	}
	return hint.Of(err)
}

// Denied answers a request that auth.Require lets not through.
func Denied(w http.ResponseWriter, _ *http.Request, status int) {
	answer := errorAnswer{Error: "the control API is for users of role admin", Hint: "log in as one, for example init"}
	switch status {
	case http.StatusUnauthorized:
		answer = errorAnswer{Error: "user name and password are wanted, or were wrong", Hint: "log in as a user of role admin, for example init"}
	case http.StatusTooManyRequests:
		answer = errorAnswer{Error: "too many wrong logins", Hint: "wait as long as Retry-After says, and try again with the right password"}
	case http.StatusServiceUnavailable:
		answer = errorAnswer{Error: "the login could not be checked", Hint: "see the log of the daemon, and try again"}
	}
	write(w, status, answer)
}

// write sends the answer. What goes wrong in sending concerns the client alone, who notices.
func write(w http.ResponseWriter, status int, answer any) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Server", Product)
	if answer == nil {
		w.WriteHeader(status)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answer)
}

// decode reads one JSON value of known fields, and nothing after it.
func decode(r *http.Request, limit int64, into any) error {
	dec := json.NewDecoder(http.MaxBytesReader(nil, r.Body, limit))
	dec.DisallowUnknownFields()
	err := dec.Decode(into)
	if err == nil {
		if _, more := dec.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("something follows the JSON value")
		}
	}
	if err == nil {
		return nil
	}
	if is[*http.MaxBytesError](err) {
		return fmt.Errorf("read the request: %w", err)
	}
	return &badRequest{"the request is not the JSON wanted here: " + err.Error(), ""}
}
