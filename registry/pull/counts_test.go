package pull

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"time"
)

func TestPuller_Stats(t *testing.T) {
	var marked atomic.Int64
	f := newFixture(t, func(o *Options) { o.Unchecked = func(context.Context) { marked.Add(1) } })
	want := func(what string, stale, bytes int64) Stats {
		t.Helper()
		all := f.Stats()
		if len(all) != 1 || all[0].Upstream != "hub" || all[0].Stale != stale || marked.Load() != stale || all[0].Bytes != bytes || all[0].Down {
			t.Errorf("%s: got %+v, %d answers are marked", what, all, marked.Load())
		}
		return all[0]
	}
	f.wantTag(f.manifest)
	release := make(chan struct{})
	f.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodGet && r.URL.Path == "/v2/"+there+"/blobs/"+f.blob.String() {
			w.Header().Set("Content-Length", "1048576")
			_, _ = w.Write(f.layer[:1000])
			w.(http.Flusher).Flush()
			wait(r, release)
			_, _ = w.Write(f.layer[1000:])
			return true
		}
		return false
	})
	rc, _, err := f.Blob(t.Context(), here, f.blob)
	if err != nil {
		t.Fatal(err)
	}
	rc.Close()
	if s := f.Stats()[0]; s.Downloads != 1 {
		t.Errorf("while a blob comes: %+v", s)
	}
	close(release)
	f.fetches.Wait()
	if s := want("a blob", 0, 1<<20); s.Downloads != 0 || s.Requests["ok"] != 2 {
		t.Errorf("after it: %+v", s)
	}
	f.SetRoutes([]Route{{Prefix: "hub", Source: f.client, TTL: time.Minute}})
	if s := want("a reload", 0, 1<<20); s.Requests["ok"] != 2 {
		t.Errorf("after a reload: %+v", s)
	}
	_, _ = f.Manifest(t.Context(), here, "v9")
	if s := want("404", 0, 1<<20); s.Requests["absent"] != 1 {
		t.Errorf("%+v", s)
	}
	f.misbehave(func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(http.StatusForbidden); return true })
	f.pass(time.Minute)
	for n := range int64(2) { // the second without a request
		f.wantTag(f.manifest)
		want("a tag", n+1, 1<<20)
	}
	f.Hold(errors.New("offline"))
	f.wantTag(f.manifest)
	want("offline", 3, 1<<20)
	f.Hold(nil)
	refused := errors.New("only mirrored content")
	(*f.routes.Load())[0].Permits = func(string) error { return refused }
	f.wantTag(f.manifest)
	want("by configuration", 3, 1<<20)
	s := f.StatsOf("/hub/")
	if s.Answers != 6 || s.Held != 4 { // the manifest and the blob came
		t.Errorf("%d of %d answers were held", s.Held, s.Answers)
	}
	f.Held(here)
	f.Held("elsewhere/image")
	if now := f.StatsOf("hub"); now.Answers != s.Answers+1 || now.Held != s.Held+1 || f.StatsOf("elsewhere").Answers != 0 {
		t.Errorf("of repositories that are held: %+v", now)
	}
}
