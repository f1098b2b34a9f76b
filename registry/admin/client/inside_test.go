package client

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

type insideKey struct{}

func TestNewInside(t *testing.T) {
	began := make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc(api.GetStatus.Method+" "+api.GetStatus.Path, func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode(api.Status{Address: r.Context().Value(insideKey{}).(string)})
	})
	mux.HandleFunc("POST "+api.GC.Path, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, `{"progress":{"planned":true}}`+"\n")
		http.NewResponseController(w).Flush()
		<-began // the client has read the progress, while the answer is not whole
		_, _ = io.WriteString(w, `{"result":{"blobs":7}}`+"\n")
	})
	mux.HandleFunc("POST "+api.Verify.Path, func(http.ResponseWriter, *http.Request) { panic("of the handler") })
	mux.HandleFunc("POST "+api.Scrub.Path, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"progress":{}}`+"\n")
		panic("of the handler, late")
	})
	mux.HandleFunc("POST "+api.Ready.Path, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	mux.HandleFunc(api.DeleteUser.Method+" "+api.DeleteUser.Path, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusNoContent)
	})
	c := NewInside(mux)
	ctx := context.WithValue(t.Context(), insideKey{}, "the caller's")

	if s, err := c.Status(ctx); err != nil || s.Address != "the caller's" {
		t.Errorf("status: %+v, %v", s, err)
	}
	result, err := c.GC(ctx, api.GCRequest{}, func(p api.GCProgress) {
		if p.Planned {
			close(began)
		}
	})
	if err != nil || result.Blobs != 7 {
		t.Errorf("gc: %+v, %v", result, err)
	}
	if err := c.DeleteUser(ctx, "a/b"); err != nil {
		t.Errorf("a call without an answer: %v", err)
	}
	if _, err := c.Verify(ctx, api.VerifyRequest{}, nil); err == nil || !strings.Contains(err.Error(), "of the handler") {
		t.Errorf("a handler that panics: %v", err)
	}
	if _, err := c.Scrub(ctx, api.ScrubRequest{}, nil); err == nil || !strings.Contains(err.Error(), "of the handler, late") {
		t.Errorf("a handler that panics late: %v", err)
	}
	short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	if _, err := c.Ready(short, api.ReadyRequest{}, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a call that is ended: %v", err)
	}
}
