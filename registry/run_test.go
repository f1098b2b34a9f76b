package registry_test

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/opencontainers/go-digest"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/registry"
	"github.com/mirror-appliance/appliance/registry/store"
)

func TestRun_pushAndPull(t *testing.T) {
	r := start(t)
	t.Run("an image", func(t *testing.T) {
		img, err := random.Image(4096, 3)
		must(t, err)
		must(t, remote.Write(tag(t, "a/b:v1"), img, r.remote(t, "push", password)...))
		back, err := remote.Image(tag(t, "a/b:v1"), r.remote(t, "pull", password)...)
		must(t, err)
		must(t, validate.Image(back))
		sameDigest(t, back, img)
	})
	t.Run("an index, pulled by digest", func(t *testing.T) {
		idx, err := random.Index(1024, 2, 3)
		must(t, err)
		must(t, remote.WriteIndex(tag(t, "a/b:multi"), idx, r.remote(t, "push", password)...))
		d, err := idx.Digest()
		must(t, err)
		ref, err := name.NewDigest(host + "/a/b@" + d.String())
		must(t, err)
		back, err := remote.Index(ref, r.remote(t, "pull", password)...)
		must(t, err)
		must(t, validate.Index(back))
		sameDigest(t, back, idx)
	})
	t.Run("not with a wrong password", func(t *testing.T) {
		_, err := remote.Image(tag(t, "a/b:v1"), r.remote(t, "pull", "wrong-password")...)
		status(t, err, http.StatusUnauthorized)
	})
	t.Run("not by a user who may only pull", func(t *testing.T) {
		img, err := random.Image(64, 1)
		must(t, err)
		status(t, remote.Write(tag(t, "a/b:v2"), img, r.remote(t, "pull", password)...), http.StatusForbidden)
	})
}

func sameDigest(t *testing.T, got, want interface{ Digest() (v1.Hash, error) }) {
	t.Helper()
	g, err := got.Digest()
	must(t, err)
	w, err := want.Digest()
	must(t, err)
	if g != w {
		t.Errorf("digest is %s, want %s", g, w)
	}
}

func status(t *testing.T, err error, want int) {
	t.Helper()
	var refused *transport.Error
	if !errors.As(err, &refused) || refused.StatusCode != want {
		t.Errorf("error is %v, want status %d", err, want)
	}
}

func TestRun_protocols(t *testing.T) {
	r := start(t)
	t.Run("HTTP/2", func(t *testing.T) {
		resp, err := r.http.Get("https://" + host + "/health/instance")
		must(t, err)
		resp.Body.Close()
		if resp.ProtoMajor != 2 {
			t.Errorf("answered with %s", resp.Proto)
		}
	})
	t.Run("HTTP/1.1", func(t *testing.T) {
		c := r.client(&tls.Config{RootCAs: r.roots, NextProtos: []string{"http/1.1"}})
		defer c.CloseIdleConnections()
		resp, err := c.Get("https://" + host + "/health/instance")
		must(t, err)
		resp.Body.Close()
		if resp.ProtoMajor != 1 {
			t.Errorf("answered with %s", resp.Proto)
		}
	})
	t.Run("plain HTTP is told to use TLS", func(t *testing.T) {
		resp, err := http.Get("http://" + r.addr + "/v2/")
		must(t, err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		must(t, err)
		if resp.StatusCode != http.StatusBadRequest || !strings.Contains(string(body), "HTTPS") {
			t.Errorf("answered %d %s", resp.StatusCode, body)
		}
	})
}

func TestRun_controlSocket(t *testing.T) {
	r := start(t)
	info, err := os.Lstat(r.cfg.ControlSocket)
	must(t, err)
	if info.Mode() != os.ModeSocket|0o600 {
		t.Errorf("mode is %s", info.Mode())
	}
	s, err := r.admin.Status(t.Context())
	must(t, err)
	if s.Version != "v0-test" || s.Address != host || !s.Healthy || s.Store.Users != 3 || s.Certificate.IsZero() {
		t.Errorf("status is %+v", s)
	}
	var fs unix.Statfs_t
	must(t, unix.Statfs(r.cfg.Storage, &fs))
	if len(s.Space) != 1 || s.Space[0].Inodes != int64(fs.Files) || fs.Files > 0 && s.Space[0].FreeInodes == 0 {
		t.Errorf("space is %+v, of %d inodes", s.Space, fs.Files)
	}
	r.end(t)
	if _, err := os.Lstat(r.cfg.ControlSocket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after the end: %v", err)
	}
}

func TestRun_drain(t *testing.T) {
	r := start(t)
	content := make([]byte, 32<<20) // more than all buffers between the two hold
	_, err := rand.Read(content)
	must(t, err)
	layer := static.NewLayer(content, types.OCILayer)
	must(t, remote.WriteLayer(tag(t, "a:v1").Repository, layer, r.remote(t, "push", password)...))
	d := digest.FromBytes(content)

	// HTTP/2 has its own way of ending connections.
	for proto, c := range map[string]*http.Client{"HTTP/1.1": r.client(&tls.Config{RootCAs: r.roots, NextProtos: []string{"http/1.1"}}), "HTTP/2.0": r.http} {
		defer c.CloseIdleConnections()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+host+"/v2/a/blobs/"+d.String(), nil)
		must(t, err)
		req.SetBasicAuth("pull", password)
		resp, err := c.Do(req)
		must(t, err)
		defer resp.Body.Close()
		if resp.Proto != proto || resp.StatusCode != http.StatusOK {
			t.Fatalf("answered %d with %s", resp.StatusCode, resp.Proto)
		}
		defer func() {
			rest, err := io.ReadAll(resp.Body)
			if err != nil || !bytes.Equal(rest, content) {
				t.Errorf("%s: read %d of %d bytes, %v", proto, len(rest), len(content), err)
			}
		}()
	}
	r.stop()
	r.awaitClosed()
	select {
	case err := <-r.ended:
		r.ended <- err // for the end of the test
		t.Fatalf("the daemon ended with pulls under way: %v", err)
	default:
	}
}

// awaitClosed waits until no connection is accepted: draining has begun.
func (r *running) awaitClosed() {
	for {
		conn, err := net.Dial("tcp", r.addr)
		if err != nil {
			return
		}
		conn.Close()
	}
}

// A connection that was accepted in the last instant has its first request answered.
func TestRun_drain_newConnection(t *testing.T) {
	for proto, client := range map[string]func(*running) *http.Client{
		"HTTP/1.1": func(r *running) *http.Client {
			return r.client(&tls.Config{RootCAs: r.roots, NextProtos: []string{"http/1.1"}})
		},
		"HTTP/2.0": func(r *running) *http.Client { return r.client(&tls.Config{RootCAs: r.roots}) },
	} {
		t.Run(proto, func(t *testing.T) {
			r := start(t)
			began := time.Now()
			c, err := client(r).Transport.(*http.Transport).NewClientConn(t.Context(), "https", host)
			must(t, err)
			defer c.Close()
			r.stop()
			r.awaitClosed()
			time.Sleep(50 * time.Millisecond)
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+host+"/health/instance", nil)
			must(t, err)
			resp, err := c.RoundTrip(req)
			if err == nil {
				resp.Body.Close()
				if resp.Proto != proto {
					t.Errorf("answered with %s", resp.Proto)
				}
			}
			if err != nil && time.Since(began) < time.Second { // which is what it has
				t.Errorf("the first request failed: %v", err)
			}
		})
	}
}

func TestRun_secondDaemon(t *testing.T) {
	r := start(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	err = registry.Run(t.Context(), r.cfg, registry.Options{Listeners: []net.Listener{l}})
	var locked *store.LockedError
	if !errors.As(err, &locked) {
		t.Errorf("error is %v", err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("its listener gives %v", err)
	}
	if code, _ := r.get(t, "/health/instance"); code != http.StatusOK {
		t.Errorf("the first is ill: %d", code)
	}
}

func TestRun_portTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer taken.Close()
	cfg, _ := configure(t)
	cfg.Listen = taken.Addr().String()
	err = registry.Run(t.Context(), cfg, registry.Options{})
	var hint interface{ Hint() string }
	if err == nil || !strings.Contains(err.Error(), "listen on "+cfg.Listen) || !errors.As(err, &hint) || !strings.Contains(hint.Hint(), "ss -ltnp") {
		t.Errorf("error is %v", err)
	}
}

func TestRun_openPages(t *testing.T) {
	r := start(t)
	ca, err := os.ReadFile(r.cfg.TLS.CA)
	must(t, err)
	for path, want := range map[string]struct {
		code int
		body string
	}{
		"/ca.crt":                  {http.StatusOK, string(ca)},
		"/":                        {http.StatusOK, "Log in · registry.test:8443"}, // by way of /login
		"/api/upgrades_info/graph": {http.StatusBadRequest, `{"kind":"missing_params"`},
		"/nothing":                 {http.StatusNotFound, "nothing at this path"},
		"/metrics":                 {http.StatusOK, "appliance_build_info"},
		"/v2/":                     {http.StatusUnauthorized, "UNAUTHORIZED"},
	} {
		if code, body := r.get(t, path); code != want.code || !strings.Contains(body, want.body) {
			t.Errorf("%s answers %d %s", path, code, body)
		}
	}
}

func TestRun_doubledSlash(t *testing.T) {
	r := start(t)
	if code, body := r.as(t, "pull", http.MethodGet, "/v2/a//b/manifests/x"); code != http.StatusBadRequest || !strings.Contains(body, "NAME_INVALID") {
		t.Errorf("answered %d %s", code, body)
	}
}

func TestRun_caFileWithKey(t *testing.T) {
	r := start(t)
	key, err := os.ReadFile(r.cfg.TLS.CAKey)
	must(t, err)
	ca, err := os.ReadFile(r.cfg.TLS.CA)
	must(t, err)
	must(t, os.WriteFile(r.cfg.TLS.CA, append(key, ca...), 0o600))
	if code, body := r.get(t, "/ca.crt"); code != http.StatusOK || body != string(ca) {
		t.Errorf("answered %d %s", code, body)
	}
}

func TestRun_crossOrigin(t *testing.T) {
	r := start(t)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+host+"/api/v1/gc", strings.NewReader("{}"))
	must(t, err)
	req.SetBasicAuth("admin", password)
	req.Header.Set("Origin", "https://elsewhere.test")
	resp, err := r.http.Do(req)
	must(t, err)
	resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("a page elsewhere could collect: %d", resp.StatusCode)
	}
}

func TestRun_accessLog(t *testing.T) {
	r := start(t)
	r.as(t, "pull", http.MethodGet, "/v2/?_state=s3cret")
	r.end(t)
	var line string
	for _, l := range strings.Split(r.access.String(), "\n") {
		if strings.Contains(l, "path=/v2/ ") {
			line = l
		}
	}
	for _, want := range []string{"method=GET", "status=200", "user=pull", "remote=127.0.0.1:", "duration="} {
		if !strings.Contains(line, want) {
			t.Errorf("%s is not in %q", want, line)
		}
	}
	for _, secret := range []string{"s3cret", password} {
		if strings.Contains(r.access.String()+r.log.String(), secret) {
			t.Errorf("%s is in a log", secret)
		}
	}
	if !strings.Contains(r.access.String(), "path=/api/v1/users status=201") || !strings.Contains(r.access.String(), "user=local") {
		t.Errorf("the control socket's requests are not in\n%s", r.access)
	}
}

func TestRun_health(t *testing.T) {
	r := start(t)
	const well = `{"data":{"services":{"auth":true,"database":true,"disk_space":true,"registry_gunicorn":true,"service_key":true,"web_gunicorn":true}},"status_code":200}`
	if code, body := r.get(t, "/health/instance"); code != http.StatusOK || strings.TrimSpace(body) != well {
		t.Errorf("answered %d %s", code, body)
	}
	ill := func(service string) {
		t.Helper()
		code, body := r.get(t, "/health/instance")
		var answer struct {
			Data struct {
				Services map[string]bool `json:"services"`
			} `json:"data"`
			StatusCode int `json:"status_code"`
		}
		must(t, json.Unmarshal([]byte(body), &answer))
		if code != http.StatusServiceUnavailable || answer.StatusCode != code {
			t.Errorf("answered %d %s", code, body)
		}
		for name, ok := range answer.Data.Services {
			if ok == (name == service) {
				t.Errorf("%s is %t in %s", name, ok, body)
			}
		}
	}
	away := r.cfg.Storage + ".away"
	must(t, os.Rename(r.cfg.Storage, away))
	ill("disk_space")
	must(t, os.Rename(away, r.cfg.Storage))
	must(t, os.Rename(r.cfg.ControlSocket, r.cfg.ControlSocket+"x"))
	ill("web_gunicorn")
	must(t, os.Rename(r.cfg.ControlSocket+"x", r.cfg.ControlSocket))
	if code, body := r.get(t, "/health/instance"); code != http.StatusOK {
		t.Errorf("mended, it answers %d %s", code, body)
	}
}

func TestRun_metrics(t *testing.T) {
	r := start(t)
	img, err := random.Image(1000, 1)
	must(t, err)
	must(t, remote.Write(tag(t, "a:v1"), img, r.remote(t, "push", password)...))
	_, body := r.get(t, "/metrics")
	for _, want := range []string{
		`appliance_http_requests_total{code="201",kind="manifest",method="PUT"} 1`,
		`appliance_http_requests_total{code="200",kind="other",method="GET"} 1`,
		`appliance_http_request_duration_seconds_count{kind="manifest",method="PUT"} 1`,
		"appliance_store_tags 1\n", "appliance_store_manifests 1\n", "appliance_store_blobs 2\n", "appliance_store_users 3\n",
		"appliance_gc_runs_total 0\n", "appliance_gc_running 0\n", "appliance_database_damaged 0\n", "appliance_store_quarantined_blobs 0\n",
		`appliance_filesystem_free_bytes{path="`, `appliance_filesystem_free_inodes{path="`, `appliance_filesystem_inodes{path="`, `appliance_filesystem_kept_inodes{path="`,
		"appliance_database_wal_size_bytes ", `appliance_build_info{goversion="go1.`, `version="v0-test"} 1`,
		"appliance_certificate_not_after_timestamp_seconds ", "go_goroutines ",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("%s is not in the metrics", want)
		}
	}
	problems, err := promlint.New(strings.NewReader(ours(body))).Lint()
	must(t, err)
	for _, p := range problems {
		t.Errorf("promtool would say of %s: %s", p.Metric, p.Text)
	}
	documented, err := os.ReadFile(filepath.Join("..", "docs", "operate.md"))
	must(t, err)
	for line := range strings.Lines(body) {
		if name, ok := strings.CutPrefix(line, "# HELP appliance_"); ok {
			if name, _, _ = strings.Cut(name, " "); !strings.Contains(string(documented), name) {
				t.Errorf("docs/operate.md does not have appliance_%s", name)
			}
		}
	}
}

// ours are the lines of the metrics that are not of the Go libraries.
func ours(metrics string) string {
	var all strings.Builder
	for line := range strings.Lines(metrics) {
		if strings.Contains(line, "appliance_") {
			all.WriteString(line)
		}
	}
	return all.String()
}

func TestRun_systemd(t *testing.T) {
	dir, err := os.MkdirTemp("", "n")
	must(t, err)
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "n")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	must(t, err)
	defer l.Close()
	t.Setenv("NOTIFY_SOCKET", socket)
	next := func() string {
		buf := make([]byte, 1024)
		n, err := l.Read(buf)
		must(t, err)
		return string(buf[:n])
	}
	r := start(t)
	if got := next(); got != "READY=1" {
		t.Errorf("first is %q", got)
	}
	r.end(t)
	if got := next(); got != "STOPPING=1" {
		t.Errorf("then is %q", got)
	}
}
