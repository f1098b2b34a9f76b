package oci

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/registry/store"
)

// A database that does not answer is a matter of the server, which clients try again.
func TestExplain_databaseIsNotAvailable(t *testing.T) {
	down := &store.UnavailableError{Database: "postgres://u@db.internal:5432/x", Next: "start it", Err: errors.New("connection refused")}
	var p *problem
	if err := manifestCodes.explain(fmt.Errorf("read manifest: %w", down)); !errors.As(err, &p) || p.status != http.StatusServiceUnavailable ||
		p.code != codeUnavailable || p.header["Retry-After"] != "5" || strings.Contains(p.message, "db.internal") {
		t.Errorf("got %v, %+v", err, p)
	}
}
