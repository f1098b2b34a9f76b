package upstream

import (
	"context"
	"net"
	"net/http"
	"time"

	"github.com/mirror-appliance/appliance/internal/retry"
)

// AnswersPlain reports whether a registry answers without TLS. Call it only if the user allows plain HTTP.
func AnswersPlain(ctx context.Context, registry string) bool {
	address := registry
	if _, _, err := net.SplitHostPort(registry); err != nil {
		address = net.JoinHostPort(registry, "80")
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/v2/", nil)
	if err != nil {
		return false
	}
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	var resp *http.Response
	err = retry.Policy{Attempts: 3}.Do(ctx, func() (err error) { // one lost connection must not decide for a whole run
		resp, err = client.Do(r)
		return err
	})
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	// A TLS port answers 400, and a server that redirects to TLS with a redirect.
	return resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusUnauthorized
}
