//go:build s3

package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
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

	"github.com/mirror-appliance/appliance/registry/admin/api"
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
	contains(t, stdout, "healthy       no: disk_space; see below\n", "held          1 repositories, 1 tags", "last gc       never\n", "trouble: write to s3://"+s3test.Bucket, "connection refused", "hint: a daemon tries again by itself")
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

	// While no daemon runs, the cause is what is seen: the database is a file, and well.
	f.refuses(t, []string{"status"}, "the registry is not running on this host", "; write to s3://"+s3test.Bucket, "connection refused", "look at the storage and at the network between")
	code, stdout, _ = outcome(t, f.command("doctor"))
	if code != 1 || strings.Contains(stdout, "tables") {
		t.Errorf("doctor: exit code %d\n%s", code, stdout)
	}
	contains(t, stdout, "FAILED   daemon      the registry is not running", "FAILED   storage     write to s3://"+s3test.Bucket)
}

// TestWaits_S3 starts a daemon before its storage: commands tell what it waits for, and it goes on when the storage is
// there. A second daemon that waits as well is refused then.
func TestWaits_S3(t *testing.T) {
	bucket := s3test.Start(t)
	f := newFaulty(t, "")
	f.inBucket(t, bucket)
	bucket.Halt()
	f.serve(t)
	eventuallyHolds(t, "status tells of the storage", func() bool {
		code, stdout, _ := outcome(t, f.command("status"))
		return code == 0 && strings.Contains(stdout, "connection refused")
	})
	_, stdout, _ := outcome(t, f.command("status"))
	contains(t, stdout, "healthy     no: disk_space; see below\n", "waits for   the storage s3://"+s3test.Bucket, ", since ", "trouble: write to s3://"+s3test.Bucket, "hint: ")
	code, stdout, _ := outcome(t, f.command("doctor"))
	if code != 1 || strings.Contains(stdout, "FAILED   database") || strings.Contains(stdout, "tables") || strings.Contains(stdout, "port ") {
		t.Errorf("doctor: exit code %d\n%s", code, stdout)
	}
	contains(t, stdout, "ok       daemon      version ", "FAILED   storage     s3://"+s3test.Bucket, "the start of the registry waits for it since ")
	code, stdout, _ = outcome(t, f.command("status", "-o", "json"))
	var status api.Status
	must(t, json.Unmarshal([]byte(stdout), &status))
	if w := status.Waiting; code != 0 || status.Healthy || w == nil || w.For != api.WaitingStorage || !strings.Contains(w.Reason, "connection refused") || w.Hint == "" || w.Since.Before(status.Started) {
		t.Errorf("exit code %d, %s", code, stdout)
	}
	f.refuses(t, []string{"gc"}, "the registry cannot do this before its start is over", "connection refused")

	other := *f
	second, serves := &other, f
	second.serve(t)
	eventuallyHolds(t, "the second waits", func() bool { return strings.Contains(second.said.String(), "another daemon answers on") })
	bucket.Begin(t)
	select {
	case <-second.gone:
	case <-f.gone:
		serves, second = second, f
	}
	serves.awaitsAnswer(t)
	if said := second.said.String(); !strings.Contains(said, "in use by another process") && !strings.Contains(said, "error: control socket: another daemon answers") {
		t.Errorf("the other ended with: %s", said)
	}
	if code, stdout, _ := outcome(t, f.command("status")); code != 0 || strings.Contains(stdout, "waits for") {
		t.Errorf("afterwards: exit code %d\n%s", code, stdout)
	}
	serves.kill()
}

// TestHangs_S3 has a storage take requests and answer none: the start tells so and ends with a signal, and clients of a
// daemon that runs are to ask again.
func TestHangs_S3(t *testing.T) {
	bucket := s3test.Start(t)
	f := newFaulty(t, "")
	f.inBucket(t, bucket)
	hang := func(*http.Request) s3test.Action { return s3test.Hang }
	bucket.Fault(hang)
	f.serve(t)
	eventuallyHolds(t, "status tells of the storage", func() bool {
		code, stdout, _ := outcome(t, f.command("status"))
		return code == 0 && strings.Contains(stdout, "waits for   the storage s3://"+s3test.Bucket)
	})
	eventuallyHolds(t, "the log tells of the storage", func() bool { return strings.Contains(f.said.String(), "waiting for the storage") })
	f.stop(t)
	contains(t, f.said.String(), "for 20s nothing was received or taken", "hint=")

	bucket.Fault(nil)
	f.begin(t)
	m := newTestImage("app", "v1", randomBytes(600<<10))
	must(t, f.push(t.Context(), m))
	a, err := f.demand(t.Context(), http.StatusAccepted, http.MethodPost, "/v2/app/blobs/uploads/", nil)
	must(t, err)
	bucket.Fault(hang)
	answers := make(chan error)
	for method, path := range map[string]string{http.MethodPatch: a.header.Get("Location"), http.MethodGet: "/v2/app/blobs/" + digest.FromBytes(m.contents[0]).String()} {
		go func() {
			a, err := f.demand(t.Context(), http.StatusServiceUnavailable, method, path, bytes.NewReader(m.contents[0]))
			if err == nil && a.header.Get("Retry-After") == "" {
				err = fmt.Errorf("%s is answered %v", method, a.header)
			}
			answers <- err
		}()
	}
	for range 2 {
		if err := <-answers; err != nil {
			t.Error(err)
		}
	}
	bucket.Fault(nil)
	must(t, f.push(t.Context(), newTestImage("app", "v2", randomBytes(600<<10))))
	f.kill()
}
