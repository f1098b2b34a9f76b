package remote

import (
	"net/http"
	"time"

	"github.com/mirror-appliance/appliance/internal/retry"
)

// resends is how often a request of an upload is sent.
const resends = 3

// resend repeats the requests of an upload that have no body, and so can be sent again: of an
// upload with four requests one that fails would else have the source read again.
type resend struct{ inner http.RoundTripper }

func (t *resend) RoundTrip(r *http.Request) (*http.Response, error) {
	for failures := 1; ; failures++ {
		resp, err := t.inner.RoundTrip(r)
		if r.Body != nil && r.Body != http.NoBody || failures >= resends || r.Context().Err() != nil || !passes(resp, err) {
			return resp, err
		}
		if resp != nil {
			resp.Body.Close()
		}
		if err := retry.Sleep(r.Context(), retry.Policy{First: 200 * time.Millisecond}.Delay(failures, 0)); err != nil {
			return nil, err
		}
	}
}

// passes reports whether a failure may pass. That the registry is busy has been waited for.
func passes(resp *http.Response, err error) bool {
	if err != nil {
		return retry.Passing(err)
	}
	return retry.Status(resp.StatusCode) && resp.StatusCode != http.StatusTooManyRequests
}
