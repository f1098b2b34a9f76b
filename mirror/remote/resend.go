package remote

import (
	"log/slog"
	"net/http"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/mirror-appliance/appliance/internal/retry"
)

// resends is how often a request of an upload is sent.
const resends = 3

// resend repeats the requests of an upload that have no body, and so can be sent again: of an
// upload with four requests one that fails would else have the source read again.
type resend struct {
	inner http.RoundTripper
	log   *slog.Logger
}

func (t *resend) RoundTrip(r *http.Request) (*http.Response, error) {
	for failures := 1; ; failures++ {
		resp, err := t.inner.RoundTrip(r)
		if r.Body != nil && r.Body != http.NoBody || failures >= resends || r.Context().Err() != nil || !passes(resp, err) {
			return resp, err
		}
		if resp != nil {
			err = transport.CheckError(resp) // reads what the registry says
			resp.Body.Close()
		}
		t.warn(r, failures, err)
		if err := retry.Sleep(r.Context(), retry.Policy{First: 200 * time.Millisecond}.Delay(failures, 0)); err != nil {
			return nil, err
		}
	}
}

func (t *resend) warn(r *http.Request, failures int, err error) {
	at := "upload"
	if u, ok := r.Context().Value(uploadKey{}).(*upload); ok {
		at = "put blob " + u.desc.Digest.String()
	}
	t.log.Warn("the destination failed and is tried again", "at", at, "request", r.Method, "attempt", failures, "error", err)
}

// passes reports whether a failure may pass. That the registry is busy has been waited for.
func passes(resp *http.Response, err error) bool {
	if err != nil {
		return retry.Passing(err)
	}
	return retry.Status(resp.StatusCode) && resp.StatusCode != http.StatusTooManyRequests
}
