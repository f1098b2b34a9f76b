package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/cmd/sample-upstream/sample"
)

// run runs a command line with password as its standard input.
func run(ctx context.Context, password string, args ...string) (string, error) {
	cmd := newRootCommand()
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetIn(strings.NewReader(password))
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(ctx)
	return out.String(), err
}

func TestServe(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ready := filepath.Join(t.TempDir(), "ready")
	done := make(chan error, 1)
	var out string
	go func() {
		var err error
		out, err = run(ctx, "", "--ready-file", ready)
		done <- err
	}()

	host := waitForFile(t, ready, done)
	resp, err := http.Get("http://" + host + "/v2/samples/oci/manifests/v1")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	want, err := run(ctx, "", "digest", "--host", host, "samples/oci:v1")
	if err != nil {
		t.Fatal(err)
	}
	if got := resp.Header.Get("Docker-Content-Digest"); got != strings.TrimSpace(want) {
		t.Errorf("served %q, the digest command says %q", got, want)
	}

	stop()
	if err := <-done; err != nil {
		t.Errorf("serving ended with %v", err)
	}
	for _, part := range []string{"http://" + host, "samples/oci:v1", sample.GraphPath, sample.ChartsPath} {
		if !strings.Contains(out, part) {
			t.Errorf("output does not name %s:\n%s", part, out)
		}
	}
}

// waitForFile returns a line that another goroutine writes, and fails when that goroutine ends.
func waitForFile(t *testing.T, path string, done <-chan error) string {
	t.Helper()
	for {
		select {
		case err := <-done:
			t.Fatalf("ended before it was ready: %v", err)
		case <-time.After(5 * time.Millisecond):
		}
		if line, err := os.ReadFile(path); err == nil {
			return strings.TrimSpace(string(line))
		}
	}
}

func TestServe_refused(t *testing.T) {
	for name, args := range map[string][]string{
		"every address": {"--listen", ":0"},
		"no address":    {"--listen", "nowhere"},
		"no directory":  {"--ready-file", filepath.Join(t.TempDir(), "none", "ready")},
		"an argument":   {"127.0.0.1:0"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second) // ends a server that starts
			defer cancel()
			if _, err := run(ctx, "", args...); err == nil {
				t.Error("it served")
			}
		})
	}
}

func TestDigest_unknownImage(t *testing.T) {
	for _, ref := range []string{"samples/none:v1", "samples/oci:v2", "samples/oci"} {
		if out, err := run(t.Context(), "", "digest", ref); err == nil {
			t.Errorf("%s has digest %s", ref, out)
		}
	}
}

// secured serves content as an appliance does: with TLS, a CA of its own and a login.
func secured(t *testing.T, wrap func(http.Handler) http.Handler) (registry, caFile string, c *sample.Content) {
	t.Helper()
	srv := httptest.NewUnstartedServer(nil)
	c, err := sample.New(srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	content := wrap(c.Handler())
	srv.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "init" || password != "correct horse" {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		content.ServeHTTP(w, r)
	})
	srv.StartTLS()
	t.Cleanup(srv.Close)
	caFile = filepath.Join(t.TempDir(), "ca.pem")
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	if err := os.WriteFile(caFile, ca, 0o600); err != nil {
		t.Fatal(err)
	}
	return c.Host(), caFile, c
}

func TestCheck(t *testing.T) {
	registry, ca, c := secured(t, func(h http.Handler) http.Handler { return h })
	login := []string{"check", "--registry", registry, "--ca", ca, "--user", "init", "--password-stdin"}
	digestOf := func(repo, tag string) string {
		m, _ := c.Manifest(repo, tag)
		return m.Digest.String()
	}

	for _, ref := range []string{"samples/docker:v1", "samples/oci-multi:v1", "samples/artifact:v1", sample.ReleaseRepository + ":4.18.2-x86_64"} {
		t.Run(ref, func(t *testing.T) {
			repo, tag, _ := strings.Cut(ref, ":")
			want := digestOf(repo, tag)
			out, err := run(t.Context(), "correct horse\n", append(login, ref, want)...)
			if err != nil || !strings.Contains(out, want) {
				t.Errorf("output %q, error %v", out, err)
			}
		})
	}
	t.Run("only the login", func(t *testing.T) {
		if _, err := run(t.Context(), "correct horse", login...); err != nil {
			t.Error(err)
		}
	})

	other := digestOf("samples/docker", "v1")
	for name, tc := range map[string]struct {
		password string
		args     []string
	}{
		"another digest":               {"correct horse", append(login, "samples/oci:v1", other)},
		"an absent image":              {"correct horse", append(login, "samples/none:v1", other)},
		"a wrong password":             {"wrong", append(login, "samples/docker:v1", other)},
		"a wrong password, login only": {"wrong", login},
		"no login":                     {"", []string{"check", "--registry", registry, "--ca", ca}},
		"another CA":                   {"correct horse", append(login, "--ca", otherCA(t))},
		"a CA unknown to the system":   {"correct horse", append([]string{"check", "--registry", registry}, login[5:]...)},
		"an image without digest":      {"correct horse", append(login, "samples/docker:v1")},
	} {
		t.Run(name+" fails", func(t *testing.T) {
			if out, err := run(t.Context(), tc.password, tc.args...); err == nil {
				t.Errorf("it passed: %s", out)
			}
		})
	}
}

// otherCA returns a certificate that signed nothing.
func otherCA(t *testing.T) string {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(nil, &template, &template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "other.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestCheck_corruptBlob changes the last byte of a layer on the way.
func TestCheck_corruptBlob(t *testing.T) {
	var corrupt string
	registry, ca, c := secured(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !strings.HasSuffix(r.URL.Path, corrupt) {
				h.ServeHTTP(w, r)
				return
			}
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, r)
			body := rec.Body.Bytes()
			body[len(body)-1] ^= 1
			_, _ = w.Write(body)
		})
	})
	m, _ := c.Manifest("samples/docker", "v1")
	var img ocispec.Manifest
	if err := json.Unmarshal(m.Body, &img); err != nil {
		t.Fatal(err)
	}
	corrupt = img.Layers[1].Digest.String()
	out, err := run(t.Context(), "correct horse", "check", "--registry", registry, "--ca", ca,
		"--user", "init", "--password-stdin", "samples/docker:v1", m.Digest.String())
	if err == nil {
		t.Errorf("it passed: %s", out)
	}
}
