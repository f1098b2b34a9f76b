package pull

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/registry/store"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestPuller_Serves(t *testing.T) {
	p := New(nil, []Route{
		{Prefix: "hub"},
		{Prefix: "/quay/", Path: "/mirrors/quay/"},
		{Prefix: "hub/special", Path: "else/where"},
		{Prefix: "one", Path: "org/image"},
	}, Options{})
	defer p.Close()
	for repo, want := range map[string]string{
		"hub/library/alpine": "library/alpine",
		"hub/special/image":  "else/where/image",
		"hub/specials/image": "specials/image",
		"quay/org/image":     "mirrors/quay/org/image",
		"one":                "org/image",
		"hub":                "",
		"hubs/library":       "",
		"other":              "",
	} {
		o, err := p.origin(repo)
		if o.upstream != want || (err == nil) != (want != "") || p.Serves(repo) != (err == nil) {
			t.Errorf("%s: got %q, %v", repo, o.upstream, err)
		}
	}
	all := New(nil, []Route{{}}, Options{})
	defer all.Close()
	if o, err := all.origin("a/b"); err != nil || o.upstream != "a/b" {
		t.Errorf("the empty prefix: got %q, %v", o.upstream, err)
	}
	for _, ask := range []func() error{
		func() error { _, err := p.Manifest(t.Context(), "other", "v1"); return err },
		func() error { _, _, err := p.Blob(t.Context(), "other", digest.FromString("")); return err },
	} {
		if err := ask(); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("a repository that is not pulled through: got %v", err)
		}
	}
}

func TestPuller_Manifest_byDigest(t *testing.T) {
	f := newFixture(t)
	m, err := f.Manifest(t.Context(), here, f.manifest.String())
	if err != nil || string(m.Body) != string(f.body) || m.MediaType != ocispec.MediaTypeImageManifest {
		t.Fatalf("got %+v, %v", m, err)
	}
	f.server.Close()
	if m, err := f.Manifest(t.Context(), here, f.manifest.String()); err != nil || m.Digest != f.manifest {
		t.Errorf("stored, with the upstream down: got %v", err)
	}
}

func TestPuller_Manifest_byTag(t *testing.T) {
	f := newFixture(t)
	f.wantTag(f.manifest)
	if got := f.asked("HEAD manifests/v1"); got != 0 {
		t.Errorf("%d HEADs for a manifest that is not stored", got)
	}
	before := f.total()
	f.wantTag(f.manifest)
	if f.total() != before {
		t.Error("asked within the TTL")
	}
	t.Run("is checked after the TTL", func(t *testing.T) {
		f.pass(time.Minute)
		f.wantTag(f.manifest)
		if heads, gets := f.asked("HEAD manifests/v1"), f.asked("GET manifests/v1"); heads != 1 || gets != 1 {
			t.Errorf("%d HEADs, %d GETs", heads, gets)
		}
		before := f.total()
		f.wantTag(f.manifest)
		if f.total() != before {
			t.Error("asked again at once")
		}
	})
	t.Run("moves with the upstream's", func(t *testing.T) {
		_, moved := f.pushManifest("v1", []byte("other"))
		f.wantTag(f.manifest) // within the TTL
		f.pass(time.Minute)
		f.wantTag(moved)
		before := f.total()
		f.wantTag(moved)
		if f.total() != before {
			t.Error("asked again at once")
		}
		t.Run("and back, to a stored manifest", func(t *testing.T) {
			f.push(http.MethodPut, "manifests/v1", ocispec.MediaTypeImageManifest, f.body)
			f.pass(time.Minute)
			f.wantTag(f.manifest)
		})
	})
	t.Run("stays when the upstream deletes it", func(t *testing.T) {
		f.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
			http.NotFound(w, r)
			return true
		})
		f.pass(time.Minute)
		f.wantTag(f.manifest)
		before := f.total()
		f.wantTag(f.manifest)
		if f.total() != before {
			t.Error("asked again at once")
		}
	})
}

func TestPuller_Manifest_withTheUpstreamDown(t *testing.T) {
	for name, fault := range map[string]func(w http.ResponseWriter, r *http.Request) bool{
		"503":       func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(503); return true },
		"429":       func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(429); return true },
		"401":       func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(401); return true },
		"no answer": func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) },
		"a new manifest that is damaged": func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodHead && strings.Contains(r.URL.Path, "/manifests/") {
				w.Header().Set("Docker-Content-Digest", digest.FromString("new").String())
				w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
				w.Header().Set("Content-Length", "10")
				return true
			}
			if strings.Contains(r.URL.Path, "/manifests/") {
				_, _ = w.Write([]byte("{}"))
				return true
			}
			return false
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.wantTag(f.manifest)
			f.misbehave(fault)
			f.pass(time.Minute)
			f.wantTag(f.manifest)
			asked := f.total()
			f.wantTag(f.manifest)
			if f.total() != asked {
				t.Error("asked again at once")
			}
			f.pass(openTime)
			f.wantTag(f.manifest)
			if f.total() == asked {
				t.Error("never asked again")
			}
			if got := f.log.count("WARN", "serving what is stored"); got != 1 {
				t.Errorf("logged %d times", got)
			}
			f.misbehave(nil)
			f.pass(openTime)
			f.wantTag(f.manifest)
			if got := f.log.count("answers again"); got != 1 {
				t.Errorf("the recovery is logged %d times", got)
			}
		})
	}
	t.Run("nothing stored is an error other than not found", func(t *testing.T) {
		f := newFixture(t)
		f.server.Close()
		for _, ref := range []string{"v1", f.manifest.String()} {
			_, err := f.Manifest(t.Context(), here, ref)
			if err == nil || errors.Is(err, store.ErrNotFound) || !strings.Contains(err.Error(), "connection refused") {
				t.Errorf("%s: got %v", ref, err)
			}
		}
	})
}

func TestPuller_Manifest_absent(t *testing.T) {
	f := newFixture(t)
	for _, ref := range []string{"v9", digest.FromString("x").String()} {
		if _, err := f.Manifest(t.Context(), here, ref); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s: got %v", ref, err)
		}
	}
	t.Run("is found once it exists", func(t *testing.T) {
		_, d := f.pushManifest("v9", []byte("new"))
		f.pass(absentTime)
		if m, err := f.Manifest(t.Context(), here, "v9"); err != nil || m.Digest != d {
			t.Errorf("got %s, %v", m.Digest, err)
		}
	})
}

func TestPuller_Manifest_isFetchedOnce(t *testing.T) {
	f := newFixture(t)
	entered, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	f.misbehave(func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/manifests/") {
			once.Do(func() { close(entered) })
			wait(r, release)
		}
		return false
	})
	gone, leave := context.WithCancel(t.Context())
	left := make(chan error)
	go func() {
		_, err := f.Manifest(gone, here, "v1")
		left <- err
	}()
	<-entered
	leave() // the first client does not wait
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if m, err := f.Manifest(t.Context(), here, "v1"); err != nil || m.Digest != f.manifest {
				t.Errorf("got %s, %v", m.Digest, err)
			}
		})
	}
	close(release)
	all.Wait()
	if got := f.asked("GET manifests/v1"); got != 1 {
		t.Errorf("fetched %d times", got)
	}
}

func TestPuller_Manifest_storedWaitsForALimitedTime(t *testing.T) {
	f := newFixture(t)
	f.wantTag(f.manifest)
	_, moved := f.pushManifest("v1", []byte("other"))
	asked, release, left := make(chan struct{}, 9), make(chan struct{}), make(chan error)
	f.misbehave(func(_ http.ResponseWriter, r *http.Request) bool {
		asked <- struct{}{}
		wait(r, release)
		return false
	})
	f.pass(time.Minute)
	ctx, leave := context.WithCancel(t.Context())
	go func() {
		_, err := f.Manifest(ctx, here, "v1")
		left <- err
	}()
	<-asked // a check that has not begun ends with its last client
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	f.manifests.patience = time.Millisecond
	f.wantTag(f.manifest) // without the upstream's answer
	close(release)
	f.fetches.Wait() // the check continues
	f.wantTag(moved)
}

func TestPuller_Manifest_storedEndsWithItsClient(t *testing.T) {
	f := newFixture(t)
	f.wantTag(f.manifest)
	f.pass(time.Minute)
	ctx, leave := context.WithCancel(t.Context())
	f.misbehave(func(_ http.ResponseWriter, r *http.Request) bool {
		leave()
		<-r.Context().Done()
		return true
	})
	if _, err := f.Manifest(ctx, here, "v1"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if f.log.count("WARN") != 0 {
		t.Error("the upstream is blamed")
	}
}

func TestPuller_Manifest_wrongDigest(t *testing.T) {
	f := newFixture(t)
	want := digest.FromString("x")
	f.open(&fakeSource{manifest: func(context.Context) (ocispec.Descriptor, []byte, error) {
		return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: f.manifest}, f.body, nil
	}})
	if _, err := f.Manifest(t.Context(), here, want.String()); err == nil || errors.Is(err, store.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	if _, err := f.store.Manifests.Get(t.Context(), here, f.manifest); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the wrong manifest is stored: %v", err)
	}
}

func TestPuller_Manifest_tagDeletedMeanwhile(t *testing.T) {
	f := newFixture(t)
	f.open(&fakeSource{
		manifest: func(context.Context) (ocispec.Descriptor, []byte, error) {
			return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: f.manifest}, f.body, nil
		},
		resolve: func(ctx context.Context) (ocispec.Descriptor, error) {
			return ocispec.Descriptor{Digest: f.manifest}, f.store.Tags.Delete(ctx, here, "v1")
		},
	})
	f.wantTag(f.manifest)
	f.pass(time.Minute)
	f.wantTag(f.manifest) // the upstream's answer
	if f.log.count("WARN") != 0 || f.manifests.checks.breaker.isOpen(here) {
		t.Error("the upstream is blamed")
	}
	f.wantTag(f.manifest)
	if stored, err := f.store.Manifests.ByTag(t.Context(), here, "v1"); err != nil || stored.Digest != f.manifest {
		t.Errorf("not fetched again: %v", err)
	}
}

// The header of a HEAD may be wrong, as some proxies keep it from another answer: the bytes decide.
func TestPuller_Manifest_wrongHeaderOfHEAD(t *testing.T) {
	f := newFixture(t)
	body, want := f.body, f.manifest
	f.open(&fakeSource{
		manifest: func(context.Context) (ocispec.Descriptor, []byte, error) {
			return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: want}, body, nil
		},
		resolve: func(context.Context) (ocispec.Descriptor, error) {
			return ocispec.Descriptor{Digest: digest.FromString("neither")}, nil
		},
	})
	f.wantTag(f.manifest)
	body, want = f.pushManifest("v2", []byte("other"))
	f.pass(time.Minute)
	f.wantTag(want)
}
