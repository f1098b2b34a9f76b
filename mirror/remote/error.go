package remote

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/webpage"
)

// failed is the error of a request that the registry refused or did not answer.
func (r *Run) failed(attempt string, err error) error {
	at := r.registry.RegistryStr()
	var request *url.Error
	if errors.As(err, &request) { // the address of an upload has a secret in its query, at some registries
		request.URL, _, _ = strings.Cut(request.URL, "?")
	}
	f := &failure{error: err}
	var answer *transport.Error
	if errors.As(err, &answer) && answer.StatusCode == http.StatusTooManyRequests {
		f.busy = !r.busy.Exhausted(at)
	}
	return hint.New(fmt.Errorf("destination registry %s: %s: %w", at, attempt, f), r.advice(err))
}

// errMismatch says that the content of a blob has another digest than its name.
var errMismatch = errors.New("what the source sent is not that blob")

// failure is an error of the registry or of reaching it.
type failure struct {
	error
	busy bool
}

func (f *failure) Unwrap() error { return f.error }

// Busy reports whether the registry had too many requests, and is not given up for it. It gets no
// request then before it has rested.
func (f *failure) Busy() bool { return f.busy }

// Refused reports whether the same request would be refused again. A login may expire, a session be
// forgotten and a body arrive damaged, so 400, 401 and 404 are not final.
func (f *failure) Refused() bool {
	var answer *transport.Error
	if errors.As(f.error, new(*fixedError)) || errors.As(f.error, new(*webpage.Error)) {
		return true
	}
	if !errors.As(f.error, &answer) || errors.Is(f.error, errContinued) {
		return false
	}
	if has(answer, transport.NameUnknownErrorCode, transport.NameInvalidErrorCode) {
		return true
	}
	switch answer.StatusCode {
	case http.StatusTooManyRequests:
		return !f.busy
	case http.StatusForbidden, http.StatusMethodNotAllowed, http.StatusLengthRequired, http.StatusPreconditionFailed,
		http.StatusRequestEntityTooLarge, http.StatusRequestURITooLong, http.StatusUnsupportedMediaType,
		http.StatusUnprocessableEntity, http.StatusRequestHeaderFieldsTooLarge, http.StatusUnavailableForLegalReasons,
		http.StatusNotImplemented, http.StatusInsufficientStorage:
		return true
	}
	return false
}

// Mismatch reports whether the content had another digest than its name.
func (f *failure) Mismatch() bool { return errors.Is(f.error, errMismatch) }

// finality is 1 for what the registry refused for good, and 0 for what may pass.
func finality(err error) int {
	var f *failure
	if errors.As(err, &f) && f.Refused() {
		return 1
	}
	return 0
}
