package admin

import (
	"errors"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"
)

// TestUnreachable_noRoute: a host that drops packets is unreachable as one that refuses is, though net calls it a deadline.
func TestUnreachable_noRoute(t *testing.T) {
	_, err := (&net.Dialer{Deadline: time.Unix(1, 0)}).Dial("tcp", "127.0.0.1:1")
	err = unreachable("https://registry.test:8443", &url.Error{Op: "Get", URL: "https://registry.test:8443/api/v1/ping", Err: err})
	var hint interface{ Hint() string }
	if !strings.Contains(err.Error(), "reach https://registry.test:8443: ") || !errors.As(err, &hint) || !strings.Contains(hint.Hint(), "check the name") {
		t.Errorf("error is %v", err)
	}
}
