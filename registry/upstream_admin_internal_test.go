package registry

import (
	"testing"
	"time"
)

// LimitUpstreamTests bounds the tests of upstreams until a test ends.
func LimitUpstreamTests(t *testing.T, limit time.Duration) {
	t.Helper()
	before := testLimit
	testLimit = limit
	t.Cleanup(func() { testLimit = before })
}
