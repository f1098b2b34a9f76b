package webpage_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/internal/webpage"
)

func TestIs(t *testing.T) {
	for name, test := range map[string]struct {
		status     int
		kind, body string
		want       bool
	}{
		"a login page":                   {200, "text/html; charset=utf-8", "\ufeff\r\n <!DOCTYPE html><title>Sign in</title>", true},
		"a page of XHTML":                {200, "application/xhtml+xml", "<?xml version='1.0'?><html/>", true},
		"Quay's answer to an upload":     {202, "text/html; charset=utf-8", "", false},
		"Quay's answer to a ping":        {200, "text/html; charset=utf-8", "true", false},
		"an error has its own text":      {403, "text/html", "<html>Forbidden</html>", false},
		"a document of another type":     {200, "application/json", "<html>", false},
		"a manifest with the wrong type": {200, "text/html", `{"schemaVersion":2}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			resp := &http.Response{StatusCode: test.status, Header: http.Header{"Content-Type": {test.kind}},
				Body: io.NopCloser(strings.NewReader(test.body))}
			if got := webpage.Is(resp); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
			if all, err := io.ReadAll(resp.Body); string(all) != test.body || err != nil {
				t.Errorf("the body that is left is %q, %v", all, err)
			}
		})
	}
}
