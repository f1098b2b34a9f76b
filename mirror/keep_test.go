package mirror_test

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/mirror"
	into "github.com/mirror-appliance/appliance/mirror/remote"
)

// elsewhere is a registry over the distribution protocol that collects what is not tagged.
type elsewhere struct {
	host string

	mu       sync.Mutex // guards the rest
	requests []string
	puts     int
	keeps    int               // after how many puts of manifests an untagged one is collected
	untagged map[string]int    // by repository@digest, the put with which it came
	tagged   map[string]string // repository@digest, by repository:tag
}

var ofManifest = regexp.MustCompile(`^/v2/(.+)/manifests/(.+)$`)

func newElsewhere(t *testing.T, keeps int) *elsewhere {
	t.Helper()
	e := &elsewhere{keeps: keeps, untagged: map[string]int{}, tagged: map[string]string{}}
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the client gave an upload up
		}
		if e.collected(r, body) {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	e.host = strings.TrimPrefix(server.URL, "http://")
	return e
}

// collected notes a request, and reports whether it is for a manifest that was collected.
func (e *elsewhere) collected(r *http.Request, body []byte) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.requests = append(e.requests, r.Method+" "+r.URL.Path)
	m := ofManifest.FindStringSubmatch(r.URL.Path)
	switch {
	case m == nil:
		return false
	case r.Method == http.MethodPut:
		e.puts++
		at := m[1] + "@" + digest.FromBytes(body).String()
		if strings.HasPrefix(m[2], "sha256:") {
			e.untagged[at] = e.puts
		} else {
			delete(e.untagged, at)
			e.tagged[m[1]+":"+m[2]] = at
		}
		return false
	}
	put, ok := e.untagged[m[1]+"@"+m[2]]
	return ok && e.puts-put > e.keeps
}

func (e *elsewhere) open(t *testing.T) *into.Run {
	t.Helper()
	run, err := into.Open(into.Options{Registry: e.host, PlainHTTP: true})
	if err != nil {
		t.Fatal(err)
	}
	return run
}

// asked returns the number of requests with a method and a part of the path.
func (e *elsewhere) asked(method, part string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := 0
	for _, r := range e.requests {
		if strings.HasPrefix(r, method) && strings.Contains(r, part) {
			n++
		}
	}
	return n
}

const single = "  additionalImages:\n  - name: HOST/samples/docker:v1\n  - name: HOST/samples/oci:v1\n"

func TestExecute_aRegistryThatCollectsWhatIsNotTagged(t *testing.T) {
	s := newSetup(t, twoReleases+single)
	s.engine = s.newEngine(t, twoReleases+single, oneAtATime)
	e := newElsewhere(t, 4)
	report, err := s.engine.Execute(t.Context(), s.plan(t), e.open(t))
	if err != nil || len(report.Failures) > 0 {
		t.Fatalf("error %v, failures %v", err, report.Failures)
	}
	for _, tag := range []string{"openshift/release-images:4.18.2-x86_64", "openshift/release:4.18.1-x86_64-etcd", "samples/docker:v1"} {
		if e.tagged[tag] == "" {
			t.Errorf("%s is not there", tag)
		}
	}
}

func TestExecute_aPayloadIsTaggedAfterItsRelease(t *testing.T) {
	s := newSetup(t, twoReleases+single)
	p := s.plan(t)
	release, _ := s.Release("4.18.2", "amd64")
	var fails, arrives string // a component that 4.18.1 does not share, and one that it does
	for name := range release.Components {
		_, before := s.component(t, "4.18.1", name)
		if _, d := s.component(t, "4.18.2", name); d == before {
			arrives = name
		} else {
			fails = name
		}
	}
	_, d := s.component(t, "4.18.2", fails)
	s.fails(func(w http.ResponseWriter, r *http.Request) bool {
		for _, image := range p.Images {
			if image.Digest == d && strings.HasSuffix(r.URL.Path, image.Manifests[0].Blobs[0].Digest.String()) {
				w.WriteHeader(http.StatusNotFound)
				return true
			}
		}
		return false
	})
	e := newElsewhere(t, 1000)
	report, err := s.engine.Execute(t.Context(), p, e.open(t))
	if exitCode(err) != 2 {
		t.Fatalf("error %v, failures %v", err, report.Failures)
	}
	for tag, want := range map[string]bool{
		"openshift/release-images:4.18.1-x86_64": true, "openshift/release-images:4.18.2-x86_64": false, "samples/docker:v1": true,
		"openshift/release:4.18.2-x86_64-" + fails: false, "openshift/release:4.18.2-x86_64-" + arrives: true,
	} {
		if got := e.tagged[tag] != ""; got != want {
			t.Errorf("%s is there: %v", tag, got)
		}
	}
}

// A run that was cut off leaves images that are whole and not tagged; the next one tags them first.
func TestExecute_whatExistsIsKept(t *testing.T) {
	s := newSetup(t, single)
	e := newElsewhere(t, 1000)
	if _, err := s.engine.Execute(t.Context(), s.plan(t), e.open(t)); err != nil {
		t.Fatal(err)
	}
	clear(e.requests)
	s.engine = s.newEngine(t, single)
	if _, err := s.engine.Execute(t.Context(), s.plan(t), e.open(t)); err != nil {
		t.Fatal(err)
	}
	if n := e.asked("P", ""); n != 0 {
		t.Errorf("a run with nothing to do sent %d POST, PATCH or PUT", n)
	}
	if n := e.asked("HEAD", "/manifests/v1"); n != 2 {
		t.Errorf("it looked %d times for two tags", n)
	}
}

// TestExecute_requestsForANewImage: all but the one with which the command finds that the
// registry speaks plain HTTP.
func TestExecute_requestsForANewImage(t *testing.T) {
	const config = "  additionalImages:\n  - name: HOST/samples/docker:v1\n"
	s := newSetup(t, config)
	e := newElsewhere(t, 1000)
	run, err := into.Open(into.Options{Registry: e.host, PlainHTTP: true})
	if err != nil {
		t.Fatal(err)
	}
	p := s.plan(t)
	if err := s.engine.Compare(t.Context(), p, run); err != nil {
		t.Fatal(err)
	}
	if _, err := s.engine.Execute(t.Context(), p, mirror.Destination(run)); err != nil {
		t.Fatal(err)
	}
	if p.Blobs != 3 {
		t.Fatalf("the image has %d blobs", p.Blobs)
	}
	if len(e.requests) > 17 {
		t.Errorf("%d requests:\n%s", len(e.requests), strings.Join(e.requests, "\n"))
	}
}
