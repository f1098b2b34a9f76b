package pull

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/registry/store"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// wantResolved resolves ref and checks its digest.
func (f *fixture) wantResolved(ref string, want digest.Digest) {
	f.t.Helper()
	desc, err := f.Resolve(f.t.Context(), here, ref)
	if err != nil {
		f.t.Fatal(err)
	}
	if desc.Digest != want || desc.MediaType != ocispec.MediaTypeImageManifest || desc.Size == 0 {
		f.t.Fatalf("%s is %+v, want %s", ref, desc, want)
	}
}

func TestPuller_Resolve_fetchesNothing(t *testing.T) {
	f := newFixture(t)
	f.wantResolved("v1", f.manifest)
	f.wantResolved(f.manifest.String(), f.manifest)
	if gets := f.asked("GET manifests/v1") + f.asked("GET manifests/"+f.manifest.String()); gets != 0 {
		t.Errorf("%d GETs", gets)
	}
	for _, ref := range []string{"v9", digest.FromString("x").String()} {
		if _, err := f.Resolve(t.Context(), here, ref); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s: got %v", ref, err)
		}
	}
	if _, err := f.Resolve(t.Context(), "other", "v1"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a repository that is not pulled through: got %v", err)
	}
}

// containerd resolves a tag by HEAD and fetches the digest. After that the tag exists.
func TestPuller_Resolve_thenAFetchOfTheDigestStoresTheTag(t *testing.T) {
	f := newFixture(t)
	f.wantResolved("v1", f.manifest)
	if _, err := f.Manifest(t.Context(), here, f.manifest.String()); err != nil {
		t.Fatal(err)
	}
	asked := f.total()
	f.wantResolved("v1", f.manifest)
	f.wantTag(f.manifest)
	if f.total() != asked {
		t.Error("asked within the TTL")
	}
	t.Run("as it moves", func(t *testing.T) {
		_, moved := f.pushManifest("v1", []byte("other"))
		f.pass(time.Minute)
		f.wantResolved("v1", moved)
		if stored, err := f.store.Manifests.ByTag(t.Context(), here, "v1"); err != nil || stored.Digest != f.manifest {
			t.Errorf("it refers to a manifest that is not stored: %v, %v", stored.Digest, err)
		}
		if _, err := f.Manifest(t.Context(), here, moved.String()); err != nil {
			t.Fatal(err)
		}
		f.server.Close()
		f.pass(time.Minute)
		f.wantResolved("v1", moved)
		f.wantTag(moved)
	})
}

func TestPuller_Resolve_movesATagToAStoredManifest(t *testing.T) {
	f := newFixture(t)
	f.wantTag(f.manifest)
	_, moved := f.pushManifest("v1", []byte("other"))
	f.pass(time.Minute)
	f.wantTag(moved)
	f.push(http.MethodPut, "manifests/v1", ocispec.MediaTypeImageManifest, f.body)
	f.pass(time.Minute)
	f.wantResolved("v1", f.manifest)
	f.server.Close()
	f.wantTag(f.manifest)
}

func TestPuller_Resolve_ofATagThatTheUpstreamDeletedKeepsIt(t *testing.T) {
	f := newFixture(t)
	f.wantTag(f.manifest)
	f.misbehave(func(w http.ResponseWriter, r *http.Request) bool { http.NotFound(w, r); return true })
	f.pass(time.Minute)
	f.wantResolved("v1", f.manifest)
	asked := f.total()
	f.wantResolved("v1", f.manifest)
	if f.total() != asked {
		t.Error("asked again at once")
	}
}

func TestPuller_Resolve_withTheUpstreamDown(t *testing.T) {
	f := newFixture(t)
	f.wantTag(f.manifest)
	f.server.Close()
	f.pass(time.Minute)
	f.wantResolved("v1", f.manifest)
	f.wantResolved(f.manifest.String(), f.manifest)
	if _, err := f.Resolve(t.Context(), here, "v2"); err == nil || errors.Is(err, store.ErrNotFound) {
		t.Errorf("not stored: got %v", err)
	}
}

// A check in the future comes from a clock that was ahead.
func TestPuller_Manifest_checkedInTheFutureIsStale(t *testing.T) {
	f := newFixture(t)
	f.wantTag(f.manifest)
	f.pass(-24 * time.Hour)
	_, moved := f.pushManifest("v1", []byte("other"))
	f.wantTag(moved)
	asked := f.total()
	f.wantTag(moved)
	if f.total() != asked {
		t.Error("asked again at once")
	}
}

func signatureOf(d digest.Digest, kind string) string {
	return strings.Replace(d.String(), ":", "-", 1) + kind
}

// faults are the failures of an upstream for requests with part in their path.
func faults(part string) map[string]func(w http.ResponseWriter, r *http.Request) bool {
	all := map[string]func(w http.ResponseWriter, r *http.Request) bool{
		"no connection": func(_ http.ResponseWriter, r *http.Request) bool {
			if strings.Contains(r.URL.Path, part) {
				panic(http.ErrAbortHandler)
			}
			return false
		},
	}
	for status, code := range map[int]string{
		400: "NAME_INVALID", 401: "UNAUTHORIZED", 403: "DENIED", 404: "NAME_UNKNOWN", 410: "GONE",
		429: "TOOMANYREQUESTS", 500: "UNKNOWN", 502: "", 503: "UNAVAILABLE",
	} {
		all[fmt.Sprint(status)] = func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.URL.Path, part) {
				return false
			}
			w.WriteHeader(status)
			fmt.Fprintf(w, `{"errors":[{"code":%q}]}`, code)
			return true
		}
	}
	return all
}

// Spec: signatures 3.
func TestPuller_signatureThatIsAbsent(t *testing.T) {
	for name, fault := range faults("/sha256-") {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.wantTag(f.manifest)
			f.misbehave(fault)
			for _, kind := range []string{".sig", ".att", ".sbom", ""} {
				f.wantAbsent(signatureOf(f.manifest, kind))
			}
			asked := f.total()
			for range 3 { // nodes
				f.wantAbsent(signatureOf(f.manifest, ".sig"))
			}
			if f.total() != asked {
				t.Error("each node makes a request to the upstream")
			}
			f.misbehave(nil)
			f.pass(time.Minute) // after which it is asked again
			_, d := f.pushManifest(signatureOf(f.manifest, ".sig"), []byte("signature"))
			f.wantResolved(signatureOf(f.manifest, ".sig"), d)
			if m, err := f.Manifest(t.Context(), here, signatureOf(f.manifest, ".sig")); err != nil || m.Digest != d {
				t.Errorf("got %s, %v", m.Digest, err)
			}
		})
	}
}

// wantAbsent requests a tag by GET and by HEAD.
func (f *fixture) wantAbsent(tag string) {
	f.t.Helper()
	_, err := f.Manifest(f.t.Context(), here, tag)
	_, err2 := f.Resolve(f.t.Context(), here, tag)
	for _, err := range []error{err, err2} {
		var absent *store.NotFoundError
		if !errors.As(err, &absent) || absent.Kind != "manifest" {
			f.t.Errorf("%s: got %v", tag, err)
		}
	}
}

func TestPuller_signatureThatIsAbsent_withTheUpstreamGone(t *testing.T) {
	f := newFixture(t)
	f.wantTag(f.manifest)
	f.server.Close()
	f.wantAbsent(signatureOf(f.manifest, ".sig"))
	t.Run("of an image that is not stored is unknown", func(t *testing.T) {
		_, err := f.Manifest(t.Context(), here, signatureOf(digest.FromString("other"), ".sig"))
		if err == nil || errors.Is(err, store.ErrNotFound) {
			t.Errorf("got %v", err)
		}
	})
}

func TestPuller_signatureThatIsAbsent_doesNotWaitForASilentUpstream(t *testing.T) {
	f := newFixture(t)
	f.wantTag(f.manifest)
	f.manifests.patience = time.Millisecond
	release := make(chan struct{})
	defer close(release)
	f.misbehave(func(_ http.ResponseWriter, r *http.Request) bool { wait(r, release); return true })
	f.wantAbsent(signatureOf(f.manifest, ".sig"))
}

func TestPuller_signatureThatIsAbsent_isAskedForOnceAtATime(t *testing.T) {
	f := newFixture(t)
	f.wantTag(f.manifest)
	release := make(chan struct{})
	f.misbehave(func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/sha256-") {
			wait(r, release)
		}
		return false
	})
	var nodes sync.WaitGroup
	for range 20 {
		nodes.Go(func() {
			if _, err := f.Manifest(t.Context(), here, signatureOf(f.manifest, ".sig")); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("got %v", err)
			}
		})
	}
	close(release)
	nodes.Wait()
	if n := f.asked("GET manifests/" + signatureOf(f.manifest, ".sig")); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

func TestPuller_signatureThatIsAbsent_isStaleFromTheFuture(t *testing.T) {
	f := newFixture(t)
	f.wantTag(f.manifest)
	f.wantAbsent(signatureOf(f.manifest, ".sig"))
	_, d := f.pushManifest(signatureOf(f.manifest, ".sig"), []byte("signature"))
	f.pass(-time.Hour)
	f.wantResolved(signatureOf(f.manifest, ".sig"), d)
}

func TestPuller_Referrers(t *testing.T) {
	f := newFixture(t)
	f.wantTag(f.manifest)
	list := []ocispec.Descriptor{{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("r"), Size: 1, ArtifactType: "a/b"}}
	asked := 0
	var fail error
	source := &fakeSource{list: func(context.Context) ([]ocispec.Descriptor, error) {
		asked++
		return list, fail
	}}
	(*f.routes.Load())[0].Source = source
	subject := f.manifest
	want := func(n, times int) {
		t.Helper()
		got, err := f.Referrers(t.Context(), here, subject)
		if err != nil || len(got) != n || asked != times {
			t.Errorf("got %v, %v, asked %d times; want %d and %d", got, err, asked, n, times)
		}
	}
	want(1, 1)
	want(1, 1) // within the TTL
	list = nil
	f.pass(time.Minute)
	want(0, 2)
	want(0, 2)
	list = []ocispec.Descriptor{{MediaType: "x/y", Digest: digest.FromString("s")}}
	f.pass(time.Minute)
	want(1, 3)
	fail = errors.New("no route to host")
	f.pass(time.Minute)
	want(1, 4) // the last list
	want(1, 4)
	t.Run("of a manifest that is not stored fail", func(t *testing.T) {
		f.pass(openTime)
		if _, err := f.Referrers(t.Context(), here, digest.FromString("other")); !errors.Is(err, fail) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("of a stored manifest are none at worst", func(t *testing.T) {
		f.manifests.lists.forget(here + "@" + subject.String())
		if got, err := f.Referrers(t.Context(), here, subject); err != nil || len(got) != 0 {
			t.Errorf("got %v, %v", got, err)
		}
	})
}

func TestCache_isBounded(t *testing.T) {
	now := time.Unix(1000, 0)
	m := newCache[int](func() time.Time { return now })
	for i := range 3 * maxCached {
		m.put(fmt.Sprint(i), i, time.Hour, 0)
	}
	if n := len(m.known); n > maxCached {
		t.Errorf("%d entries", n)
	}
	for i := range 100 {
		m.put(fmt.Sprint("large", i), i, time.Hour, maxCachedBytes/10)
	}
	if m.bytes > maxCachedBytes {
		t.Errorf("%d bytes", m.bytes)
	}
	m.put("huge", 1, time.Hour, maxCachedBytes)
	if _, _, ok := m.get("huge"); ok {
		t.Error("a huge value is cached")
	}
	for i := range 10 {
		m.put("same", i, time.Hour, 10)
	}
	if v, current, _ := m.get("same"); v != 9 || !current {
		t.Errorf("got %d, %v", v, current)
	}
	now = now.Add(time.Hour)
	if _, current, ok := m.get("same"); current || !ok {
		t.Error("it is current after its TTL")
	}
}

func TestPuller_Locate(t *testing.T) {
	p := New(nil, []Route{
		{Prefix: "hub", Host: "index.docker.io"},
		{Prefix: "quay", Host: "quay.io"},
		{Prefix: "ocp", Host: "quay.io", Path: "openshift-release-dev"},
		{Prefix: "quay/taken", Host: "other.example"},
		{Prefix: "ghcr.io", Host: "appliance.example", Path: "ghcr.io"},
		{Prefix: "registry.example/org", Host: "appliance.example", Path: "org"},
	}, Options{Canonical: func(host string) string { return strings.Replace(host, "docker.io", "index.docker.io", 1) }})
	defer p.Close()
	for _, test := range []struct{ host, repo, want string }{
		{"docker.io", "library/alpine", "hub/library/alpine"},
		{"quay.io", "org/image", "quay/org/image"},
		{"quay.io", "openshift-release-dev/ocp-release", "ocp/ocp-release"},
		{"quay.io", "quay/org/image", "quay/org/image"},
		{"quay.io", "taken/image", ""},                // another upstream has that local name
		{"ghcr.io", "org/image", "ghcr.io/org/image"}, // through another appliance
		{"registry.example", "org/image", "registry.example/org/image"},
		{"registry.example", "other/image", ""},
		{"none.example", "org/image", ""},
		{"", "org/image", ""},
	} {
		got, ok := p.Locate(test.host, test.repo)
		if got != test.want || ok != (test.want != "") {
			t.Errorf("%s of %s: got %q, %v", test.repo, test.host, got, ok)
		}
	}
}

func TestPuller_Tags(t *testing.T) {
	f := newFixture(t)
	_, _ = f.pushManifest("v2", []byte("another"))
	want := func(tags string, asked int) {
		t.Helper()
		got, err := f.Tags(t.Context(), here, false)
		if strings.Join(got, " ") != tags || err != nil || f.asked("GET tags/list") != asked {
			t.Errorf("%q, %v, asked %d times", got, err, f.asked("GET tags/list"))
		}
	}
	want("v1 v2", 1)
	_, _ = f.pushManifest("v3", []byte("a third"))
	want("v1 v2", 1)
	f.pass(2 * time.Minute)
	want("v1 v2 v3", 2)
	f.pass(2 * time.Minute)
	f.server.Close()
	if got, err := f.Tags(t.Context(), here, true); err == nil {
		t.Errorf("with the upstream down: %q", got)
	}
}
