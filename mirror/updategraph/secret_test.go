package updategraph

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"
)

// The address of an update service may have a password, which no error has.
func TestClient_errorsHaveNoPassword(t *testing.T) {
	c := &Client{URL: "http://me:s3cret@127.0.0.1:1/graph?s3cret", HTTP: http.DefaultClient,
		Sleep: func(context.Context, time.Duration) error { return nil }}
	_, err := c.Fetch(t.Context(), "stable-4.18", "amd64")
	_, dataErr := c.FetchData(t.Context())
	for _, err := range []error{err, dataErr} {
		if err == nil || strings.Contains(err.Error(), "s3cret") || !strings.Contains(err.Error(), "me:xxxxx@127.0.0.1:1/graph") {
			t.Errorf("error %v", err)
		}
	}
}
