package follow_test

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/gc"
)

// A follower whose requests hang hinders neither pushes nor another follower.
func TestFollower_slowOneHindersNothing(t *testing.T) {
	first, slow, other := newHost(t), newHost(t), newHost(t)
	fill(first)
	hangs := make(chan struct{}, 100)
	first.through(func(inner http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !strings.Contains(r.URL.RawQuery, slowID(slow)) {
				inner.ServeHTTP(w, r)
				return
			}
			inner.ServeHTTP(&writer{w, func(p []byte) (int, error) { // reads nothing of the answer
				hangs <- struct{}{}
				<-r.Context().Done()
				return 0, r.Context().Err()
			}}, r)
		})
	})
	s, f := first.start(slow), first.start(other)
	<-hangs
	for i := range 20 {
		first.push("app", newImage(fmt.Sprint("push ", i), nil), fmt.Sprint("t", i))
	}
	f.catchUp()
	equal(t, first, other)
	s.stop()
}

// slowID is how the id of a follower looks in a query.
func slowID(h *host) string {
	return "follower=" + strings.NewReplacer("/", "%2F", " ", "+").Replace("of "+h.dir)
}

// Two followers, and one of a follower, are equal.
func TestFollower_several(t *testing.T) {
	first, second, third, fourth := newHost(t), newHost(t), newHost(t), newHost(t)
	fill(first)
	b, c, d := first.start(second), first.start(third), second.start(fourth)
	for _, f := range []*following{b, c, d} {
		f.catchUp()
	}
	first.push("app", newImage("later", nil), "t")
	first.pullBlobs("hub/sparse", newImage("sparse", nil, []byte("s"), []byte("s2")), 4) // all
	first.must(first.Users.Delete(first.ctx, "eva"))
	for _, f := range []*following{b, c, d} {
		f.catchUp()
	}
	for _, h := range []*host{second, third, fourth} {
		equal(t, first, h)
	}
	followers, err := first.Feed.List(first.ctx)
	first.must(err)
	if len(followers) != 2 {
		t.Errorf("the first has the followers %v", followers)
	}
}

// A follower that is behind the horizon takes a new list, and what it has too much goes.
func TestFollower_behindTheHorizon(t *testing.T) {
	first, second := newFileHost(t), newFileHost(t)
	fill(first)
	f := first.start(second)
	f.catchUp()
	f.stop()
	first.must(first.Feed.Remove(first.ctx, "of "+second.dir))
	_, err := first.Manifests.DeleteImage(first.ctx, "other", newImage("untagged", nil).digest())
	first.must(err)
	first.must(first.Users.Delete(first.ctx, "eva"))
	first.must(first.Clusters.Delete(first.ctx, "c1"))
	first.must(first.Tags.Delete(first.ctx, "team/app", "v1"))
	first.must(first.Runs.Want(first.ctx, "image set", json.RawMessage("null")))
	f = first.start(second)
	mustCatchUp(t, f)
	equal(t, first, second)
	if _, ok := second.content()["user eva"]; ok {
		t.Error("what it had too much is there")
	}
}

// A follower that is away for longer than changes are kept for it lists everything again, once, and ends equal. So does one
// that runs while its registration goes.
func TestFollower_awayForLong(t *testing.T) {
	for name, lose := range map[string]func(first, second *host, f *following){
		"stopped": func(first, second *host, f *following) {
			f.stop()
			first.must(first.Close())
			db, err := sql.Open("sqlite", filepath.Join(first.dir, "appliance.db"))
			first.must(err)
			_, err = db.Exec(`UPDATE followers SET seen = ?`, time.Now().Add(-31*24*time.Hour).UnixNano())
			first.must(err)
			first.must(db.Close())
			first.open()
			first.must(first.Maintain(first.ctx))
		},
		"running": func(first, second *host, f *following) { first.must(first.Feed.Remove(first.ctx, "of "+second.dir)) },
	} {
		t.Run(name, func(t *testing.T) {
			first, second := newFileHost(t), newFileHost(t)
			fill(first)
			o := first.options(second)
			var log bytes.Buffer
			o.Log = slog.New(slog.NewTextHandler(&log, nil))
			f := first.startWith(o)
			f.catchUp()
			lose(first, second, f)
			first.must(first.Clusters.Delete(first.ctx, "c1"))
			first.must(first.Tags.Delete(first.ctx, "team/app", "v1"))
			first.push("app", newImage("meanwhile", nil), "t")
			if name == "stopped" {
				f = first.startWith(o)
			}
			mustCatchUp(t, f)
			equal(t, first, second)
			f.stop()
			if n := strings.Count(log.String(), "the first lists all that it has"); n != 2 {
				t.Errorf("everything was listed %d times:\n%s", n, &log)
			}
		})
	}
}

// What came before the follower fell behind the horizon, and did not show, may be less than the first has then.
func TestFollower_moreOfWhatCame(t *testing.T) {
	first, second := newHost(t), newHost(t)
	sparse, last := newImage("sparse", nil, []byte("s"), []byte("s2")), newImage("last", nil, []byte("the last"))
	first.page = 1
	first.pull("hub", sparse, 1, "t")
	first.push("late", last, "t")
	reached := make(chan struct{}, 100)
	end := first.through(func(inner http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, blob([]byte("the last")).Digest.String()) {
				reached <- struct{}{}
				<-r.Context().Done()
				return
			}
			inner.ServeHTTP(w, r)
		})
	})
	f := first.start(second)
	<-reached
	f.stop()
	end()
	first.must(first.Feed.Remove(first.ctx, "of "+second.dir))
	first.pullBlobs("hub", sparse, 4) // all
	f = first.start(second)
	mustCatchUp(t, f)
	equal(t, first, second)
}

// Collections at the follower take nothing that came and does not show yet.
func TestFollower_collectionsSpareWhatCame(t *testing.T) {
	first, second := newHost(t), newHost(t)
	fill(first)
	layer := []byte("the last layer")
	first.push("late", newImage("late", nil, layer), "t")
	reached := make(chan struct{})
	release := make(chan struct{})
	first.through(func(inner http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, blob(layer).Digest.String()) {
				close(reached)
				<-release
			}
			inner.ServeHTTP(w, r)
		})
	})
	f := first.start(second)
	<-reached
	later := time.Now().Add(time.Hour) // by which nothing has been used for long
	plan, err := gc.MakePlan(t.Context(), second.Garbage, gc.Options{Before: later, RunsBefore: later})
	second.must(err)
	_, err = plan.Execute(t.Context(), second.Garbage, nil)
	second.must(err)
	close(release)
	f.catchUp()
	equal(t, first, second)
}
