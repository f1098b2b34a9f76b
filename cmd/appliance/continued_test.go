package main_test

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// largeImage is a registry with one image, whose layer comes slowly after a third, but to requests
// that are made once it is opened.
type largeImage struct {
	host     string
	layer    []byte
	contents map[string][]byte // by the end of their paths
	sent     atomic.Int64      // bytes of the layer
	opened   atomic.Bool
}

func newLargeImage(t *testing.T) *largeImage {
	t.Helper()
	s := &largeImage{layer: randomBytes(50 << 20)}
	layer, config := digest.FromBytes(s.layer), []byte("{}")
	body := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,"digest":%q,"size":2},"layers":[{"mediaType":%q,"digest":%q,"size":%d}]}`,
		ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageConfig, digest.FromBytes(config), ocispec.MediaTypeImageLayer, layer, len(s.layer))
	s.contents = map[string][]byte{
		"/manifests/v1": body, "/manifests/" + digest.FromBytes(body).String(): body,
		"/blobs/" + digest.FromBytes(config).String(): config, "/blobs/" + layer.String(): s.layer,
	}
	server := httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(server.Close)
	s.host = server.Listener.Addr().String()
	return s
}

func (s *largeImage) serve(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/v2/" {
		return
	}
	content, ok := s.contents[strings.TrimPrefix(r.URL.Path, "/v2/large/image")]
	switch {
	case !ok:
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"errors":[{"code":"MANIFEST_UNKNOWN"}]}`)
		return
	case strings.Contains(r.URL.Path, "/manifests/"):
		w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
	}
	if len(content) == len(s.layer) {
		w = &sending{ResponseWriter: w, of: s, slow: !s.opened.Load(), gone: r.Context().Done()}
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
}

// sending counts what is sent of the layer.
type sending struct {
	http.ResponseWriter
	of   *largeImage
	slow bool // after a third
	gone <-chan struct{}
}

func (s *sending) Write(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		piece := p[n:]
		if s.slow && s.of.sent.Load() > int64(len(s.of.layer))/3 {
			piece = piece[:min(len(piece), 1<<10)]
			select {
			case <-time.After(20 * time.Millisecond):
			case <-s.gone:
				return n, net.ErrClosed
			}
		}
		var sent int
		sent, err = s.ResponseWriter.Write(piece)
		s.of.sent.Add(int64(sent))
		n += sent
	}
	return n, err
}

// command is a mirror of the image.
func (s *largeImage) command(t *testing.T, program, destination string, flags ...string) (start func() *exec.Cmd) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "set.yaml")
	must(t, os.WriteFile(file, []byte("kind: ImageSetConfiguration\napiVersion: mirror.openshift.io/v2alpha1\nmirror:\n  additionalImages:\n  - name: "+
		s.host+"/large/image:v1\n"), 0o600))
	t.Setenv("HOME", dir)
	args := append([]string{"mirror", "-c", file, destination, "--src-tls-verify=false"}, flags...)
	return func() *exec.Cmd {
		c := exec.Command(program, args...)
		c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		c.WaitDelay = patience
		return c
	}
}

// toAppliance is a mirror into the daemon.
func (s *largeImage) toAppliance(t *testing.T, f *faulty, workspace, user string) (start func() *exec.Cmd) {
	t.Helper()
	certs := t.TempDir()
	ca, err := os.ReadFile(f.cfg.TLS.CA)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(certs, "ca.crt"), ca, 0o600))
	_, port, _ := strings.Cut(f.socket.Name(), ":")
	return s.command(t, f.program, "docker://localhost:"+port, "--workspace", "file://"+workspace,
		"--dest-cert-dir", certs, "--dest-creds", user+":"+faultPassword)
}

// untilThird waits until files of a directory have a third of the layer, as far as it can be told
// from outside: the connections have the rest.
func (s *largeImage) untilThird(t *testing.T, pattern string) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		files, err := filepath.Glob(pattern)
		must(t, err)
		for _, file := range files {
			var info syscall.Stat_t // a chunk is as long as its last place from the beginning, with holes
			if err := syscall.Stat(file, &info); err == nil && info.Blocks*512 >= int64(len(s.layer))/3-1<<20 {
				return
			}
		}
	}
	t.Fatalf("a third does not arrive in %s", pattern)
}

// completes checks how a mirror ended, and that not much was sent twice.
func (s *largeImage) completes(t *testing.T, code int, output string) {
	t.Helper()
	sent, all := s.sent.Load(), int64(len(s.layer))
	if code != 0 {
		t.Fatalf("exit code %d\n%s", code, output)
	}
	if sent > all+all/20 {
		t.Errorf("%d bytes were sent of a layer of %d", sent, all)
	}
	t.Logf("%.3f of the layer was sent", float64(sent)/float64(all))
}

func TestMirror_continuesInsideABlob(t *testing.T) {
	t.Run("after the mirror was killed, into an appliance", func(t *testing.T) {
		f, s := newFaulty(t, ""), newLargeImage(t)
		f.begin(t)
		first := s.toAppliance(t, f, filepath.Join(t.TempDir(), "one"), "init")()
		must(t, first.Start())
		s.untilThird(t, filepath.Join(f.cfg.Storage, "uploads", "*"))
		must(t, first.Process.Kill())
		_ = first.Wait()
		s.opened.Store(true)
		code, stdout, stderr := outcome(t, s.toAppliance(t, f, filepath.Join(t.TempDir(), "another host's"), "init")())
		s.completes(t, code, stdout+stderr)
		if left, _ := filepath.Glob(filepath.Join(f.cfg.Storage, "uploads", "*")); len(left) > 0 {
			t.Errorf("left are %v", left)
		}
		f.stop(t)
		f.verify(t)
	})
	t.Run("after the daemon was killed, in the same run", func(t *testing.T) {
		f, s := newFaulty(t, ""), newLargeImage(t)
		f.begin(t)
		c := s.toAppliance(t, f, filepath.Join(t.TempDir(), "ws"), "init")()
		var out bytes.Buffer
		c.Stdout, c.Stderr = &out, &out
		must(t, c.Start())
		s.untilThird(t, filepath.Join(f.cfg.Storage, "uploads", "*"))
		s.opened.Store(true)
		f.kill()
		f.start(t)
		_ = c.Wait()
		s.completes(t, c.ProcessState.ExitCode(), out.String())
		f.stop(t)
		f.verify(t)
	})
	t.Run("after the mirror was killed, into an archive", func(t *testing.T) {
		program, err := exec.LookPath("appliance")
		must(t, err)
		s, dir := newLargeImage(t), t.TempDir()
		start := s.command(t, program, "file://"+dir)
		first := start()
		must(t, first.Start())
		s.untilThird(t, filepath.Join(dir, ".mirror_*.partial"))
		must(t, first.Process.Kill())
		_ = first.Wait()
		s.opened.Store(true)
		code, stdout, stderr := outcome(t, start())
		s.completes(t, code, stdout+stderr)
		code, stdout, stderr = outcome(t, exec.Command(program, "mirror", "describe", dir))
		if code != 0 || !strings.Contains(stdout, "large/image") {
			t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
		}
	})
	t.Run("after the mirror was killed, into another registry", func(t *testing.T) {
		f, s := newFaulty(t, ""), newLargeImage(t)
		f.begin(t)
		_, err := f.admin.CreateUser(t.Context(), api.NewUser{Name: "pusher", Role: "push", Password: faultPassword})
		must(t, err)
		start := s.toAppliance(t, f, filepath.Join(t.TempDir(), "ws"), "pusher") // which is served as any registry serves
		first := start()
		must(t, first.Start())
		s.untilThird(t, filepath.Join(f.cfg.Storage, "uploads", "*"))
		must(t, first.Process.Kill())
		_ = first.Wait()
		s.opened.Store(true)
		code, stdout, stderr := outcome(t, start())
		s.completes(t, code, stdout+stderr)
		if !strings.Contains(stdout+stderr, "over the distribution protocol") {
			t.Errorf("it says\n%s%s", stdout, stderr)
		}
	})
}
