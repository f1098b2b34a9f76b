//go:build s3

package blobs3_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/registry/store/blobs3/s3test"
	"github.com/mirror-appliance/appliance/registry/store/blobstore"
)

// What several daemons of one bucket need of it.

// A removal whose answer was lost is not asked for again while the first request may come to its end:
// by then another daemon may have put the blob.
func TestOnce_isOneRequest(t *testing.T) {
	server := s3test.Start(t)
	s := open(t, server, "")
	d := digest.FromString("blob")
	for name, c := range map[string]struct {
		action s3test.Action
		once   bool
		want   int32
		fails  bool
	}{
		"a lost answer":                 {s3test.Lose, true, 1, true},
		"a server that is busy":         {s3test.SlowDown, true, 1, true},
		"a lost answer, with retries":   {s3test.Lose, false, 2, false},
		"an answer that is not delayed": {s3test.Pass, true, 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			put(t, server, blobstore.Name(d), []byte("blob"))
			var asked atomic.Int32
			server.Fault(func(r *http.Request) s3test.Action {
				if r.Method == http.MethodDelete && asked.Add(1) == 1 {
					return c.action
				}
				return s3test.Pass
			})
			defer server.Fault(nil)
			ctx := t.Context()
			if c.once {
				ctx = blobstore.Once(ctx)
			}
			_, err := s.Blob(d).Remove(ctx)
			if (err != nil) != c.fails || c.fails && !errors.Is(err, blobstore.ErrUnavailable) || asked.Load() != c.want {
				t.Errorf("%v after %d requests", err, asked.Load())
			}
		})
	}
}

// A blob that was removed after it was placed is placed again, unless its parts went to its own key: then
// the error is the one of a file that is gone, and the client sends it again.
func TestPlace_again(t *testing.T) {
	server := s3test.Start(t)
	for name, c := range map[string]struct {
		content []byte
		known   bool
	}{
		"small":             {[]byte("small"), false},
		"in parts":          {body, false},
		"in parts of a key": {body, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, server, strings.ReplaceAll(name, " ", "-"))
			d := digest.FromBytes(c.content)
			u, err := s.NewUpload("app", time.Now())
			if c.known {
				u, err = s.NewPartial(t.Context(), d, time.Now())
			}
			must(t, err)
			_, err = io.Copy(u, bytes.NewReader(c.content))
			must(t, err)
			for range 2 { // the second time it is there
				_, err = u.Place(t.Context(), d)
				must(t, err)
			}
			_, err = s.Blob(d).Remove(t.Context())
			must(t, err)
			_, err = u.Place(t.Context(), d)
			switch {
			case c.known && !errors.Is(err, fs.ErrNotExist):
				t.Errorf("it is placed: %v", err)
			case !c.known && err != nil:
				t.Error(err)
			case !c.known && s.Blob(d).Check(t.Context(), int64(len(c.content))) != nil:
				t.Error("it is not there")
			}
			must(t, u.Discard())
		})
	}
}
