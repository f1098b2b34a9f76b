package signature

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/fetch"
)

// The address of the signatures may have a password, which no error has.
func TestClient_Fetch_errorHasNoPassword(t *testing.T) {
	c := &Client{URL: "http://me:s3cret@127.0.0.1:1/sigs", Get: fetch.Client{HTTP: http.DefaultClient,
		Sleep: func(context.Context, time.Duration) error { return nil }}}
	_, err := c.Fetch(t.Context(), digest.FromString("x"))
	if err == nil || strings.Contains(err.Error(), "s3cret") || !strings.Contains(err.Error(), "me:xxxxx@127.0.0.1:1/sigs") {
		t.Errorf("error %v", err)
	}
}
