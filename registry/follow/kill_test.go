package follow_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/registry/follow"
	"github.com/mirror-appliance/appliance/registry/store"
	"github.com/mirror-appliance/appliance/registry/store/storetest"
)

// The environment of the test binary when it is the process that is killed.
const (
	killedDir = "FOLLOW_KILLED_DIR"
	killedURL = "FOLLOW_KILLED_URL"
	killedCA  = "FOLLOW_KILLED_CA"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(killedDir); dir != "" {
		fmt.Fprintln(os.Stderr, followForEver(dir))
		os.Exit(1)
	}
	if dir := os.Getenv(servedDir); dir != "" {
		fmt.Fprintln(os.Stderr, served(dir))
		os.Exit(1)
	}
	storetest.Run(m)
}

func followForEver(dir string) error {
	s, err := store.Open(context.Background(), store.Options{Database: filepath.Join(dir, "appliance.db"), Storage: filepath.Join(dir, "storage")})
	if err != nil {
		return err
	}
	f, err := follow.New(follow.Options{Store: s, URL: os.Getenv(killedURL), CA: os.Getenv(killedCA), User: "admin", Password: "x", Users: true,
		Own: store.Follower{ID: "of " + dir, Address: "follower:8443", Token: "t"}})
	if err != nil {
		return err
	}
	f.SetPage(3)
	return f.Run(context.Background())
}

// kill runs a follower in a process of its own, and kills it once ready has returned.
func (h *host) kill(other *host, ready func()) {
	h.t.Helper()
	o := h.options(other)
	c := exec.CommandContext(h.ctx, os.Args[0])
	c.Env = append(os.Environ(), killedDir+"="+other.dir, killedURL+"="+o.URL, killedCA+"="+o.CA)
	var out strings.Builder
	c.Stderr = &out
	h.must(c.Start())
	ready()
	h.must(c.Process.Kill())
	if err := c.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		h.t.Fatalf("it ended by itself: %v\n%s", err, out.String())
	}
}

// largest returns the size of the largest file of a host's storage.
func (h *host) largest() (size int64) {
	_ = filepath.WalkDir(filepath.Join(h.dir, "storage"), func(_ string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			if info, err := e.Info(); err == nil {
				size = max(size, info.Size())
			}
		}
		return nil
	})
	return size
}

// After kill -9 in the middle of a large blob, the follower goes on where it was.
func TestFollower_killed(t *testing.T) {
	first, second := newFileHost(t), newFileHost(t)
	layer := make([]byte, 16<<20)
	_, _ = rand.Read(layer)
	fill(first)
	first.push("big", newImage("big", nil, layer), "t")
	d := digest.FromBytes(layer)
	second.must(second.Close())
	var sent sync.WaitGroup
	first.through(func(inner http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !strings.HasSuffix(r.URL.Path, d.String()) {
				inner.ServeHTTP(w, r)
				return
			}
			sent.Add(1)
			defer sent.Done()
			w.Header().Set("Content-Length", fmt.Sprint(len(layer)))
			_, _ = w.Write(layer[:10<<20])
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		})
	})
	first.kill(second, func() {
		for second.largest() < 9<<20 {
			time.Sleep(10 * time.Millisecond)
		}
	})
	sent.Wait()
	second.open()
	ranges := first.ranges(d)
	f := first.start(second)
	f.catchUp()
	equal(t, first, second)
	var from int
	got := ranges()
	if len(got) != 1 {
		t.Fatalf("the blob was asked for with the ranges %q", got)
	}
	if _, err := fmt.Sscanf(got[0], "bytes=%d-", &from); err != nil || from < 9<<20 {
		t.Errorf("the blob was asked for with the range %q: %v", got[0], err)
	}
}

// Killed at any moment, it is equal after a restart, and shows no run in part before.
func TestFollower_killedAtAnyMoment(t *testing.T) {
	first, second := newFileHost(t), newFileHost(t)
	places := [][2]string{{"a", "x"}, {"b", "x"}, {"c", "x"}}
	for n := range 6 {
		images := map[[2]string]image{}
		for _, at := range places {
			images[at] = newImage(fmt.Sprint("kill ", n), nil, fmt.Appendf(nil, "layer of %d", n))
		}
		first.must(first.run(fmt.Sprint(n), images).Commit(first.ctx))
		second.must(second.Close())
		first.counted()
		first.kill(second, func() {
			for seen := 0; seen < 2+2*n; time.Sleep(time.Millisecond) {
				for _, n := range first.counted() {
					seen += n
				}
				if second.largest() > 0 && n == 0 {
					break
				}
			}
		})
		second.open()
		tags, err := second.Tags.All(second.ctx, store.Tag{}, 100)
		second.must(err)
		for _, tag := range tags {
			if len(tags) != len(places) || tag.Digest != tags[0].Digest {
				t.Errorf("after kill %d it shows %v", n, tags)
			}
		}
	}
	f := first.start(second)
	f.catchUp()
	equal(t, first, second)
}
