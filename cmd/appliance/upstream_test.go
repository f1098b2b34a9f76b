package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/config"
)

// counting is an upstream that counts its requests.
func counting(t *testing.T, inner http.Handler) (upstream *httptest.Server, asked *atomic.Int32) {
	t.Helper()
	asked = &atomic.Int32{}
	upstream = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(upstream.Close)
	return upstream, asked
}

// status asks the appliance as its user.
func (s *site) status(t *testing.T, path string) int {
	t.Helper()
	a, err := s.ask(t.Context(), http.MethodGet, path, nil, "Accept", "*/*")
	must(t, err)
	return a.status
}

// Upstreams are added, tested and removed while the daemon serves, and config.yaml keeps what else is in it.
func TestUpstream(t *testing.T) {
	s := newSite(t)
	before, err := os.ReadFile(config.Path(s.root))
	must(t, err)
	here := func(args ...string) []string { return append(args, "--quayRoot", s.root) }
	const image = "/v2/up/samples/docker/manifests/v1"
	if got := s.status(t, image); got != http.StatusNotFound {
		t.Errorf("before: %d", got)
	}
	contains(t, s.works(t, here("upstream", "list")...), "nothing is pulled through")
	contains(t, s.works(t, here("upstream", "add", "up", "http://"+s.source, "--dry-run", "--deny", "samples/oci", "--platforms", "linux/amd64,linux/arm64")...), "- prefix: up\n", "deny: [samples/oci]\n", "platforms: [linux/amd64, linux/arm64]\n")
	if now, _ := os.ReadFile(config.Path(s.root)); string(now) != string(before) {
		t.Error("a dry run writes")
	}
	contains(t, s.works(t, here("upstream", "add", "up", "http://"+s.source, "--deny", "samples/oci")...), "config.yaml is changed", "in force")
	if got := s.status(t, image); got != http.StatusOK {
		t.Errorf("once it is added: %d", got)
	}
	if got := s.status(t, "/v2/up/samples/oci/manifests/v1"); got != http.StatusForbidden {
		t.Errorf("what is denied: %d", got)
	}
	var all []api.Upstream
	must(t, json.Unmarshal([]byte(s.works(t, here("upstream", "list", "-o", "json")...)), &all))
	if len(all) != 1 || all[0].Prefix != "up" || all[0].Mode != "cache" {
		t.Errorf("the list is %+v", all)
	}

	contains(t, s.works(t, here("upstream", "test")...), "up: http://"+s.source+" answers (no login, ")
	contains(t, s.works(t, here("upstream", "test", "--image", "up/samples/docker:v1")...), "answers (samples/docker v1, ")
	s.works(t, here("upstream", "add", "down", "http://127.0.0.1:1", "--mode", "cache")...)
	for args, want := range map[string]string{
		"down":                       "connection refused",
		"--image=up/samples/none:v1": "samples/none",
		"--image=up/samples/oci:v1":  "deny",
		"other":                      "there is no upstream other",
		"--image=elsewhere/a:v1":     "elsewhere/a:v1 is below no upstream",
	} {
		code, stdout, stderr := s.run(t, here("upstream", "test", args)...)
		if code != 1 || !strings.Contains(stdout+stderr, want) || !strings.Contains(stdout+stderr, "hint: ") && want != "deny" {
			t.Errorf("%s: exit code %d\n%s%s", args, code, stdout, stderr)
		}
	}
	for n, want := range []string{"1 of 2 upstreams does not answer as it should\n", "2 of 3 upstreams do not answer as they should\n"} {
		if n == 1 {
			s.works(t, here("upstream", "add", "away", "http://127.0.0.1:1")...)
		}
		if code, _, stderr := s.run(t, here("upstream", "test")...); code != 1 || !strings.Contains(stderr, want) {
			t.Errorf("exit code %d, %s", code, stderr)
		}
	}
	s.works(t, here("upstream", "remove", "away")...)
	if code, _, stderr := s.run(t, here("upstream", "add", "up", "http://other")...); code != 1 || !strings.Contains(stderr, "add it again: appliance upstream remove up\n") {
		t.Errorf("a second of the same prefix: %d, %s", code, stderr)
	}
	if code, _, stderr := s.run(t, here("upstream", "add", "other", "http://user:secret@other")...); code != 1 || strings.Contains(stderr, "config.yaml:") || strings.Contains(stderr, "secret") || !strings.Contains(stderr, "error: url: it must not hold a user name or password\n") {
		t.Errorf("with a password: %d, %s", code, stderr)
	}
	s.works(t, here("upstream", "remove", "down")...)
	with, err := os.ReadFile(config.Path(s.root)) // a command that is killed has changed the file alone
	must(t, err)
	must(t, os.WriteFile(config.Path(s.root), before, 0o600))
	contains(t, s.works(t, here("upstream", "remove", "up")...), "is so already", "in force")
	contains(t, s.works(t, here("upstream", "list")...), "nothing is pulled through")
	must(t, os.WriteFile(config.Path(s.root), with, 0o600))
	contains(t, s.works(t, here("upstream", "add", "up", "http://"+s.source, "--deny", "samples/oci")...), "is so already", "in force")
	contains(t, s.works(t, here("upstream", "list")...), "http://"+s.source)
	s.works(t, here("upstream", "remove", "up")...)
	if now, _ := os.ReadFile(config.Path(s.root)); string(now) != string(before) {
		t.Errorf("config.yaml is\n%s", now)
	}
	if got := s.status(t, image); got != http.StatusOK {
		t.Errorf("what it has brought: %d", got)
	}
	if got := s.status(t, "/v2/up/samples/docker-multi/manifests/v1"); got != http.StatusNotFound {
		t.Errorf("once it is removed: %d", got)
	}
}

// Commands that change config.yaml at once take turns.
func TestUpstream_addAtOnce(t *testing.T) {
	s := newSite(t)
	var all sync.WaitGroup
	for n := range 8 {
		all.Go(func() {
			if code, stdout, stderr := s.run(t, "upstream", "add", fmt.Sprintf("up%d", n), "http://"+s.source, "--quayRoot", s.root); code != 0 {
				t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
			}
		})
	}
	all.Wait()
	var listed []api.Upstream
	must(t, json.Unmarshal([]byte(s.works(t, "upstream", "list", "-o", "json", "--quayRoot", s.root)), &listed))
	if len(listed) != 8 {
		t.Errorf("of 8 there are %d: %+v", len(listed), listed)
	}
}

// TestUpstream_addWithFilesThatCannotBeUsed leaves config.yaml as it was, with a daemon and without.
func TestUpstream_addWithFilesThatCannotBeUsed(t *testing.T) {
	s := newSite(t)
	before, err := os.ReadFile(config.Path(s.root))
	must(t, err)
	bad, fine := filepath.Join(s.dir, "bad.pem"), filepath.Join(s.root, "quay-rootCA", "rootCA.pem")
	must(t, os.WriteFile(bad, []byte("garbage"), 0o644))
	add := func(args ...string) (code int, stdout, stderr string) {
		t.Helper()
		return s.run(t, append([]string{"upstream", "add", "--quayRoot", s.root}, args...)...)
	}
	for _, running := range []bool{true, false} {
		for flag, want := range map[string]string{"--ca": "CA file " + bad, "--authfile": "credentials file " + bad, "--cert-dir": "client certificate "} {
			file := bad
			if flag == "--cert-dir" {
				file = filepath.Join(s.dir, "certs")
				must(t, os.MkdirAll(file, 0o755))
				for _, name := range []string{"client.cert", "client.key"} {
					must(t, os.WriteFile(filepath.Join(file, name), []byte("garbage"), 0o644))
				}
			}
			code, stdout, stderr := add("up", "https://localhost:1", flag, file)
			if code != 1 || stdout != "" || !strings.Contains(stderr, "config.yaml is not changed: ") || !strings.Contains(stderr, want) || !strings.Contains(stderr, "\nhint: ") {
				t.Errorf("running %t, %s: exit code %d\n%s%s", running, flag, code, stdout, stderr)
			}
			if now, _ := os.ReadFile(config.Path(s.root)); string(now) != string(before) {
				t.Fatalf("running %t, %s: config.yaml is\n%s", running, flag, now)
			}
		}
		if running {
			contains(t, s.works(t, "upstream", "list", "--quayRoot", s.root), "nothing is pulled through")
			s.stop(t)
		}
	}
	if code, stdout, stderr := add("up", "https://localhost:1", "--ca", fine); code != 0 || !strings.Contains(stdout, "does not run") {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
}

// TestUpstream_besideOneThatCannotBeUsed adds an upstream while another one has lost its files.
func TestUpstream_besideOneThatCannotBeUsed(t *testing.T) {
	s := newSite(t)
	ca := filepath.Join(s.dir, "ca.pem")
	text, err := os.ReadFile(filepath.Join(s.root, "quay-rootCA", "rootCA.pem"))
	must(t, err)
	must(t, os.WriteFile(ca, text, 0o644))
	s.works(t, "upstream", "add", "rotten", "https://localhost:1", "--ca", ca, "--quayRoot", s.root)
	must(t, os.Remove(ca))
	contains(t, s.works(t, "status", "--quayRoot", s.root), "trouble: upstream rotten: ", "until a restart")
	s.stop(t)
	s.start(t)
	contains(t, s.works(t, "upstream", "add", "up", "http://"+s.source, "--quayRoot", s.root), "in force")
	if got := s.status(t, "/v2/up/samples/docker/manifests/v1"); got != http.StatusOK {
		t.Errorf("the other: %d", got)
	}
	contains(t, s.works(t, "status", "--quayRoot", s.root), "trouble: upstream rotten is out of service: CA file "+ca, "\nhint: name a readable file")
	contains(t, s.works(t, "status", "-o", "json", "--quayRoot", s.root), `"problem": "upstream rotten is out of service: CA file `)
	contains(t, s.works(t, "upstream", "list", "--quayRoot", s.root), "out of service\n", "in service\n", "trouble: upstream rotten")
	s.works(t, "upstream", "remove", "rotten", "--quayRoot", s.root)
}

// A file that is wrong leaves what is in force; a right one is in force at SIGHUP.
func TestUpstream_reload(t *testing.T) {
	s := newSite(t)
	text, err := os.ReadFile(config.Path(s.root))
	must(t, err)
	const image = "/v2/up/samples/docker/manifests/v1"
	change := func(with string) {
		t.Helper()
		must(t, os.WriteFile(config.Path(s.root), []byte(strings.Replace(string(text), "upstreams: []", with, 1)), 0o644))
		must(t, s.process.Process.Signal(syscall.SIGHUP))
	}
	becomes := func(want int) {
		t.Helper()
		got := 0
		for end := time.Now().Add(patience); got != want && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			got = s.status(t, image)
		}
		if got != want {
			t.Errorf("%s: %d, want %d", image, got, want)
		}
	}
	change("upstreams:\n- {prefix: up, url: 'http://" + s.source + "'}")
	becomes(http.StatusOK)
	change("upstreams:\n- {prefix: up, url: nowhere}")
	code, _, stderr := s.run(t, "upstream", "reload", "--quayRoot", s.root)
	if code != 1 || !strings.Contains(stderr, `"nowhere" is not the URL of a registry`) {
		t.Errorf("exit code %d, %s", code, stderr)
	}
	if got := s.status(t, "/v2/up/samples/oci/manifests/v1"); got != http.StatusOK {
		t.Errorf("what was in force before: %d", got)
	}
}

// Offline, no request leaves the appliance, and what is held is served; after a restart too.
func TestOffline(t *testing.T) {
	s := newSite(t)
	upstream, asked := counting(t, s.upstream.Config.Handler)
	s.configure(t, func(c *config.Config) {
		c.Upstreams = []config.Upstream{{Prefix: "up", URL: upstream.URL}} // without freshness
		c.Sync = []config.Sync{{ImageSet: s.set(t, "set.yaml", "  additionalImages: [{name: '"+upstream.Listener.Addr().String()+"/samples/oci:v1'}]\n"), Workspace: s.dir + "/ws", Interval: time.Hour}}
	})
	const held, other = "/v2/up/samples/docker/manifests/v1", "/v2/up/samples/oci/manifests/v1"
	if got := s.status(t, held); got != http.StatusOK {
		t.Fatalf("online: %d", got)
	}
	contains(t, s.works(t, "offline", "--quayRoot", s.root), "online")
	contains(t, s.works(t, "offline", "on", "--quayRoot", s.root), "offline: no other host is asked")
	for range 2 {
		time.Sleep(10 * time.Millisecond)
		before := asked.Load()
		if got := s.status(t, held); got != http.StatusOK {
			t.Errorf("offline, what is held: %d", got)
		}
		if got := s.status(t, other); got != http.StatusForbidden {
			t.Errorf("offline, what is not: %d", got)
		}
		code, _, stderr := s.run(t, "sync", s.dir+"/set.yaml", "--quayRoot", s.root)
		if code != 1 || !strings.Contains(stderr, "this appliance is offline") || !strings.Contains(stderr, "hint: appliance offline off") {
			t.Errorf("sync: exit code %d, %s", code, stderr)
		}
		code, stdout, _ := s.run(t, "upstream", "test", "--quayRoot", s.root)
		if code != 1 || !strings.Contains(stdout, "this appliance is offline") {
			t.Errorf("test: exit code %d, %s", code, stdout)
		}
		contains(t, s.works(t, "status", "--quayRoot", s.root), "no other host is asked")
		if n := asked.Load() - before; n != 0 {
			t.Errorf("the upstream got %d requests", n)
		}
		s.stop(t)
		s.start(t)
	}
	s.stop(t)
	contains(t, s.works(t, "offline", "off", "-o", "json", "--quayRoot", s.root), `"offline": false`) // while it does not run
	s.start(t)
	if got := s.status(t, other); got != http.StatusOK {
		t.Errorf("online again: %d", got)
	}
	if code, _, stderr := s.run(t, "offline", "maybe", "--quayRoot", s.root); code == 0 || !strings.Contains(stderr, "neither on nor off") {
		t.Errorf("exit code %d, %s", code, stderr)
	}
}

// halfUpstream has an image of one layer. It sends half of that, and the rest once it is released.
type halfUpstream struct {
	*testImage
	layer   []byte
	sent    atomic.Int64
	release chan struct{}
}

func newHalfUpstream() *halfUpstream {
	layer := make([]byte, 16<<20)
	for i := range layer {
		layer[i] = byte(i * 7 / 3)
	}
	return &halfUpstream{testImage: newTestImage("big", "v1", layer), layer: layer, release: make(chan struct{})}
}

func (u *halfUpstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	content := slices.IndexFunc(u.contents, func(c []byte) bool { return digest.FromBytes(c).String() == name })
	switch {
	case r.URL.Path == "/v2/":
	case name == u.tag, name == u.digest.String():
		w.Header().Set("Content-Type", imageType)
		_, _ = w.Write(u.body)
	case content < 0:
		http.NotFound(w, r)
	case content > 0 || u.sent.Load() > 0:
		c := &countingWriter{ResponseWriter: w}
		http.ServeContent(c, r, "", time.Time{}, bytes.NewReader(u.contents[content]))
		if content == 0 {
			u.sent.Add(c.n)
		}
	default:
		w.Header().Set("Content-Length", fmt.Sprint(len(u.layer)))
		n, _ := w.Write(u.layer[:len(u.layer)/2])
		w.(http.Flusher).Flush()
		u.sent.Add(int64(n))
		<-u.release
	}
}

type countingWriter struct {
	http.ResponseWriter
	n int64
}

func (w *countingWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.n += int64(n)
	return n, err
}

// What has arrived of a layer before a kill is not fetched again.
func TestUpstream_killedInTheMiddle(t *testing.T) {
	s := newSite(t)
	u := newHalfUpstream()
	upstream, _ := counting(t, u)
	s.works(t, "upstream", "add", "up", upstream.URL, "--quayRoot", s.root)
	if got := s.status(t, "/v2/up/big/manifests/v1"); got != http.StatusOK {
		t.Fatalf("the manifest: %d", got)
	}
	path := "/v2/up/big/blobs/" + digest.FromBytes(u.layer).String()
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://localhost:8443"+path, nil)
	must(t, err)
	r.SetBasicAuth("init", faultPassword)
	resp, err := s.http.Do(r)
	must(t, err)
	_, err = io.ReadFull(resp.Body, make([]byte, len(u.layer)/2))
	must(t, err)
	s.kill()
	resp.Body.Close()
	close(u.release)
	s.start(t)
	a, err := s.ask(t.Context(), http.MethodGet, path, nil)
	if err != nil || a.status != http.StatusOK || !bytes.Equal(a.body, u.layer) {
		t.Fatalf("after the kill: %d, %d bytes, %v", a.status, len(a.body), err)
	}
	if n := u.sent.Load(); n > int64(len(u.layer)+len(u.layer)/100) {
		t.Errorf("the upstream sent %d bytes of a layer of %d", n, len(u.layer))
	}
}
