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

// largeImages is a registry of images of one layer. Layers come slowly after a third of all, until it
// is opened.
type largeImages struct {
	host     string
	names    []string
	contents map[string][]byte // by path
	total    int64             // bytes of the layers
	sent     atomic.Int64      // of these
	opened   atomic.Bool
	faulty   bool // one request of five fails
	requests atomic.Int64
}

const smallest = 1 << 10 // of a layer

func newLargeImages(t *testing.T, images, size int) *largeImages {
	t.Helper()
	s := &largeImages{contents: map[string][]byte{"/v2/": nil}}
	config := []byte("{}")
	for n := range images {
		layer := randomBytes(size)
		body := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,"digest":%q,"size":2},"layers":[{"mediaType":%q,"digest":%q,"size":%d}]}`,
			ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageConfig, digest.FromBytes(config), ocispec.MediaTypeImageLayer, digest.FromBytes(layer), size)
		name := fmt.Sprint("large/image", n)
		s.names = append(s.names, name)
		s.total += int64(size)
		for path, content := range map[string][]byte{
			"/manifests/v1": body, "/manifests/" + digest.FromBytes(body).String(): body,
			"/blobs/" + digest.FromBytes(config).String(): config, "/blobs/" + digest.FromBytes(layer).String(): layer,
		} {
			s.contents["/v2/"+name+path] = content
		}
	}
	server := httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(server.Close)
	s.host = server.Listener.Addr().String()
	return s
}

func (s *largeImages) serve(w http.ResponseWriter, r *http.Request) {
	content, ok := s.contents[r.URL.Path]
	n := s.requests.Add(1)
	switch {
	case !ok:
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"errors":[{"code":"MANIFEST_UNKNOWN"}]}`)
		return
	case s.faulty && n%10 == 4:
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	case strings.Contains(r.URL.Path, "/manifests/"):
		w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
	case len(content) >= smallest:
		layer := &sending{ResponseWriter: w, of: s, left: len(content), gone: r.Context().Done()}
		if s.faulty && n%10 == 9 {
			layer.left /= 3 // then the connection breaks
		}
		w = layer
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
}

// sending counts what is sent of a layer.
type sending struct {
	http.ResponseWriter
	of   *largeImages
	left int // until the connection breaks
	gone <-chan struct{}
}

func (s *sending) Write(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		piece := p[n:min(len(p), n+s.left)]
		if len(piece) == 0 {
			return n, net.ErrClosed
		}
		if !s.of.opened.Load() && s.of.sent.Load() > s.of.total/3 {
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
		n, s.left = n+sent, s.left-sent
	}
	return n, err
}

// command is a mirror of the images.
func (s *largeImages) command(t *testing.T, program, destination string, flags ...string) (start func() *exec.Cmd) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "set.yaml")
	set := "kind: ImageSetConfiguration\napiVersion: mirror.openshift.io/v2alpha1\nmirror:\n  additionalImages:\n"
	for _, name := range s.names {
		set += "  - name: " + s.host + "/" + name + ":v1\n"
	}
	must(t, os.WriteFile(file, []byte(set), 0o600))
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
func (s *largeImages) toAppliance(t *testing.T, f *faulty, workspace, user string) (start func() *exec.Cmd) {
	t.Helper()
	certs := t.TempDir()
	ca, err := os.ReadFile(f.cfg.TLS.CA)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(certs, "ca.crt"), ca, 0o600))
	_, port, _ := strings.Cut(f.socket.Name(), ":")
	return s.command(t, f.program, "docker://localhost:"+port, "--workspace", "file://"+workspace,
		"--dest-cert-dir", certs, "--dest-creds", user+":"+faultPassword)
}

// untilThird waits until the files of a directory have a third of the layers, as far as it can be
// told from outside: programs have the rest.
func (s *largeImages) untilThird(t *testing.T, dir string) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		var has int64
		_ = filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error { // files go meanwhile
			var info syscall.Stat_t // a chunk is as long as its last place from the beginning, with holes
			if err == nil && e.Type().IsRegular() && syscall.Stat(path, &info) == nil {
				has += info.Blocks * 512
			}
			return nil
		})
		if has >= s.total/3-1<<20 {
			return
		}
	}
	t.Fatalf("a third does not arrive in %s", dir)
}

// completes checks how a mirror ended, and that no more than a part of the layers was sent twice.
func (s *largeImages) completes(t *testing.T, code int, output string, part int64) {
	t.Helper()
	sent := s.sent.Load()
	if code != 0 {
		t.Fatalf("exit code %d\n%s", code, output)
	}
	if sent > s.total+s.total/part {
		t.Errorf("%d bytes were sent of layers of %d", sent, s.total)
	}
	t.Logf("%.4f of the layers were sent", float64(sent)/float64(s.total))
}

func TestMirror_continuesInsideABlob(t *testing.T) {
	t.Run("after the mirror was killed, into an appliance", func(t *testing.T) {
		f, s := newFaulty(t, ""), newLargeImages(t, 1, 50<<20)
		f.begin(t)
		first := s.toAppliance(t, f, filepath.Join(t.TempDir(), "one"), "init")()
		must(t, first.Start())
		s.untilThird(t, f.cfg.Storage)
		must(t, first.Process.Kill())
		_ = first.Wait()
		s.opened.Store(true)
		code, stdout, stderr := outcome(t, s.toAppliance(t, f, filepath.Join(t.TempDir(), "another host's"), "init")())
		s.completes(t, code, stdout+stderr, 20)
		if left, _ := filepath.Glob(filepath.Join(f.cfg.Storage, "uploads", "*")); len(left) > 0 {
			t.Errorf("left are %v", left)
		}
		f.stop(t)
		f.verify(t)
	})
	t.Run("after the daemon was killed, in the same run", func(t *testing.T) {
		f, s := newFaulty(t, ""), newLargeImages(t, 1, 50<<20)
		f.begin(t)
		c := s.toAppliance(t, f, filepath.Join(t.TempDir(), "ws"), "init")()
		var out bytes.Buffer
		c.Stdout, c.Stderr = &out, &out
		must(t, c.Start())
		s.untilThird(t, f.cfg.Storage)
		f.kill()
		f.start(t)
		s.opened.Store(true) // a mirror on the daemon's host may write on while there is none
		_ = c.Wait()
		s.completes(t, c.ProcessState.ExitCode(), out.String(), 20)
		f.stop(t)
		f.verify(t)
	})
	t.Run("after the mirror was killed, into an archive", func(t *testing.T) {
		program, err := exec.LookPath("appliance")
		must(t, err)
		s, dir := newLargeImages(t, 1, 50<<20), t.TempDir()
		start := s.command(t, program, "file://"+dir)
		first := start()
		must(t, first.Start())
		s.untilThird(t, dir)
		must(t, first.Process.Kill())
		_ = first.Wait()
		s.opened.Store(true)
		code, stdout, stderr := outcome(t, start())
		s.completes(t, code, stdout+stderr, 20)
		code, stdout, stderr = outcome(t, exec.Command(program, "mirror", "describe", dir))
		if code != 0 || !strings.Contains(stdout, "large/image") {
			t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
		}
	})
	t.Run("after the mirror was killed, into another registry", func(t *testing.T) {
		f, s := newFaulty(t, ""), newLargeImages(t, 1, 50<<20)
		f.begin(t)
		_, err := f.admin.CreateUser(t.Context(), api.NewUser{Name: "pusher", Role: "push", Password: faultPassword})
		must(t, err)
		start := s.toAppliance(t, f, filepath.Join(t.TempDir(), "ws"), "pusher") // which is served as any registry serves
		code, stdout, stderr := s.killedAndAgain(t, f.cfg.Storage, start)
		s.completes(t, code, stdout+stderr, 20)
		if !strings.Contains(stdout+stderr, "over the distribution protocol") {
			t.Errorf("it says\n%s%s", stdout, stderr)
		}
	})
}

// killedAndAgain runs a mirror that is killed when a third has come, and then another to its end.
func (s *largeImages) killedAndAgain(t *testing.T, storage string, start func() *exec.Cmd) (code int, stdout, stderr string) {
	t.Helper()
	first := start()
	must(t, first.Start())
	s.untilThird(t, storage)
	must(t, first.Process.Kill())
	_ = first.Wait()
	s.opened.Store(true)
	return outcome(t, start())
}

// TestMirror_withFaults: one request of five fails, and the mirror is killed in the middle.
func TestMirror_withFaults(t *testing.T) {
	f, s := newFaulty(t, ""), newLargeImages(t, 10, 20<<20) // of which 1 MiB, which programs have, is lost
	s.faulty = true
	f.begin(t)
	start := s.toAppliance(t, f, filepath.Join(t.TempDir(), "ws"), "init")
	code, stdout, stderr := s.killedAndAgain(t, f.cfg.Storage, start)
	s.completes(t, code, stdout+stderr, 100)
	f.stop(t)
	f.verify(t)
}
