package pull

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/registry/store"
)

// dead is the upstream that breaks off each connection without an answer.
func dead(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) }

// wantDown checks that an error is that of an upstream that is not asked.
func wantDown(t *testing.T, what string, err error) {
	t.Helper()
	var down *downError
	if !errors.As(err, &down) || errors.Is(err, store.ErrNotFound) {
		t.Errorf("%s: got %v", what, err)
		return
	}
	if status, after := down.Refused(); status != 0 || after <= 0 || after > openTime || strings.Contains(err.Error(), "secret") {
		t.Errorf("%s: status %d, Retry-After %s, %v", what, status, after, err)
	}
}

// cutOff has the upstream break off each connection, and asks for images of two repositories.
func (f *fixture) cutOff() {
	f.t.Helper()
	f.misbehave(dead)
	for _, repo := range []string{"hub/secret/image", "hub/another/image"} {
		if _, err := f.Manifest(f.t.Context(), repo, "v1"); err == nil || errors.Is(err, store.ErrNotFound) || errors.As(err, new(*downError)) {
			f.t.Fatalf("%s: got %v", repo, err)
		}
	}
}

// askAll sends each kind of request for what is not held, in a repository, and calls check with its
// error.
func (f *fixture) askAll(repo string, check func(what string, err error)) {
	ctx, d := f.t.Context(), digest.FromString("other")
	for _, ref := range []string{"v7", d.String()} {
		_, err := f.Manifest(ctx, repo, ref)
		check("manifest "+ref, err)
		_, err = f.Resolve(ctx, repo, ref)
		check("resolve "+ref, err)
	}
	_, err := f.Stat(ctx, repo, d)
	check("stat", err)
	_, _, err = f.Blob(ctx, repo, d)
	check("blob", err)
	_, err = f.Tags(ctx, repo, false)
	check("tags", err)
	_, err = f.Referrers(ctx, repo, d)
	check("referrers", err)
}

func TestCircuit_opensForTheWholeUpstream(t *testing.T) {
	f := newFixture(t)
	f.wantTag(f.manifest)
	f.cutOff()
	asked := f.total()
	f.askAll("hub/other/image", func(what string, err error) {
		wantDown(t, what, err)
		if err != nil && !strings.Contains(err.Error(), "closed before an answer") {
			t.Errorf("%s: no reason in %v", what, err)
		}
	})
	f.pass(openTime - time.Second)
	f.askAll("hub/other/image", func(what string, err error) { wantDown(t, what, err) })
	f.wantAbsent(signatureOf(f.manifest, ".sig"))
	if _, err := f.Tags(t.Context(), here, true); err == nil {
		t.Error("tags of an upstream that is down")
	}
	f.pass(time.Minute - openTime) // the TTL of the tag
	if list, err := f.Referrers(t.Context(), here, f.manifest); err != nil || len(list) != 0 {
		t.Errorf("referrers: %v, %v", list, err)
	}
	if f.log.count("WARN", "does not answer: what is stored is served, and nothing is fetched") != 1 {
		t.Error("not logged once")
	}
	if n := f.total() - asked; n != 3 { // the probe, with its retries
		t.Errorf("%d requests to an upstream that is down", n)
	}
	asked = f.total()
	f.wantTag(f.manifest) // held
	f.wantAbsent(signatureOf(f.manifest, ".sig"))
	if n := f.total() - asked; n != 0 {
		t.Errorf("%d requests for what is held", n)
	}
	f.misbehave(nil)
	f.pass(openTime)
	f.askAll(here, func(what string, err error) {
		if what != "tags" && what != "referrers" && !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s: got %v", what, err)
		}
	})
	if f.log.count("answers again") != 1 {
		t.Error("the recovery is not logged once")
	}
}

// A failure with an answer is that of its repository.
func TestCircuit_staysClosedAfterAnswers(t *testing.T) {
	for name, fault := range faults("/bad/") {
		if name == "no connection" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.misbehave(fault)
			f.askAll("hub/bad/image", func(what string, err error) {
				var down *downError
				if errors.As(err, &down) {
					t.Errorf("%s: got %v", what, err)
				}
			})
			f.wantTag(f.manifest)
		})
	}
}

// A firewall may cut off one image. It does not keep the others of its upstream away, however often
// it is asked for.
func TestCircuit_oneRepositoryIsCutOff(t *testing.T) {
	f := newFixture(t)
	f.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
		return strings.Contains(r.URL.Path, "/bad/") && dead(w, r)
	})
	for range 3 {
		f.askAll("hub/bad/image", func(what string, err error) {
			if err == nil || errors.As(err, new(*downError)) {
				t.Errorf("%s: got %v", what, err)
			}
		})
	}
	f.wantTag(f.manifest)
	f.misbehave(dead) // which is another outage than that before the answer
	if _, err := f.Manifest(t.Context(), "hub/other", "v1"); err == nil || errors.As(err, new(*downError)) {
		t.Errorf("got %v", err)
	}
	if _, err := f.Manifest(t.Context(), "hub/other", "v1"); err == nil || errors.As(err, new(*downError)) {
		t.Errorf("again: got %v", err)
	}
}

// silence is the error of a request without an answer.
type silence struct{}

func (silence) Error() string  { return "no route to host" }
func (silence) Silent() bool   { return true }
func (silence) Answered() bool { return false }

func TestCircuit_slowRepository(t *testing.T) {
	f := newFixture(t)
	entered, release := make(chan struct{}), make(chan struct{})
	f.use(&fakeSource{
		manifest: func(context.Context) (ocispec.Descriptor, []byte, error) {
			close(entered)
			<-release
			return ocispec.Descriptor{}, nil, silence{}
		},
		resolve: func(context.Context) (ocispec.Descriptor, error) { return ocispec.Descriptor{Digest: f.blob}, nil },
	})
	failed := make(chan error)
	go func() {
		_, err := f.Manifest(t.Context(), "hub/slow", "v1")
		failed <- err
	}()
	<-entered
	if _, err := f.Resolve(t.Context(), "hub/other", "v1"); err != nil {
		t.Fatal(err)
	}
	close(release)
	if err := <-failed; !errors.Is(err, silence{}) {
		t.Errorf("got %v", err)
	}
	if _, err := f.Resolve(t.Context(), "hub/other", "v1"); err != nil {
		t.Errorf("another repository: %v", err)
	}
}

// use puts a source in the place of the upstream.
func (f *fixture) use(s Source) { (*f.routes.Load())[0].Source = s }

// An answer to a request that was under way closes the circuit.
func TestCircuit_lateAnswerCloses(t *testing.T) {
	f := newFixture(t)
	entered, release := make(chan struct{}), make(chan struct{})
	f.use(&fakeSource{
		manifest: func(context.Context) (ocispec.Descriptor, []byte, error) {
			close(entered)
			<-release
			return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: f.manifest}, f.body, nil
		},
		resolve: func(context.Context) (ocispec.Descriptor, error) { return ocispec.Descriptor{}, silence{} },
	})
	done := make(chan error)
	go func() {
		_, err := f.Manifest(t.Context(), here, "v1")
		done <- err
	}()
	<-entered
	_, _ = f.Resolve(t.Context(), "hub/other", "v1")
	_, err := f.Resolve(t.Context(), "hub/other", "v2")
	wantDown(t, "while it is open", err)
	close(release)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if _, err := f.Resolve(t.Context(), "hub/other", "v2"); !errors.Is(err, silence{}) || errors.As(err, new(*downError)) {
		t.Errorf("it is not asked again: %v", err)
	}
}

func TestCircuit_oneProbe(t *testing.T) {
	f := newFixture(t)
	var asked, refused atomic.Int32
	release := make(chan struct{})
	f.use(&fakeSource{resolve: func(context.Context) (ocispec.Descriptor, error) {
		if asked.Add(1) > 1 {
			<-release
		}
		return ocispec.Descriptor{}, silence{}
	}})
	_, _ = f.Resolve(t.Context(), "hub/first", "v1")
	for round := range 2 {
		f.pass(openTime)
		var all sync.WaitGroup
		for i := range 50 {
			all.Go(func() {
				_, err := f.Resolve(t.Context(), fmt.Sprint("hub/image", i), "v1")
				var down *downError
				if errors.As(err, &down) {
					if refused.Add(1) == 49 {
						release <- struct{}{} // the others did not wait
					}
				} else if !errors.Is(err, silence{}) {
					t.Errorf("got %v", err)
				}
			})
		}
		all.Wait()
		if asked.Load() != int32(round+2) || refused.Swap(0) != 49 {
			t.Errorf("round %d: asked %d times", round, asked.Load())
		}
	}
}

func TestCircuit_endedRequestsSayNothing(t *testing.T) {
	f := newFixture(t)
	entered := make(chan struct{})
	f.use(&fakeSource{
		resolve: func(ctx context.Context) (ocispec.Descriptor, error) {
			entered <- struct{}{}
			<-ctx.Done()
			return ocispec.Descriptor{}, silence{} // as a transport that was ended
		},
		manifest: func(context.Context) (ocispec.Descriptor, []byte, error) {
			return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: f.manifest}, f.body, nil
		},
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	resolve := func(tag string) {
		_, err := f.Resolve(ctx, here, tag)
		done <- err
	}
	go resolve("v2")
	<-entered
	f.wantTag(f.manifest)
	go resolve("v4")
	<-entered
	cancel()
	for range 2 {
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	}
	f.interrupt()
	f.fetches.Wait()
	if _, err := f.Manifest(t.Context(), here, "v3"); err != nil {
		t.Errorf("got %v", err)
	}
}

func TestCircuit_isForgotten(t *testing.T) {
	for name, forget := range map[string]func(f *fixture){
		"by other routes": func(f *fixture) {
			f.SetRoutes([]Route{{Prefix: "hub", Source: f.client, TTL: time.Minute}})
		},
		"by the end of a hold": func(f *fixture) { f.Hold(errors.New("offline")); f.Hold(nil) },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.cutOff()
			_, err := f.Manifest(t.Context(), here, "v1")
			wantDown(t, "before", err)
			f.misbehave(nil)
			forget(f)
			f.wantTag(f.manifest)
		})
	}
}

func TestCircuit_isSharedByRoutes(t *testing.T) {
	f := newFixture(t)
	down := &fakeSource{resolve: func(context.Context) (ocispec.Descriptor, error) { return ocispec.Descriptor{}, silence{} }}
	f.SetRoutes([]Route{
		{Prefix: "a", Source: down, Host: "quay.io"}, {Prefix: "b", Source: f.client, Host: "quay.io"},
		{Prefix: "c", Source: f.client, Host: "quay.io", Via: "a proxy"}, {Prefix: "d", Source: f.client, Host: "ghcr.io"},
		{Prefix: "e", Source: f.client}, {Prefix: "f", Source: f.client},
	})
	_, _ = f.Resolve(t.Context(), "a/x", "v1")
	_, err := f.Resolve(t.Context(), "b/"+there, "v1")
	wantDown(t, "another route to it", err)
	for _, prefix := range []string{"c/", "d/", "e/", "f/"} {
		if _, err := f.Resolve(t.Context(), prefix+there, "v1"); err != nil {
			t.Errorf("%s: %v", prefix, err)
		}
	}
}

// A blob that breaks off, of an upstream that is gone when it is resumed.
func TestCircuit_opensByABrokenBlob(t *testing.T) {
	f := newFixture(t)
	f.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case !strings.Contains(r.URL.Path, "/blobs/"):
			return false
		case r.Header.Get("Range") == "":
			w.Header().Set("Content-Length", "1048576")
			_, _ = w.Write(f.layer[:1000])
			w.(http.Flusher).Flush()
		}
		return dead(w, r)
	})
	_, err := f.pull(f.blob)
	if err == nil || !strings.Contains(err.Error(), "closed before an answer") {
		t.Errorf("got %v", err)
	}
	f.misbehave(dead)
	_, _ = f.Resolve(t.Context(), "hub/other", "v1")
	_, err = f.Resolve(t.Context(), "hub/other", "v2")
	wantDown(t, "after the blob", err)
}

// An upstream that does not answer in time delays one check of what is held, and not each. What is
// not held is still asked for.
func TestCircuit_silenceCostsOnePatience(t *testing.T) {
	f := newFixture(t)
	release := make(chan struct{})
	var asked atomic.Int32
	f.use(&fakeSource{
		manifest: func(context.Context) (ocispec.Descriptor, []byte, error) {
			return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: f.manifest}, f.body, nil
		},
		resolve: func(context.Context) (ocispec.Descriptor, error) {
			asked.Add(1)
			<-release
			return ocispec.Descriptor{}, silence{}
		},
		stat: func(context.Context, digest.Digest) (int64, error) { return 7, nil },
	})
	tag := func(repo string) {
		t.Helper()
		if m, err := f.Manifest(t.Context(), repo, "v1"); err != nil || m.Digest != f.manifest {
			t.Fatalf("%s: %s, %v", repo, m.Digest, err)
		}
	}
	tag("hub/one")
	tag("hub/two")
	f.pass(time.Minute)
	f.manifests.patience = 50 * time.Millisecond
	tag("hub/one")
	f.manifests.patience = time.Hour
	tag("hub/two")
	if n := asked.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
	if _, err := f.Stat(t.Context(), "hub/two", digest.FromString("other")); err != nil {
		t.Errorf("what is not held: %v", err)
	}
	close(release)
}

// While the upstream is down, the client whose request tries it does not wait for that.
func TestCircuit_probeOfWhatIsHeldIsBrief(t *testing.T) {
	f := newFixture(t)
	f.wantTag(f.manifest)
	f.cutOff()
	release := make(chan struct{})
	f.misbehave(func(_ http.ResponseWriter, r *http.Request) bool { wait(r, release); return true })
	f.pass(time.Minute)
	began := time.Now()
	f.wantTag(f.manifest)
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it waited %s", took)
	}
	close(release)
}
