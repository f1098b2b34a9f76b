package main

import (
	"bytes"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/mirror-appliance/appliance/cmd/sample-upstream/sample"
	"github.com/mirror-appliance/appliance/mirror/upstream"
	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// mirrorSetup is a sample upstream and an empty registry, both without TLS.
type mirrorSetup struct {
	source, destination string
	workspace           string
	onPut               func()       // before the destination takes a manifest
	refuse              atomic.Int32 // how many uploads of blobs the destination fails to begin
	sourceEmpty         atomic.Bool  // the upstream has nothing any more
}

func newMirrorSetup(t *testing.T) *mirrorSetup {
	t.Helper()
	t.Setenv("HOME", t.TempDir()) // whose logins would be used
	t.Setenv("REGISTRY_AUTH_FILE", "")
	s := &mirrorSetup{workspace: filepath.Join(t.TempDir(), "ws")}
	upstream := httptest.NewUnstartedServer(nil)
	s.source = upstream.Listener.Addr().String()
	content, err := sample.New(s.source)
	if err != nil {
		t.Fatal(err)
	}
	upstream.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.sourceEmpty.Load() {
			http.NotFound(w, r)
			return
		}
		content.Handler().ServeHTTP(w, r)
	})
	upstream.Start()
	t.Cleanup(upstream.Close)
	held := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	destination := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.onPut != nil && r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/") {
			s.onPut()
		}
		if r.Method == http.MethodPost && s.refuse.Add(-1) >= 0 {
			http.Error(w, "out of order", http.StatusInternalServerError)
			return
		}
		held.ServeHTTP(w, r)
	}))
	t.Cleanup(destination.Close)
	s.destination = destination.Listener.Addr().String()
	return s
}

// mirror mirrors images of the upstream.
func (s *mirrorSetup) mirror(t *testing.T, images []string, flags ...string) (code int, stdout, stderr string) {
	t.Helper()
	return s.with(t, execute, images, append([]string{"mirror"}, flags...)...)
}

// with runs a command line by the function of a program.
func (s *mirrorSetup) with(t *testing.T, run func([]string, stdio) int, images []string, flags ...string) (code int, stdout, stderr string) {
	t.Helper()
	set := "kind: ImageSetConfiguration\napiVersion: mirror.openshift.io/v2alpha1\nmirror:\n  additionalImages:\n"
	for _, image := range images {
		set += "  - name: " + s.source + "/" + image + "\n"
	}
	file := filepath.Join(t.TempDir(), "imageset.yaml")
	if err := os.WriteFile(file, []byte(set), 0o600); err != nil {
		t.Fatal(err)
	}
	args := append(flags, "-c", file, "docker://"+s.destination, "--workspace", "file://"+s.workspace,
		"--src-tls-verify=false", "--dest-tls-verify=false", "--retry-times", "0")
	var out, errs bytes.Buffer
	code = run(args, stdio{in: strings.NewReader(""), out: &out, err: &errs})
	return code, out.String(), errs.String()
}

func says(t *testing.T, text string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("it does not say %q:\n%s", w, text)
		}
	}
}

const held, absent = "samples/docker:v1", "samples/absent:v1"

// Spec: oc-mirror 3.6.
func TestMirror_dryRunThatLacksAnImage(t *testing.T) {
	s := newMirrorSetup(t)
	code, stdout, stderr := s.mirror(t, []string{held, absent}, "--dry-run")
	if code != 8 {
		t.Errorf("exit code %d, want 8", code)
	}
	says(t, stdout, "failed: "+s.source+"/"+absent, "docker://"+s.source+"/"+held+"=docker://")
	says(t, stderr, "1 of 2 images cannot be mirrored\n")
	code, stdout, stderr = s.mirror(t, []string{held, absent}, "--dry-run", "-o", "json")
	if code != 8 {
		t.Errorf("with -o json: exit code %d, want 8", code)
	}
	says(t, stderr, "failed: "+s.source+"/"+absent)
	for line := range strings.Lines(stdout) {
		if !json.Valid([]byte(line)) {
			t.Errorf("with -o json: a line that is none: %s", line)
		}
	}
}

// TestMirror_listsAreLists: scripts go through them, also when nothing is in one.
func TestMirror_listsAreLists(t *testing.T) {
	s := newMirrorSetup(t)
	for _, of := range []struct {
		image string
		flags []string
		lists []string
		code  int
	}{
		{held, nil, []string{"mirrored", "failures"}, 0},
		{absent, nil, []string{"mirrored", "failures"}, 8},
		{held, []string{"--dry-run"}, []string{"images", "failures"}, 0},
		{absent, []string{"--dry-run"}, []string{"images", "failures"}, 8},
	} {
		code, stdout, _ := s.mirror(t, []string{of.image}, append(of.flags, "-o", "json")...)
		if code != of.code {
			t.Errorf("%s %v: exit code %d, want %d", of.image, of.flags, code, of.code)
		}
		var got map[string]json.RawMessage
		if err := json.Unmarshal([]byte(lastLine(stdout)), &got); err != nil {
			t.Fatal(err)
		}
		for _, list := range of.lists {
			if !bytes.HasPrefix(got[list], []byte("[")) {
				t.Errorf("%s %v: %s is %.20s", of.image, of.flags, list, got[list])
			}
		}
	}
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	return lines[len(lines)-1]
}

// TestMirror_events: a script follows a run by its lines.
func TestMirror_events(t *testing.T) {
	s := newMirrorSetup(t)
	code, stdout, stderr := s.mirror(t, []string{held, absent}, "-o", "json")
	if code != 8 {
		t.Errorf("exit code %d, want 8", code)
	}
	says(t, stderr, "=== Results ===")
	seen := map[string]int{}
	for line := range strings.Lines(stdout) {
		var e struct{ Event, Origin, Destination, Error string }
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		seen[e.Event]++
		if e.Event == "copied" && (e.Origin != s.source+"/"+held || e.Destination != held) {
			t.Errorf("copied: %s", line)
		}
	}
	for event, n := range map[string]int{"resolved": 2, "planned": 1, "started": 1, "copied": 1, "report": 1} {
		if seen[event] != n {
			t.Errorf("%d events %q, want %d:\n%s", seen[event], event, n, stdout)
		}
	}
	if !strings.Contains(lastLine(stdout), `"event":"report"`) {
		t.Errorf("the last line is %s", lastLine(stdout))
	}
}

func TestMirror_workspaceThatCannotBe(t *testing.T) {
	s := newMirrorSetup(t)
	s.onPut = func() { t.Error("something was mirrored all the same") }
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s.workspace = file + "/ws"
	code, _, stderr := s.mirror(t, []string{held})
	if code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	says(t, stderr, "error: write to the workspace", "hint: ")
	s.workspace = ""
	if code, _, stderr = s.mirror(t, []string{held}); code != 1 {
		t.Errorf("file:// alone: exit code %d, want 1", code)
	}
	says(t, stderr, "--workspace names no directory")
}

// TestMirror_resultsThatCannotBeWritten: what was mirrored, and what failed, is said nevertheless.
func TestMirror_resultsThatCannotBeWritten(t *testing.T) {
	s := newMirrorSetup(t)
	s.onPut = func() { // nothing can be written to logs from now on
		if err := os.WriteFile(filepath.Join(s.workspace, "working-dir", "logs"), nil, 0o600); err != nil {
			t.Error(err)
		}
	}
	code, stdout, stderr := s.mirror(t, []string{held, absent})
	if code != 8 {
		t.Errorf("exit code %d, want 8", code)
	}
	says(t, stdout, "failed: "+s.source+"/"+absent, "1 / 2 additional images")
	says(t, stderr, "1 of 2 images are not at their destination\n", "write to the workspace: ")
	code, stdout, stderr = s.mirror(t, []string{"samples/oci-multi:v1"})
	if code != 1 {
		t.Errorf("nothing but the report failed: exit code %d, want 1", code)
	}
	says(t, stdout, "1 / 1 additional images")
	says(t, stderr, "error: write to the workspace: ")
	if strings.Contains(stdout, "report:") {
		t.Errorf("it names a report that was not written:\n%s", stdout)
	}
}

func TestMirror_saysWhatIsRepeated(t *testing.T) {
	s := newMirrorSetup(t)
	s.refuse.Store(1)
	code, _, stderr := s.mirror(t, []string{held})
	if code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	says(t, stderr, "level=WARN", "the destination failed and is tried again", "put blob sha256:", "out of order")
}

func TestOpenDestination_aDroppedConnectionEndsNothing(t *testing.T) {
	asked := map[string]int{} // each connection is dropped the first time that something is asked over it
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked[r.URL.Path]++; asked[r.URL.Path] == 1 {
			panic(http.ErrAbortHandler)
		}
		_, _ = io.WriteString(w, `{"address":"here","id":"run"}`)
	}))
	t.Cleanup(server.Close)
	d, err := (&mirrorOptions{}).openDestination(t.Context(), server.Listener.Addr().String(), "", upstream.Keychain(""))
	if err != nil || d.kind != "an appliance" {
		t.Fatalf("%+v, %v", d, err)
	}
	t.Cleanup(d.close)
	if _, err := d.begin(t.Context(), "x"); err != nil || len(asked) != 2 {
		t.Errorf("%v after %v", err, asked)
	}
}

func TestOpenDestination_anApplianceInTroubleIsNotOneThatKnowsNoLogin(t *testing.T) {
	for status, login := range map[int]bool{http.StatusUnauthorized: true, http.StatusServiceUnavailable: false} {
		server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Server", api.Product)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, `{"error":"so it is","hint":"do this"}`)
		}))
		t.Cleanup(server.Close)
		_, err := (&mirrorOptions{}).openDestination(t.Context(), server.Listener.Addr().String(), "", upstream.Keychain(""))
		if err == nil || !strings.Contains(err.Error(), "so it is") {
			t.Fatalf("%d: error %v", status, err)
		}
		hint := hintOf(err)
		if strings.Contains(hint, "podman login") != login || strings.Contains(err.Error(), "authenticate") != login {
			t.Errorf("%d: error %v, hint %s", status, err, hint)
		}
	}
}

// An image that is named by digest and that the registry has needs nothing of its source.
func TestMirror_sourceThatIsEmpty(t *testing.T) {
	s := newMirrorSetup(t)
	content, err := sample.New(s.source)
	if err != nil {
		t.Fatal(err)
	}
	m, ok := content.Manifest("samples/docker", "v1")
	if !ok {
		t.Fatal("the sample has no image")
	}
	images := []string{"samples/docker@" + m.Digest.String()}
	if code, _, stderr := s.mirror(t, images); code != 0 {
		t.Fatal(stderr)
	}
	s.sourceEmpty.Store(true)
	code, stdout, stderr := s.mirror(t, images, "--remove-signatures")
	if code != 0 {
		t.Errorf("exit code %d\n%s", code, stderr)
	}
	says(t, stdout, "1 / 1 additional images")
	if code, _, _ := s.mirror(t, []string{held}, "--remove-signatures"); code == 0 {
		t.Error("an image that is named by tag is mirrored without its source")
	}
}

// TestMirror_console: some registries answer 200 to whatever path, with a page, or
// with JSON of their own.
func TestMirror_console(t *testing.T) {
	for _, answer := range []string{"<!doctype html>", "{}"} {
		s := newMirrorSetup(t)
		inner, err := url.Parse("http://" + s.destination)
		if err != nil {
			t.Fatal(err)
		}
		proxy := httputil.NewSingleHostReverseProxy(inner)
		console := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.URL.Path, "/v2/") {
				proxy.ServeHTTP(w, r)
				return
			}
			_, _ = io.WriteString(w, answer)
		}))
		t.Cleanup(console.Close)
		s.destination = console.Listener.Addr().String()
		code, stdout, stderr := s.mirror(t, []string{held})
		if code != 0 {
			t.Errorf("where %s is the answer: exit code %d\n%s", answer, code, stderr)
		}
		says(t, stdout, "over the distribution protocol", "1 / 1 additional images")
	}
}
