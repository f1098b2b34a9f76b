package mirror_test

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/mirror"
	into "github.com/mirror-appliance/appliance/mirror/remote"
)

// TestExecute_aRegistryThatHasLostABlob: it has the manifest still, as after a
// collection that went wrong.
func TestExecute_aRegistryThatHasLostABlob(t *testing.T) {
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	var mu sync.Mutex // guards lost and forgets
	lost, forgets := "", false
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		gone := lost != "" && strings.HasSuffix(r.URL.Path, "/"+lost)
		if lost != "" && r.Method == http.MethodPut && r.URL.Query().Get("digest") == lost && !forgets {
			lost = ""
		}
		mu.Unlock()
		if gone {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	s := newSetup(t, additional)
	execute := func() (*mirror.Report, error) {
		t.Helper()
		run, err := into.Open(into.Options{Registry: strings.TrimPrefix(server.URL, "http://"), PlainHTTP: true})
		if err != nil {
			t.Fatal(err)
		}
		return s.engine.Execute(t.Context(), s.plan(t), run)
	}
	lose := func(d digest.Digest, forgetful bool) {
		mu.Lock()
		defer mu.Unlock()
		lost, forgets = d.String(), forgetful
	}
	if _, err := execute(); err != nil {
		t.Fatal(err)
	}
	lose(s.layer(t, "samples/docker", "v1"), false)
	if _, err := execute(); err != nil {
		t.Fatal(err)
	}
	if lost != "" {
		t.Error("exit code 0, and the layer is missing")
	}
	lose(s.digest(t, "samples/docker", "v1"), true)
	report, err := execute()
	if exitCode(err) != 8 || len(report.Failures) != 1 {
		t.Errorf("a registry that loses what it is given: error %v, failures %v", err, report.Failures)
	}
}

// TestExecute_intoAnotherRegistry reads everything back with another client, which validates it.
func TestExecute_intoAnotherRegistry(t *testing.T) {
	uploads := 0
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPatch {
			uploads++ // the engine below puts one blob at a time
		}
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	host := strings.TrimPrefix(server.URL, "http://")

	s := newSetup(t, twoReleases+additional)
	s.engine = s.newEngine(t, twoReleases+additional, oneAtATime)
	for _, pass := range []string{"first", "second"} {
		uploads = 0
		run, err := into.Open(into.Options{Registry: host, PlainHTTP: true})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.engine.Execute(t.Context(), s.plan(t), run); err != nil {
			t.Fatalf("%s run: %v", pass, err)
		}
		if pass == "second" && uploads != 0 {
			t.Errorf("the second run put %d blobs", uploads)
		}
	}
	for _, ref := range []string{"openshift/release-images:4.18.2-x86_64", "openshift/release:4.18.1-x86_64-etcd", "samples/docker:v1"} {
		n, err := name.ParseReference(host+"/"+ref, name.Insecure)
		if err != nil {
			t.Fatal(err)
		}
		img, err := remote.Image(n, remote.WithContext(t.Context()))
		if err != nil {
			t.Errorf("%s: %v", ref, err)
			continue
		}
		if err := validate.Image(img, validate.Fast); err != nil {
			t.Errorf("%s: %v", ref, err)
		}
	}
	n, err := name.ParseReference(host+"/samples/oci-multi:v1", name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	desc, err := remote.Get(n, remote.WithContext(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	if want := s.digest(t, "samples/oci-multi", "v1"); desc.Digest.String() != want.String() {
		t.Errorf("the index is %s, want %s", desc.Digest, want)
	}
}

// A reverse proxy has a limit for the size of a body.
func TestExecute_aBlobThatIsTooLargeIsSentOnce(t *testing.T) {
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPatch {
			_, _ = io.Copy(io.Discard, r.Body)
			w.WriteHeader(http.StatusRequestEntityTooLarge)
			return
		}
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	s := newSetup(t, "  additionalImages:\n  - name: HOST/samples/oci:v1\n")
	run, err := into.Open(into.Options{Registry: strings.TrimPrefix(server.URL, "http://"), PlainHTTP: true})
	if err != nil {
		t.Fatal(err)
	}
	plan := s.plan(t)
	s.asked("")
	report, err := s.engine.Execute(t.Context(), plan, run)
	if exitCode(err) != 8 || !strings.Contains(report.Failures[0].Error, "413") {
		t.Errorf("error %v, failures %v", err, report.Failures)
	}
	if asked := s.asked("/blobs/"); len(asked) > plan.Blobs {
		t.Errorf("%d blobs were fetched %d times", plan.Blobs, len(asked))
	}
}
