//go:build s3

package blobs3

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/store/blobs3/s3test"
	"github.com/mirror-appliance/appliance/registry/store/blobstore"
)

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func opened(t *testing.T, server *s3test.Server) *Storage {
	t.Helper()
	_, address := server.Address(t, "")
	s, err := Open(t.Context(), Options{Address: address, Credentials: server.Credentials})
	check(t, err)
	return s
}

// begun begins an upload of which a part has been sent.
func begun(t *testing.T, s *Storage, content []byte) *upload {
	t.Helper()
	u, err := s.NewUpload("app", time.Now())
	check(t, err)
	_, err = io.Copy(u, bytes.NewReader(content))
	check(t, err)
	check(t, u.Save(time.Time{}))
	return u.(*upload)
}

// isSilent checks the error of a storage that hangs.
func isSilent(t *testing.T, err error) {
	t.Helper()
	if !errors.As(err, new(*silentError)) || !errors.Is(err, blobstore.ErrUnavailable) || blobstore.IsLoss(err) || hint.Of(err) == "" {
		t.Errorf("got %v, hint %q", err, hint.Of(err))
	}
}

// holding opens a storage that has a blob of three parts.
func holding(t *testing.T, server *s3test.Server) (s *Storage, content []byte, d digest.Digest) {
	t.Helper()
	content = bytes.Repeat([]byte("0123456789abcde\n"), 17<<20/16)
	s, d = opened(t, server), digest.FromBytes(content)
	u := begun(t, s, content)
	_, err := u.Place(t.Context(), d)
	check(t, err)
	check(t, u.Discard())
	return s, content, d
}

// While the storage hangs, each request ends once it has been silent.
func TestStorage_silence(t *testing.T) {
	server := s3test.Start(t)
	s, content, d := holding(t, server)
	parted := begun(t, s, content)
	for name, c := range map[string]struct {
		ask  func(context.Context) error
		most int32 // requests
	}{
		"look":     {func(ctx context.Context) error { return s.Blob(d).Check(ctx, int64(len(content))) }, 1},
		"read":     {func(ctx context.Context) error { _, err := s.Blob(d).Open(ctx, int64(len(content))); return err }, 1},
		"list":     {func(ctx context.Context) error { _, err := s.Uploads(ctx); return err }, 1},
		"write":    {s.CheckWritable, 1},
		"save":     {func(context.Context) error { return parted.Save(time.Time{}) }, 1},
		"copy":     {s.Blob(d).Quarantine, 1},
		"complete": {func(ctx context.Context) error { return parted.complete(ctx) }, 1},
		"open":     {s.check, 1},
	} {
		var asked atomic.Int32
		server.Fault(func(*http.Request) s3test.Action { asked.Add(1); return s3test.Hang })
		s.silence = 200 * time.Millisecond
		t.Run(name, func(t *testing.T) {
			isSilent(t, c.ask(t.Context()))
			if asked.Load() > c.most {
				t.Errorf("it was asked %d times", asked.Load())
			}
		})
		s.silence = time.Minute
		server.Fault(nil)
	}
	_, err := parted.Place(t.Context(), d)
	check(t, err)
	check(t, parted.Discard())
}

// What hangs in the middle of what needs several requests ends as well: the copy of a blob, the end of an upload, and
// what a start asks for besides.
func TestStorage_silenceLater(t *testing.T) {
	server := s3test.Start(t)
	content := bytes.Repeat([]byte("0123456789abcde\n"), 17<<20/16)
	s := opened(t, server)
	u := begun(t, s, content)
	kinds := map[string]func(*http.Request) bool{
		"copy":      func(r *http.Request) bool { return r.Header.Get("X-Amz-Copy-Source") != "" },
		"complete":  func(r *http.Request) bool { return r.Method == http.MethodPost && r.URL.Query().Has("uploadId") },
		"lifecycle": func(r *http.Request) bool { return r.URL.Query().Has("lifecycle") },
		"retention": func(r *http.Request) bool { return r.URL.Query().Has("object-lock") },
		"versions":  func(r *http.Request) bool { return r.URL.Query().Has("versioning") },
	}
	for _, name := range []string{"lifecycle", "retention", "versions", "complete", "copy"} {
		t.Run(name, func(t *testing.T) {
			var hangs atomic.Bool
			server.Fault(func(r *http.Request) s3test.Action {
				if kinds[name](r) {
					hangs.Store(true)
				}
				if hangs.Load() {
					return s3test.Hang
				}
				return s3test.Pass
			})
			defer server.Fault(nil)
			s.silence = 3 * time.Second // which the requests before have too
			if name == "complete" || name == "copy" {
				_, err := u.Place(t.Context(), digest.FromBytes(content))
				isSilent(t, err)
				return
			}
			isSilent(t, s.check(t.Context()))
		})
	}
	s.silence = time.Minute
	_, err := u.Place(t.Context(), digest.FromBytes(content))
	check(t, err)
	check(t, u.Discard())
}

// A blob whose bytes cease is asked for again, and given up when the storage does not answer.
func TestReader_silence(t *testing.T) {
	server := s3test.Start(t)
	s, content, d := holding(t, server)
	for _, c := range []struct {
		then    s3test.Action
		silence time.Duration
	}{{s3test.Hang, 200 * time.Millisecond}, {s3test.Pass, 5 * time.Second}} {
		var began atomic.Bool
		server.Fault(func(r *http.Request) s3test.Action {
			if strings.Contains(r.URL.Path, "/sha256/") && !began.Swap(true) {
				return s3test.Stall
			}
			return c.then
		})
		r, err := s.Blob(d).Open(t.Context(), int64(len(content)))
		check(t, err)
		s.silence = c.silence
		got, err := io.ReadAll(r)
		check(t, r.Close())
		if c.then == s3test.Hang {
			isSilent(t, err)
		} else {
			check(t, err)
		}
		if !bytes.HasPrefix(content, got) || len(got) == 0 || err == nil && len(got) < len(content) {
			t.Errorf("%d bytes of %d", len(got), len(content))
		}
		s.silence = time.Minute
		server.Fault(nil)
	}
}
