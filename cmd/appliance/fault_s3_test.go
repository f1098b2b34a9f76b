//go:build s3

package main_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/registry/store/blobs3/s3test"
)

// inBucket has the daemon keep its blobs in a bucket.
func (f *faulty) inBucket(t *testing.T, bucket *s3test.Server) {
	t.Helper()
	f.cfg.Storage, _ = bucket.Address(t, "")
	f.cfg.StorageCredentials, f.cfg.StorageRedirect = bucket.Credentials, bucket.CA != ""
	f.objects = bucket.Dir
	text, err := f.cfg.Marshal()
	must(t, errors.Join(err, os.WriteFile(config.Path(f.root), text, 0o644)))
}

// TestKilled_S3 is TestKilled with blobs in S3, some of them in parts. What a killed daemon has left in
// the bucket is collected.
func TestKilled_S3(t *testing.T) {
	f := newFaulty(t, inMemory(t))
	f.inBucket(t, s3test.Start(t))
	f.begin(t)
	h := newHammer(f, max(kills/4, 8))                                                // the tests of S3 have less time than those of a disk
	h.sizes = append(h.sizes, 50<<10, 50<<10, 50<<10, 50<<10, 50<<10, 50<<10, 18<<20) // of which half have parts
	killAgain(t, h)
}

// TestRedirect_clients has clients follow redirects to the bucket.
func TestRedirect_clients(t *testing.T) {
	bucket := s3test.StartTLS(t)
	t.Setenv("SSL_CERT_FILE", bucket.CA) // for the daemon
	f := newFaulty(t, "")
	f.inBucket(t, bucket)
	f.logged = true
	f.begin(t)
	host := strings.Replace(f.socket.Name(), "127.0.0.1", "localhost", 1)
	image := pushRandom(t, f, host+"/app:v1")

	ca, err := os.ReadFile(f.cfg.TLS.CA)
	must(t, err)
	both, err := os.ReadFile(bucket.CA)
	must(t, err)
	certs, half := t.TempDir(), t.TempDir()
	must(t, os.WriteFile(filepath.Join(certs, "ca.crt"), append(both, ca...), 0o644))
	must(t, os.WriteFile(filepath.Join(half, "ca.crt"), ca, 0o644))

	var redirected, logins atomic.Int32
	bucket.Fault(func(r *http.Request) s3test.Action {
		if r.URL.Query().Has("X-Amz-Signature") {
			redirected.Add(1)
		}
		if r.URL.Query().Has("X-Amz-Signature") && r.Header.Get("Authorization") != "" {
			logins.Add(1)
		}
		return s3test.Pass
	})
	home, err := os.MkdirTemp("", "podman") // shorter than t.TempDir, as podman wants it
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(home)) })
	client := func(args ...string) (int, string) {
		c := exec.Command(args[0], args[1:]...)
		c.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "TMPDIR=" + home} // without SSL_CERT_FILE
		code, stdout, stderr := outcome(t, c)
		return code, stdout + stderr
	}
	skopeo := func(certs string) (int, string) {
		return client("skopeo", "copy", "-q", "--src-creds", "init:"+faultPassword, "--src-cert-dir", certs, "docker://"+host+"/app:v1", "dir:"+t.TempDir())
	}
	if code, said := skopeo(half); code == 0 || !strings.Contains(said, "certificate") || redirected.Load() > 0 {
		t.Errorf("skopeo that does not know the CA of the bucket: %d %s", code, said)
	}
	if code, said := skopeo(certs); code != 0 || redirected.Swap(0) < image {
		t.Errorf("skopeo: %d %s", code, said)
	}
	podman := []string{"podman", "--root", home + "/root", "--runroot", home + "/run", "--storage-driver", "vfs", "--events-backend", "none"}
	if code, said := client(append(podman, "pull", "-q", "--creds", "init:"+faultPassword, "--cert-dir", certs, host+"/app:v1")...); code != 0 || redirected.Swap(0) < image {
		t.Errorf("podman: %d %s", code, said)
	}
	if logins.Load() > 0 {
		t.Error("a client sent its login for the registry to the bucket")
	}
	f.stop(t)
	if said := f.said.String(); strings.Contains(said, "X-Amz") || !strings.Contains(said, "/v2/app/blobs/sha256:") {
		t.Errorf("the log is %s", said)
	}
}

// pushRandom pushes an image that podman takes, and returns how many blobs it has.
func pushRandom(t *testing.T, f *faulty, at string) (blobs int32) {
	t.Helper()
	image, err := random.Image(1<<20, 3)
	must(t, err)
	ref, err := name.ParseReference(at)
	must(t, err)
	transport := f.http.Transport.(*http.Transport).Clone()
	transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", f.socket.Name())
	}
	must(t, remote.Write(ref, image, remote.WithAuth(&authn.Basic{Username: "init", Password: faultPassword}), remote.WithTransport(transport)))
	layers, err := image.Layers()
	must(t, err)
	return int32(len(layers)) + 1
}

// TestDown_S3 stops the server of the storage: commands and metrics name it, and what needs it is to be asked again.
func TestDown_S3(t *testing.T) {
	bucket := s3test.Start(t)
	f := newFaulty(t, "")
	f.inBucket(t, bucket)
	f.begin(t)
	m := newTestImage("app", "v1", randomBytes(10<<10))
	must(t, f.push(t.Context(), m))
	bucket.Halt()
	code, stdout, stderr := outcome(t, f.command("status"))
	if code != 0 || stderr != "" {
		t.Errorf("status: exit code %d\n%s", code, stderr)
	}
	contains(t, stdout, "healthy       no: disk_space; see below\n", "held          1 repositories, 1 tags", "last gc       never\n", "trouble: write to s3://"+s3test.Bucket, "connection refused", "hint: it is tried again by itself")
	code, stdout, _ = outcome(t, f.command("doctor"))
	if code != 1 {
		t.Errorf("doctor: exit code %d", code)
	}
	contains(t, stdout, "FAILED   health      disk_space: write to s3://"+s3test.Bucket, "look at the storage and at the network between", "ok       database")
	for path, want := range map[string]int{"/metrics": http.StatusOK, m.path() + "v1": http.StatusOK, "/v2/app/blobs/" + digest.FromBytes(m.contents[0]).String(): http.StatusServiceUnavailable} {
		a, err := f.demand(t.Context(), want, http.MethodGet, path, nil)
		must(t, err)
		if (a.header.Get("Retry-After") != "") != (want == http.StatusServiceUnavailable) {
			t.Errorf("%s is answered %d %v", path, want, a.header)
		}
		if path == "/metrics" {
			contains(t, string(a.body), `appliance_healthy{service="disk_space"} 0`, `appliance_healthy{service="database"} 1`, "appliance_store_tags 1")
		}
	}
	f.kill()
}
