package pull

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// A request is a place with a context, as a call or a download has.
type request struct {
	*place
	ctx context.Context
}

func (in *places) request(t *testing.T, users ...string) request {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	r := request{in.place(cancel), ctx}
	for _, user := range users {
		r.want(user)
	}
	return r
}

// begun returns a request that has its place.
func (in *places) begun(t *testing.T, users ...string) request {
	t.Helper()
	r := in.request(t, users...)
	if err := r.hold(r.ctx); err != nil || !r.isHeld {
		t.Fatalf("no place for a request of %v: %v", users, err)
	}
	return r
}

// queue makes a request wait for a place, and returns when it waits.
func (r request) queue(t *testing.T) (done chan error) {
	t.Helper()
	r.in.mu.Lock()
	r.in.enqueue(r.place)
	r.in.assign()
	r.in.mu.Unlock()
	done = make(chan error, 1)
	go func() { done <- r.hold(r.ctx) }()
	return done
}

func (in *places) has(r request) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return r.isHeld
}

func TestPlaces_oneUserLeavesRoomForOthers(t *testing.T) {
	in := newPlaces(4)
	in.begun(t, "ann")
	second := in.begun(t, "ann")
	third := in.request(t, "ann")
	waiting := third.queue(t)
	if in.has(third) {
		t.Error("a user has more than its share")
	}
	in.begun(t, "bob")
	in.begun(t, "") // anonymous clients are a user
	fourth := in.request(t, "")
	fourth.queue(t)
	if in.has(fourth) {
		t.Error("more places than the limit")
	}
	second.release()
	if err := <-waiting; err != nil || !in.has(third) {
		t.Errorf("a free place was not given: %v", err)
	}
}

func TestPlaces_theUserWithTheFewestIsNext(t *testing.T) {
	in := newPlaces(4)
	in.begun(t, "ann")
	first := in.begun(t, "bob")
	in.begun(t, "bob")
	in.begun(t, "dan")
	ann, carl := in.request(t, "ann"), in.request(t, "carl")
	ann.queue(t)
	carl.queue(t)
	first.release()
	if in.has(ann) || !in.has(carl) {
		t.Error("the earlier request of a user with places was first")
	}
}

// A user that waits for the request of another does not depend on the other's share.
func TestPlaces_countForAnyWaitingUser(t *testing.T) {
	in := newPlaces(4)
	in.begun(t, "ann")
	in.begun(t, "ann")
	r := in.request(t, "ann")
	r.queue(t)
	if in.has(r) {
		t.Fatal("a user has more than its share")
	}
	r.want("bob")
	if !in.has(r) {
		t.Error("the other user's share was not used")
	}
}

func TestPlaces_requestWithoutClientsGivesWay(t *testing.T) {
	t.Run("by ending", func(t *testing.T) {
		in := newPlaces(2)
		old := in.begun(t, "ann")
		in.begun(t, "bob")
		old.unwant("ann")
		if !in.has(old) || old.ctx.Err() != nil {
			t.Fatal("it gave way without need")
		}
		in.begun(t, "carl")
		if in.has(old) || old.ctx.Err() == nil || old.want("ann") {
			t.Error("it continues")
		}
	})
	t.Run("by pausing, if it can", func(t *testing.T) {
		in := newPlaces(2)
		old := in.begun(t, "ann")
		old.pausable()
		in.begun(t, "bob")
		old.unwant("ann")
		next := in.begun(t, "carl")
		if in.has(old) || old.ctx.Err() != nil {
			t.Fatal("it did not pause")
		}
		next.release()
		if !in.has(old) {
			t.Error("it does not continue")
		}
	})
	t.Run("to others of its own user", func(t *testing.T) {
		in := newPlaces(4)
		old := in.begun(t, "ann")
		in.begun(t, "ann")
		old.unwant("ann")
		in.begun(t, "ann")
		if in.has(old) {
			t.Error("it continues")
		}
	})
	t.Run("not to a user that has its share", func(t *testing.T) {
		in := newPlaces(4)
		in.begun(t, "ann")
		in.begun(t, "ann")
		idle := in.begun(t, "bob")
		idle.unwant("bob")
		more := in.request(t, "ann")
		more.queue(t)
		if in.has(more) || !in.has(idle) {
			t.Error("it gave way")
		}
	})
	t.Run("not to another without clients", func(t *testing.T) {
		in := newPlaces(1)
		old := in.begun(t, "ann")
		old.pausable()
		old.unwant("ann")
		in.begun(t, "bob").unwant("bob")
		if in.has(old) {
			t.Error("it has not given way")
		}
	})
	t.Run("by ending before it has begun", func(t *testing.T) {
		in := newPlaces(1)
		in.begun(t, "ann")
		r := in.request(t, "bob")
		done := r.queue(t)
		r.unwant("bob")
		if err := <-done; err == nil {
			t.Error("it has a place")
		}
		late := in.request(t, "bob")
		late.unwant("bob")
		if err := late.hold(late.ctx); !errors.Is(err, errGaveWay) || late.want("bob") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("and few pause", func(t *testing.T) {
		in := newPlaces(2)
		var all []request
		for range 10 {
			r := in.begun(t, "ann")
			r.pausable()
			r.unwant("ann")
			all = append(all, r)
		}
		alive := 0
		for _, r := range all {
			if r.ctx.Err() == nil {
				alive++
			}
		}
		if want := 2 + in.share; alive != want {
			t.Errorf("%d are alive, want %d", alive, want)
		}
	})
}

func TestPlaces_cancelledWaitLeavesNothing(t *testing.T) {
	in := newPlaces(1)
	first := in.begun(t, "ann")
	ctx, leave := context.WithCancel(t.Context())
	leave()
	r := in.request(t, "bob")
	if err := r.hold(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	first.release()
	in.begun(t, "carl").release()
	if len(in.held) != 0 || len(in.waiting) != 0 || len(in.users) != 0 {
		t.Errorf("left behind: %d held, %d waiting, %v", len(in.held), len(in.waiting), in.users)
	}
}

func TestIdle_givesUpItsPlace(t *testing.T) {
	in := newPlaces(1)
	r := in.begun(t, "ann")
	ctx := context.WithValue(r.ctx, placeKey{}, r.place)
	err := Idle(ctx, func(context.Context) error {
		in.begun(t, "bob").release()
		return nil
	})
	if err != nil || !in.has(r) {
		t.Errorf("it has no place afterwards: %v", err)
	}
	broken := errors.New("broken")
	if err := Idle(ctx, func(context.Context) error { return broken }); err != broken {
		t.Errorf("got %v", err)
	}
	if err := Idle(t.Context(), func(context.Context) error { return nil }); err != nil {
		t.Errorf("without a place: got %v", err)
	}
}

// slow sends one byte of each blob not in except, and the rest when released.
func (f *fixture) slow(except ...digest.Digest) (begun chan struct{}, release func()) {
	begun = make(chan struct{}, 1000)
	released := make(chan struct{})
	f.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
		for _, d := range except {
			if strings.HasSuffix(r.URL.Path, d.String()) {
				return false
			}
		}
		if !strings.Contains(r.URL.Path, "/blobs/") || r.Method == http.MethodHead {
			return false
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(f.layer)))
		_, _ = w.Write(f.layer[:1])
		w.(http.Flusher).Flush()
		begun <- struct{}{}
		wait(r, released)
		_, _ = w.Write(f.layer[1:])
		return true
	})
	return begun, sync.OnceFunc(func() { close(released) })
}

func TestPuller_Stat_fetchesNothing(t *testing.T) {
	f := newFixture(t)
	begun, release := f.slow()
	defer release()
	for range 3 {
		if size, err := f.Stat(t.Context(), here, f.blob); err != nil || size != int64(len(f.layer)) {
			t.Errorf("got %d, %v", size, err)
		}
	}
	if len(begun) != 0 || f.asked("GET blobs/"+f.blob.String()) != 0 {
		t.Error("the blob was fetched")
	}
	if _, err := f.Stat(t.Context(), "other", f.blob); err == nil {
		t.Error("a repository that is not pulled through")
	}
}

func TestPuller_Stat_ofAnArrivingBlobAsksNoUpstream(t *testing.T) {
	f := newFixture(t)
	_, release := f.slow()
	defer release()
	rc, _, err := f.Blob(t.Context(), here, f.blob)
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	if size, err := f.Stat(t.Context(), here, f.blob); err != nil || size != int64(len(f.layer)) || f.asked("HEAD blobs/"+f.blob.String()) != 0 {
		t.Errorf("got %d, %v", size, err)
	}
}

// untilPausable waits until the download under way can pause, a moment after its first byte was sent.
func (f *fixture) untilPausable() {
	transfers := (*f.Puller.routes.Load())[0].transfers
	for can := false; !can; runtime.Gosched() {
		transfers.mu.Lock()
		can = len(transfers.held) == 1 && transfers.held[0].pauses
		transfers.mu.Unlock()
	}
}

// Downloads without a client do not delay the next client.
func TestPuller_Blob_withoutAReaderGivesWay(t *testing.T) {
	f := newFixture(t)
	small := []byte("a small layer")
	f.pushBlob(small)
	f.open(f.client, func(o *Options) { o.Concurrency = 2 })
	begun, release := f.slow(digest.FromBytes(small))
	defer release()
	rc, _, err := f.Blob(t.Context(), here, f.blob)
	if err != nil {
		t.Fatal(err)
	}
	<-begun
	f.untilPausable()
	rc.Close()
	if got, err := f.pull(digest.FromBytes(small)); err != nil || !bytes.Equal(got, small) {
		t.Fatalf("got %d bytes, %v", len(got), err)
	}
	release()
	if got, err := f.pull(f.blob); err != nil || !bytes.Equal(got, f.layer) {
		t.Errorf("a download that gave way: %d bytes, %v", len(got), err)
	}
	if n := f.asked("GET blobs/" + f.blob.String()); n != 1 {
		t.Errorf("fetched %d times, want the paused download continued", n)
	}
}

func TestPuller_Blob_withAReaderKeepsItsPlace(t *testing.T) {
	f := newFixture(t)
	f.open(f.client, func(o *Options) { o.Concurrency = 1 })
	begun, release := f.slow()
	rc, _, err := f.Blob(t.Context(), here, f.blob)
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	<-begun
	transfers := (*f.Puller.routes.Load())[0].transfers
	look := func() (held []*place, waiting int) {
		transfers.mu.Lock()
		defer transfers.mu.Unlock()
		return slices.Clone(transfers.held), len(transfers.waiting)
	}
	before, _ := look()
	ctx, leave := context.WithCancel(t.Context())
	waiting := make(chan error, 1)
	go func() {
		_, _, err := f.Blob(ctx, here, digest.FromString("{}"))
		waiting <- err
	}()
	for queued := 0; queued == 0 && len(waiting) == 0; runtime.Gosched() {
		_, queued = look()
	}
	if held, queued := look(); queued != 1 || len(before) != 1 || !slices.Equal(held, before) {
		t.Errorf("%d wait, and %v are under way, before %v", queued, held, before)
	}
	leave()
	if err := <-waiting; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	release()
	if got, err := io.ReadAll(rc); err != nil || !bytes.Equal(got, f.layer) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
}

// A request that the upstream makes wait does not keep others from asking it.
func TestPuller_nothingSleepsInAPlace(t *testing.T) {
	f := newFixture(t)
	_, _ = f.pushManifest("v2", []byte("another"))
	asleep, wake := make(chan struct{}, 10), make(chan struct{})
	f.sleeping(func(ctx context.Context) error {
		asleep <- struct{}{}
		select {
		case <-wake:
		case <-ctx.Done():
		}
		return ctx.Err()
	}, func(o *Options) { o.Concurrency = 1 })
	var told sync.Once
	f.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
		unavailable := false
		if strings.HasSuffix(r.URL.Path, "/manifests/v1") {
			told.Do(func() { unavailable = true; w.WriteHeader(http.StatusServiceUnavailable) })
		}
		return unavailable
	})
	first := make(chan error)
	go func() {
		_, err := f.Manifest(t.Context(), here, "v1")
		first <- err
	}()
	<-asleep
	if _, err := f.Manifest(t.Context(), here, "v2"); err != nil {
		t.Error(err)
	}
	close(wake)
	if err := <-first; err != nil {
		t.Error(err)
	}
}

func TestPuller_aLimitOfTheUpstreamIsToldAtOnce(t *testing.T) {
	f := newFixture(t)
	_, _ = f.pushManifest("v2", []byte("another"))
	f.sleeping(func(context.Context) error {
		t.Error("waited")
		return nil
	})
	f.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, "/v2") || r.URL.Path == "/v2/" {
			return false
		}
		w.Header().Set("Retry-After", "3600")
		w.WriteHeader(http.StatusTooManyRequests)
		return true
	})
	for range 40 { // more than the places
		_, err := f.Manifest(t.Context(), here, "v2")
		var limit interface {
			Refused() (status int, after time.Duration)
		}
		if !errors.As(err, &limit) {
			t.Fatalf("got %v", err)
		}
		if status, after := limit.Refused(); status != http.StatusTooManyRequests || after != time.Hour {
			t.Fatalf("got %d, %s", status, after)
		}
	}
	if _, err := f.Manifest(t.Context(), here, "v1"); err != nil {
		t.Errorf("another image: %v", err)
	}
}
