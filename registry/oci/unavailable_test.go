package oci

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/registry/store"
)

// A removal that hangs is another reason than a storage that does not answer.
func TestExplain_removing(t *testing.T) {
	d := digest.FromString("x")
	var p *problem
	if err := blobCodes.explain(fmt.Errorf("put: %w", &store.RemovingError{Digest: d})); !errors.As(err, &p) || p.status != http.StatusServiceUnavailable ||
		p.header["Retry-After"] == "" || !strings.Contains(p.message, "a collection is removing blob "+d.String()) {
		t.Errorf("got %v, %+v", err, p)
	}
}

// A database that does not answer is a matter of the server, which clients try again.
func TestExplain_databaseIsNotAvailable(t *testing.T) {
	down := &store.UnavailableError{Database: "postgres://u@db.internal:5432/x", Next: "start it", Err: errors.New("connection refused")}
	var p *problem
	if err := manifestCodes.explain(fmt.Errorf("read manifest: %w", down)); !errors.As(err, &p) || p.status != http.StatusServiceUnavailable ||
		p.code != codeUnavailable || p.header["Retry-After"] != "5" || strings.Contains(p.message, "db.internal") {
		t.Errorf("got %v, %+v", err, p)
	}
}

// An upload that a request at another daemon has is free once the lease of that has ended: clients try again. Within one
// daemon the two requests contradict each other.
func TestExplain_busyElsewhere(t *testing.T) {
	for _, elsewhere := range []bool{false, true} {
		status, code, after := http.StatusConflict, codeUploadInvalid, ""
		if elsewhere {
			status, code, after = http.StatusServiceUnavailable, codeUnavailable, "10"
		}
		var p *problem
		if err := uploadCodes.explain(fmt.Errorf("resume: %w", &store.BusyError{ID: "x", Elsewhere: elsewhere})); !errors.As(err, &p) || p.status != status || p.code != code || p.header["Retry-After"] != after {
			t.Errorf("elsewhere %v: %v, %+v", elsewhere, err, p)
		}
	}
}
