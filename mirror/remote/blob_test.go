package remote_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestRun_PutBlob(t *testing.T) {
	t.Run("is not mounted before its source has confirmed it", func(t *testing.T) {
		s := appliance(t)
		r := open(t, s)
		data, desc := blob("shared layer")
		for _, repo := range []string{"one", "two"} {
			if err := r.PutBlob(t.Context(), repo, desc, bytes.NewReader(data)); err != nil {
				t.Fatal(err)
			}
		}
		if n := s.count(http.MethodPatch, "/v2/two/"); n != 1 {
			t.Errorf("%d uploads into the second repository", n)
		}
	})
	t.Run("is mounted from where the run has seen it, once its source has confirmed it", func(t *testing.T) {
		s := appliance(t)
		r := open(t, s)
		data, desc := blob("shared layer")
		if err := r.PutBlob(t.Context(), "one", desc, bytes.NewReader(data)); err != nil {
			t.Fatal(err)
		}
		if _, _, unconfirmed, err := r.Existing(t.Context(), map[string][]digest.Digest{"two": {desc.Digest}}, nil); len(unconfirmed["two"]) != 1 || err != nil {
			t.Errorf("of what the run has put itself, unconfirmed are %v, %v", unconfirmed, err)
		}
		ask := map[string][]digest.Digest{"one": {desc.Digest}, "two": {desc.Digest}}
		if _, _, unconfirmed, err := r.Existing(t.Context(), ask, nil); len(unconfirmed["one"]) != 0 || !slices.Equal(unconfirmed["two"], ask["two"]) || err != nil {
			t.Errorf("unconfirmed are %v, %v", unconfirmed, err)
		}
		if staged, err := r.Confirm(t.Context(), map[string][]ocispec.Descriptor{"two": {desc}}); len(staged) != 0 || err != nil {
			t.Errorf("staged are %v, %v", staged, err)
		}
		if err := r.PutBlob(t.Context(), "two", desc, failing{t}); err != nil {
			t.Fatal(err)
		}
		if n := s.count(http.MethodPatch, "/v2/two/"); n != 0 {
			t.Errorf("%d uploads into the second repository", n)
		}
		if existing, _, unconfirmed, err := r.Existing(t.Context(), ask, nil); len(existing["one"])+len(existing["two"]) != 2 || len(unconfirmed) != 0 || err != nil {
			t.Errorf("existing are %v, unconfirmed %v, %v", existing, unconfirmed, err)
		}
	})
	t.Run("goes over the wire where mounting is not to be had", func(t *testing.T) {
		s := plainRegistry(t) // which keeps blobs without their repository
		s.fault = func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodHead {
				w.WriteHeader(http.StatusNotFound)
			}
			return r.Method == http.MethodHead
		}
		r := open(t, s)
		data, desc := blob("shared layer")
		if _, err := r.Confirm(t.Context(), map[string][]ocispec.Descriptor{"two": {desc}}); err != nil {
			t.Fatal(err)
		}
		for _, repo := range []string{"one", "two"} {
			if err := r.PutBlob(t.Context(), repo, desc, bytes.NewReader(data)); err != nil {
				t.Fatal(err)
			}
		}
		if n := s.count(http.MethodPatch, "/v2/two/"); n != 1 {
			t.Errorf("%d uploads into the second repository", n)
		}
	})
	t.Run("other bytes are refused also by a registry that looks at nothing", func(t *testing.T) {
		s := plainRegistry(t)
		s.fault = func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPut {
				w.WriteHeader(http.StatusCreated)
			}
			return r.Method == http.MethodPut
		}
		_, desc := blob("the right ones")
		if err := open(t, s).PutBlob(t.Context(), "a", desc, strings.NewReader("the wrong one!")); err == nil || !strings.Contains(err.Error(), "not that blob") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("a failure is told as it was, and a second attempt works", func(t *testing.T) {
		s := plainRegistry(t)
		var once sync.Once
		s.fault = func(w http.ResponseWriter, r *http.Request) (failed bool) {
			if r.Method == http.MethodPatch {
				once.Do(func() { failed = true; w.WriteHeader(http.StatusBadGateway) })
			}
			return failed
		}
		r := open(t, s)
		data, desc := blob("some layer")
		err := r.PutBlob(t.Context(), "a", desc, bytes.NewReader(data))
		if err == nil || !strings.Contains(err.Error(), "502") {
			t.Fatalf("error %v, want the registry's 502", err)
		}
		if err := r.PutBlob(t.Context(), "a", desc, bytes.NewReader(data)); err != nil {
			t.Error(err)
		}
	})
	t.Run("nothing is buffered", func(t *testing.T) {
		s := plainRegistry(t)
		data, desc := blob(strings.Repeat("0123456789abcdef", 1<<16))
		// The source gives its second half only when the registry has seen the first byte.
		begun := make(chan struct{})
		s.fault = func(_ http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPatch {
				r.Body = &notifies{ReadCloser: r.Body, begun: begun}
			}
			return false
		}
		half := len(data) / 2
		src := io.MultiReader(bytes.NewReader(data[:half]), &waits{begun: begun, ctx: t.Context(), rest: bytes.NewReader(data[half:])})
		if err := open(t, s).PutBlob(t.Context(), "a", desc, src); err != nil {
			t.Fatal(err)
		}
	})
}

// failing is a source that must not be read.
type failing struct{ t *testing.T }

func (f failing) Read([]byte) (int, error) {
	f.t.Error("the source was read")
	return 0, io.EOF
}

type notifies struct {
	io.ReadCloser
	begun chan struct{}
	once  sync.Once
}

func (n *notifies) Read(p []byte) (int, error) {
	c, err := n.ReadCloser.Read(p)
	if c > 0 {
		n.once.Do(func() { close(n.begun) })
	}
	return c, err
}

type waits struct {
	begun chan struct{}
	ctx   context.Context
	rest  io.Reader
}

func (w *waits) Read(p []byte) (int, error) {
	select {
	case <-w.begun:
		return w.rest.Read(p)
	case <-w.ctx.Done():
		return 0, w.ctx.Err()
	}
}
