//go:build s3

package blobs3_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/store/blobs3"
	"github.com/mirror-appliance/appliance/registry/store/blobs3/s3test"
	"github.com/mirror-appliance/appliance/registry/store/blobstore"
)

var body = bytes.Repeat([]byte("0123456789abcde\n"), 17<<20/16)

// place uploads a blob of three parts.
func place(s *blobs3.Storage, known bool) (err error) {
	d := digest.FromBytes(body)
	var u blobstore.Upload
	if known {
		u, err = s.NewPartial(context.Background(), d, time.Now())
	} else {
		u, err = s.NewUpload("app", time.Now())
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, u.Discard()) }()
	if _, err := io.Copy(u, bytes.NewReader(body)); err != nil {
		return err
	}
	_, err = u.Place(context.Background(), d)
	return err
}

func mustHave(t *testing.T, s *blobs3.Storage) {
	t.Helper()
	r, err := s.Blob(digest.FromBytes(body)).Open(t.Context(), int64(len(body)))
	must(t, err)
	got, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil || !bytes.Equal(got, body) {
		t.Errorf("%d bytes were read of %d, %v", len(got), len(body), err)
	}
}

func completes(r *http.Request) bool {
	return r.Method == http.MethodPost && r.URL.Query().Has("uploadId")
}

func sendsPart(r *http.Request) bool {
	return r.Method == http.MethodPut && r.URL.Query().Has("partNumber")
}

// first has an action for the first n requests of a kind.
func first(n int32, action s3test.Action, kind func(*http.Request) bool) func(*http.Request) s3test.Action {
	var seen atomic.Int32
	return func(r *http.Request) s3test.Action {
		if kind(r) && seen.Add(1) <= n {
			return action
		}
		return s3test.Pass
	}
}

func TestStorage_failuresThatPass(t *testing.T) {
	server := s3test.Start(t)
	any := func(*http.Request) bool { return true }
	for name, fault := range map[string]func(*http.Request) s3test.Action{
		"each request is slowed down once": alternating(s3test.SlowDown),
		"each connection is cut once":      alternating(s3test.Cut),
		"each answer is lost once":         alternating(s3test.Lose),
		"the first three are slowed down":  first(3, s3test.SlowDown, any),
		"the answer of the end is lost":    first(1, s3test.Lose, completes),
		"the connection of a part is cut":  first(2, s3test.Cut, sendsPart),
	} {
		for _, known := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				s := open(t, server, strings.ReplaceAll(name, " ", "-")+map[bool]string{true: "-known"}[known])
				server.Fault(fault)
				err := place(s, known)
				if err == nil {
					mustHave(t, s)
				}
				server.Fault(nil)
				must(t, err)
				left, err := s.Uploads(t.Context()) // of a beginning whose answer was lost
				must(t, err)
				for _, id := range left {
					must(t, s.RemoveUpload(t.Context(), id))
				}
				if ids, err := s.Uploads(t.Context()); err != nil || len(ids) > 0 || len(left) > 1 {
					t.Errorf("%v and then %v are left, %v", left, ids, err)
				}
			})
		}
	}
}

// alternating has an action for the first of the same requests in succession.
func alternating(action s3test.Action) func(*http.Request) s3test.Action {
	var seen atomic.Int32
	return func(*http.Request) s3test.Action {
		if seen.Add(1)%2 == 1 {
			return action
		}
		return s3test.Pass
	}
}

func TestStorage_failuresThatStay(t *testing.T) {
	server := s3test.Start(t)
	s := open(t, server, "failing")
	small := digest.FromString("small")
	for name, fault := range map[string]s3test.Action{"slowed down": s3test.SlowDown, "cut": s3test.Cut} {
		server.Fault(func(*http.Request) s3test.Action { return fault })
		for _, err := range []error{place(s, false), s.Blob(small).Check(t.Context(), 5), s.CheckWritable(t.Context())} {
			if !errors.Is(err, blobstore.ErrUnavailable) || hint.Of(err) == "" || blobstore.IsLoss(err) {
				t.Errorf("%s: %v, hint %q", name, err, hint.Of(err))
			}
		}
		server.Fault(nil)
	}
	must(t, place(s, false))
	mustHave(t, s)
}

// A part that the server has lost must not become a hole in a blob.
func TestStorage_lostPart(t *testing.T) {
	server := s3test.Start(t)
	s := open(t, server, "lost")
	server.Fault(func(r *http.Request) s3test.Action {
		if completes(r) {
			must(t, filepath.WalkDir(server.Dir, func(path string, _ os.DirEntry, _ error) error {
				if filepath.Base(path) == "2" && strings.Contains(path, "multipart") {
					return os.RemoveAll(path)
				}
				return nil
			}))
		}
		return s3test.Pass
	})
	err := place(s, true)
	if !errors.Is(err, blobstore.ErrUnavailable) || !strings.Contains(hint.Of(err), "again") {
		t.Errorf("got %v, hint %q", err, hint.Of(err))
	}
	if s.Blob(digest.FromBytes(body)).Readable(t.Context()) {
		t.Error("the blob exists")
	}
	server.Fault(nil)
	must(t, place(s, true))
	mustHave(t, s)
}

func TestStorage_bucketGone(t *testing.T) {
	server := s3test.Start(t)
	s := open(t, server, "gone")
	must(t, place(s, false))
	must(t, os.Rename(server.Dir, server.Dir+"-elsewhere"))
	err := s.Blob(digest.FromBytes(body)).Check(t.Context(), int64(len(body)))
	if blobstore.IsLoss(err) || !errors.Is(err, blobstore.ErrUnavailable) || !strings.Contains(err.Error(), "bucket does not exist") {
		t.Errorf("got %v", err)
	}
	_, address := server.Address(t, "gone")
	if _, err := blobs3.Open(t.Context(), blobs3.Options{Address: address, Credentials: server.Credentials}); err == nil || hint.Of(err) == "" {
		t.Errorf("a bucket that does not exist opens: %v", err)
	}
	must(t, os.Rename(server.Dir+"-elsewhere", server.Dir))
	mustHave(t, s)
}

func TestOpen_refusesCredentials(t *testing.T) {
	server := s3test.Start(t)
	_, address := server.Address(t, "")
	file := filepath.Join(t.TempDir(), "credentials")
	must(t, os.WriteFile(file, []byte("[default]\naws_access_key_id = test\naws_secret_access_key = wrongwrong\n"), 0o600))
	for _, file := range []string{file, file + "-missing"} {
		_, err := blobs3.Open(t.Context(), blobs3.Options{Address: address, Credentials: file})
		if err == nil || hint.Of(err) == "" || strings.Contains(err.Error(), "wrongwrong") {
			t.Errorf("got %v, hint %q", err, hint.Of(err))
		}
	}
}

// Uploads wait for a place in memory, and all come through.
func TestStorage_manyUploads(t *testing.T) {
	server := s3test.Start(t)
	s := open(t, server, "many")
	ended := make(chan error)
	for range 80 {
		go func() {
			u, err := s.NewUpload("app", time.Now())
			if err == nil {
				_, err = u.Write(body[:1<<20])
				err = errors.Join(err, u.Discard())
			}
			ended <- err
		}()
	}
	for range 80 {
		must(t, <-ended)
	}
}

// A connection that is lost in the middle of a blob is another request for the rest.
func TestReader_goesOn(t *testing.T) {
	server := s3test.Start(t)
	s := open(t, server, "reading")
	must(t, place(s, false))
	var asked atomic.Int32
	halves := first(4, s3test.Half, readsBlob)
	server.Fault(func(r *http.Request) s3test.Action {
		if readsBlob(r) && asked.Add(1) > 1 && (r.Header.Get("Range") == "" || r.Header.Get("If-Match") == "") {
			t.Errorf("request %d has Range %q and If-Match %q", asked.Load(), r.Header.Get("Range"), r.Header.Get("If-Match"))
		}
		return halves(r)
	})
	mustHave(t, s)
	if asked.Load() != 5 {
		t.Errorf("it was asked %d times", asked.Load())
	}

	var began atomic.Bool
	server.Fault(func(*http.Request) s3test.Action {
		if began.Swap(true) {
			return s3test.Cut
		}
		return s3test.Half
	})
	r, err := s.Blob(digest.FromBytes(body)).Open(t.Context(), int64(len(body)))
	must(t, err)
	defer r.Close()
	if _, err := io.ReadAll(r); !errors.Is(err, blobstore.ErrUnavailable) || hint.Of(err) == "" {
		t.Errorf("while it is down: %v, hint %q", err, hint.Of(err))
	}
}

// A server that breaks off again and again is read from as long as bytes come, and not for ever without.
func TestReader_givesUp(t *testing.T) {
	server := s3test.Start(t)
	s := open(t, server, "broken")
	must(t, place(s, false))
	server.Fault(first(12, s3test.Half, readsBlob))
	mustHave(t, s)

	var asked atomic.Int32
	server.Fault(func(r *http.Request) s3test.Action {
		switch {
		case !readsBlob(r):
			return s3test.Pass
		case asked.Add(1) == 1:
			return s3test.Half
		}
		return s3test.Head
	})
	r, err := s.Blob(digest.FromBytes(body)).Open(t.Context(), int64(len(body)))
	must(t, err)
	defer r.Close()
	got, err := io.ReadAll(r)
	if !errors.Is(err, blobstore.ErrUnavailable) || hint.Of(err) == "" || !bytes.HasPrefix(body, got) || len(got) == 0 {
		t.Errorf("%d bytes of %d, then %v, hint %q", len(got), len(body), err, hint.Of(err))
	}
	if asked.Load() != 6 {
		t.Errorf("it was asked %d times", asked.Load())
	}
}

func readsBlob(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/sha256/")
}

// Of an object that was replaced since the first answer no byte follows.
func TestReader_ofAnotherObject(t *testing.T) {
	server := s3test.Start(t)
	s := open(t, server, "replaced")
	must(t, place(s, false))
	var once atomic.Bool
	server.Fault(func(r *http.Request) s3test.Action {
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/sha256/") && !once.Swap(true) {
			return s3test.Half
		}
		return s3test.Pass
	})
	d := digest.FromBytes(body)
	r, err := s.Blob(d).Open(t.Context(), int64(len(body)))
	must(t, err)
	defer r.Close()
	put(t, server, "replaced/"+blobstore.Name(d), bytes.ToUpper(body))
	got, err := io.ReadAll(r)
	if err == nil || !bytes.HasPrefix(body, got) {
		t.Errorf("%d bytes were read of two objects, %v", len(got), err)
	}
}

// A request without an answer ends with that of the client, and proves no loss.
func TestStorage_hangs(t *testing.T) {
	server := s3test.Start(t)
	s := open(t, server, "hanging")
	must(t, place(s, false))
	for name, ask := range map[string]func(context.Context) error{
		"look": func(ctx context.Context) error {
			return s.Blob(digest.FromBytes(body)).Check(ctx, int64(len(body)))
		},
		"read": func(ctx context.Context) error {
			_, err := s.Blob(digest.FromBytes(body)).Open(ctx, int64(len(body)))
			return err
		},
		"list": func(ctx context.Context) error { _, err := s.Uploads(ctx); return err },
	} {
		ctx, giveUp := context.WithCancel(t.Context())
		server.Fault(func(*http.Request) s3test.Action { giveUp(); return s3test.Hang })
		if err := ask(ctx); !errors.Is(err, context.Canceled) || blobstore.IsLoss(err) {
			t.Errorf("%s: %v", name, err)
		}
		server.Fault(nil)
		giveUp()
	}
	mustHave(t, s)
}
