package follow_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/diskspace/diskspacetest"
	"github.com/mirror-appliance/appliance/registry/follow"
	"github.com/mirror-appliance/appliance/registry/store"
)

// writer changes the body of an answer.
type writer struct {
	http.ResponseWriter
	write func(p []byte) (int, error)
}

func (w *writer) Write(p []byte) (int, error) { return w.write(p) }

// cutBlob has the first answer with a blob end after n bytes, and later ones wait. The channel is closed
// once it has.
func (h *host) cutBlob(d digest.Digest, n int) (cut <-chan struct{}) {
	done := make(chan struct{})
	h.through(func(inner http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodGet || !strings.HasSuffix(r.URL.Path, d.String()) {
				inner.ServeHTTP(w, r)
				return
			}
			select {
			case <-done:
				<-r.Context().Done()
				return
			default:
			}
			left := n
			inner.ServeHTTP(&writer{w, func(p []byte) (int, error) {
				p = p[:min(len(p), left)]
				left -= len(p)
				if _, err := w.Write(p); err != nil {
					return 0, err
				}
				if left == 0 {
					w.(http.Flusher).Flush()
					return len(p), errors.New("cut")
				}
				return len(p), nil
			}}, r)
			close(done)
			panic(http.ErrAbortHandler)
		})
	})
	return done
}

// ranges collects the ranges of the requests for a blob.
func (h *host) ranges(d digest.Digest) func() []string {
	var mu sync.Mutex
	var all []string
	h.through(func(inner http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, d.String()) {
				mu.Lock()
				all = append(all, r.Header.Get("Range"))
				mu.Unlock()
			}
			inner.ServeHTTP(w, r)
		})
	})
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return all
	}
}

// A first that hands out other bytes, or fewer, is not believed: nothing of it shows, the error names the
// content, and all goes on once it is mended.
func TestFollower_verifiesContent(t *testing.T) {
	flip := func(p []byte) []byte {
		p = append([]byte{}, p...)
		p[0] ^= 1
		return p
	}
	short := func(p []byte) []byte { return p[:len(p)-1] }
	other := func(p []byte) []byte {
		return bytes.Replace(p, []byte("image.config.v1"), []byte("image.config.v2"), 1)
	}
	for name, c := range map[string]struct {
		path string
		bad  func([]byte) []byte
	}{
		"wrong blob": {"/blobs/", flip}, "short blob": {"/blobs/", short},
		"wrong manifest": {"/manifests/", flip}, "short manifest": {"/manifests/", short}, "another manifest": {"/manifests/", other},
	} {
		t.Run(name, func(t *testing.T) {
			first, second := newHost(t), newHost(t)
			good := newImage("good", nil)
			first.push("app", good, "t")
			f := first.start(second)
			f.catchUp()
			was := second.content()

			bad := newImage("bad "+name, nil, []byte("a layer"))
			first.push("app", bad, "t", "u")
			mend := first.through(func(inner http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if !strings.Contains(r.URL.Path, c.path) {
						inner.ServeHTTP(w, r)
						return
					}
					inner.ServeHTTP(&writer{w, func(p []byte) (int, error) { return w.Write(c.bad(p)) }}, r)
				})
			})
			err := f.CatchUp(t.Context())
			for err == nil && second.content()["tag app:u"] == "" { // an attempt that was under way
				err = f.CatchUp(t.Context())
			}
			if err == nil {
				t.Fatal("it shows what the first does not have")
			}
			if !strings.Contains(err.Error(), "sha256:") {
				t.Errorf("the error does not name the content: %v", err)
			}
			if f.State().Error == nil || f.State().Retry.IsZero() {
				t.Errorf("its state is %+v", f.State())
			}
			now := second.content()
			if len(now) != len(was) || now["tag app:t"] != good.digest().String() || now["tag app:u"] != "" {
				t.Errorf("it shows %v", now)
			}
			_ = f.CatchUp(t.Context()) // by now it has asked with all that it has saved
			_ = f.CatchUp(t.Context())
			if at := first.follower(); at.Pending == 0 {
				t.Errorf("the first takes it for equal: %+v", at)
			}
			mend()
			mustCatchUp(t, f)
			equal(t, first, second)
			for at := first.follower(); at.Pending > 0 || at.Listing; at = first.follower() { // once it asks for more
				time.Sleep(time.Millisecond)
			}
		})
	}
}

// mustCatchUp waits until the follower is equal, through attempts that fail.
func mustCatchUp(t *testing.T, f *following) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := f.CatchUp(ctx)
	for err != nil && ctx.Err() == nil {
		err = f.CatchUp(ctx)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// The first goes away and comes back.
func TestFollower_firstIsDown(t *testing.T) {
	first, second := newHost(t), newHost(t)
	fill(first)
	var down, damaged atomic.Bool
	var f atomic.Pointer[follow.Follower]
	during := make(chan error, 100) // what is told while content is fetched
	first.through(func(inner http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if down.Load() || damaged.Load() && strings.Contains(r.URL.Path, "/blobs/") {
				panic(http.ErrAbortHandler)
			}
			if now := f.Load(); now != nil && strings.Contains(r.URL.Path, "/manifests/") {
				during <- now.State().Error
			}
			inner.ServeHTTP(w, r)
		})
	})
	running := first.start(second)
	running.catchUp()
	f.Store(running.Follower)
	down.Store(true)
	first.push("app", newImage("while it is down", nil), "t")
	if err := running.CatchUp(t.Context()); err == nil {
		t.Error("it has caught up")
	}
	if s := running.State(); s.Connected || s.Error == nil || s.Equal.IsZero() {
		t.Errorf("its state is %+v", s)
	}
	damaged.Store(true)
	down.Store(false)
	for err := running.CatchUp(t.Context()); err == nil || !strings.Contains(err.Error(), "fetch blob"); err = running.CatchUp(t.Context()) {
	}
	if s := running.State(); !s.Connected {
		t.Errorf("a first that answers, whose content is not read, is told as one that does not answer: %+v", s)
	}
	if err := <-during; err != nil {
		t.Errorf("while content is fetched the error is told of the time when the first was down: %v", err)
	}
	damaged.Store(false)
	mustCatchUp(t, running)
	equal(t, first, second)
}

// The error of a first that was down ends with its first answer, which therefore does not wait for a change.
func TestFollower_errorEnds(t *testing.T) {
	first, second := newHost(t), newHost(t)
	fill(first)
	var down atomic.Bool
	waits := make(chan string, 1)
	first.through(func(inner http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if down.Load() {
				panic(http.ErrAbortHandler)
			}
			select {
			case waits <- r.URL.Query().Get("wait"):
			default:
			}
			inner.ServeHTTP(w, r)
		})
	})
	f := first.start(second)
	f.catchUp()
	down.Store(true)
	for f.State().Error == nil {
		_ = f.CatchUp(t.Context()) // which fails
	}
	<-waits // of the time before
	down.Store(false)
	if wait := <-waits; wait != "0" {
		t.Errorf("after a failure it waits %s seconds for a change", wait)
	}
	for f.State().Error != nil {
		time.Sleep(time.Millisecond)
	}
}

// A follower whose own database fails does not take the first for one that does not answer.
func TestFollower_ownDatabaseFails(t *testing.T) {
	first, second := newHost(t), newFileHost(t)
	fill(first)
	f := first.start(second)
	f.catchUp()
	f.stop()
	first.must(first.Feed.Remove(first.ctx, "of "+second.dir)) // so that it begins anew
	db, err := sql.Open("sqlite", "file:"+filepath.Join(second.dir, "appliance.db")+"?_pragma=busy_timeout(10000)")
	first.must(err)
	defer db.Close()
	_, err = db.Exec(`CREATE TRIGGER broken BEFORE UPDATE ON following BEGIN SELECT raise(abort, 'broken'); END`)
	first.must(err)
	f = first.start(second)
	if err := f.CatchUp(t.Context()); err == nil || !strings.Contains(err.Error(), "broken") || strings.Contains(err.Error(), first.server.URL) {
		t.Errorf("the error is %v", err)
	}
	if s := f.State(); !s.Connected {
		t.Errorf("its state is %+v", s)
	}
	_, err = db.Exec(`DROP TRIGGER broken`)
	first.must(err)
	mustCatchUp(t, f)
	equal(t, first, second)
}

// A manifest that goes between the page that names it and its fetch is no error.
func TestFollower_contentThatVanishes(t *testing.T) {
	first, second := newHost(t), newHost(t)
	fill(first)
	gone := newImage("gone", nil, []byte("gone"))
	first.push("app", gone, "t")
	var once sync.Once
	first.through(func(inner http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.Path, "/manifests/"+gone.digest().String()) {
				once.Do(func() {
					_, err := first.Manifests.DeleteImage(first.ctx, "app", gone.digest())
					first.must(err)
				})
			}
			inner.ServeHTTP(w, r)
		})
	})
	f := first.start(second)
	mustCatchUp(t, f)
	equal(t, first, second)
}

// What the first has not pulled through is not pulled through because it is followed.
func TestFollower_asksForWhatIsHeld(t *testing.T) {
	first, second := newHost(t), newHost(t)
	var other atomic.Int32
	first.through(func(inner http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.URL.Path, "/v2/hub") && r.Header.Get("Cache-Control") != "only-if-cached" {
				other.Add(1)
			}
			inner.ServeHTTP(w, r)
		})
	})
	sparse := newImage("sparse", nil, []byte("s"))
	first.pull("hub", sparse, 1, "t")
	f := first.start(second)
	f.catchUp()
	equal(t, first, second)
	if other.Load() > 0 {
		t.Error("the first was asked for what it would have to pull through")
	}
	if _, err := second.Blobs.Stat(t.Context(), "hub", digest.FromString("s")); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the blob that the first lacks: %v", err)
	}
}

// A follower without space for the changes themselves tells how many there are, and goes on once there is space.
func TestFollower_noSpaceForChanges(t *testing.T) {
	dir, full := diskspacetest.Small(t)
	first, second := newHost(t), newHostIn(t, dir)
	fill(first)
	f := first.start(second)
	f.catchUp()
	full()
	first.must(first.Runs.Want(first.ctx, "large", json.RawMessage(`["`+strings.Repeat("x", 2<<20)+`"]`)))
	err := f.CatchUp(t.Context())
	for err == nil { // an attempt that was under way
		err = f.CatchUp(t.Context())
	}
	if s := f.State(); !errors.As(err, new(*store.FullError)) || s.Changes != 1 || s.CaughtUp || !s.Connected {
		t.Errorf("its state is %+v after %v", s, err)
	}
	first.must(os.Remove(filepath.Join(dir, "filler")))
	mustCatchUp(t, f)
	equal(t, first, second)
}
