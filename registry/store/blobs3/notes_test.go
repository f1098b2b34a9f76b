//go:build s3

package blobs3_test

import (
	"errors"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/mirror-appliance/appliance/registry/store/blobs3/s3test"
	"github.com/mirror-appliance/appliance/registry/store/blobstore"
)

// A server that refuses a condition it does not know gets the note without one.
func TestNotes_aServerWithoutConditions(t *testing.T) {
	server := s3test.Start(t)
	s := open(t, server, "")
	must(t, s.WriteNote(t.Context(), "note", []byte("a"), nil))
	_, seen, err := s.ReadNote(t.Context(), "note")
	must(t, err)
	var refused atomic.Int32
	server.Fault(func(r *http.Request) s3test.Action {
		if r.Header.Get("If-Match") != "" {
			refused.Add(1)
			return s3test.Unable
		}
		return s3test.Pass
	})
	must(t, s.WriteNote(t.Context(), "note", []byte("b"), seen))
	if text, _, err := s.ReadNote(t.Context(), "note"); string(text) != "b" || err != nil || refused.Load() != 1 {
		t.Errorf("the note is %q, %v, after %d refusals", text, err, refused.Load())
	}
}

// A server that has another write of the note under way does not write this one.
func TestNotes_aConflict(t *testing.T) {
	server := s3test.Start(t)
	s := open(t, server, "")
	server.Fault(func(r *http.Request) s3test.Action {
		if r.Method == http.MethodPut {
			return s3test.Conflict
		}
		return s3test.Pass
	})
	if err := s.WriteNote(t.Context(), "note", []byte("a"), nil); !errors.Is(err, blobstore.ErrNoteChanged) {
		t.Errorf("it is written: %v", err)
	}
}
