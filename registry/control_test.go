package registry_test

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/gc"
	"github.com/mirror-appliance/appliance/registry"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/client"
	"github.com/mirror-appliance/appliance/registry/config"
)

func TestRun_administer(t *testing.T) {
	r := start(t)
	for user, want := range map[string]int{"": http.StatusUnauthorized, "pull": http.StatusForbidden, "push": http.StatusForbidden, "admin": http.StatusOK} {
		code, body := r.as(t, user, http.MethodGet, "/api/v1/status")
		if code != want {
			t.Errorf("%q is answered %d %s", user, code, body)
		}
		if want != http.StatusOK && !strings.HasPrefix(body, `{"error":`) {
			t.Errorf("%q is refused with %s", user, body)
		}
	}
	t.Run("a password that is changed counts at once", func(t *testing.T) {
		r.as(t, "pull", http.MethodGet, "/v2/")
		_, err := r.admin.ChangeUser(t.Context(), "pull", api.UserChange{Password: "another-one"})
		must(t, err)
		if code, _ := r.as(t, "pull", http.MethodGet, "/v2/"); code != http.StatusUnauthorized {
			t.Errorf("the old one is answered %d", code)
		}
	})
}

func TestRun_administerWithClient(t *testing.T) {
	r := start(t, func(c *config.Config) { c.Hostname = "localhost" })
	_, port, err := net.SplitHostPort(r.addr)
	must(t, err)
	dial := func(t *testing.T, addr, user string) (*client.Client, error) {
		c, err := client.Dial(t.Context(), addr, user, password, &tls.Config{RootCAs: r.roots, MinVersion: tls.VersionTLS12})
		if err == nil {
			t.Cleanup(c.Close)
		}
		return c, err
	}
	t.Run("as an administrator", func(t *testing.T) {
		c, err := dial(t, "localhost:"+port, "admin")
		must(t, err)
		if s, err := c.Status(t.Context()); err != nil || s.Version != "v0-test" {
			t.Errorf("status is %+v, %v", s, err)
		}
		run, err := c.BeginSync(t.Context(), "test")
		must(t, err)
		must(t, run.PutBlob(t.Context(), "a", ocispec.Descriptor{Digest: digest.FromString("x"), Size: 1}, strings.NewReader("x")))
		held, _, _, err := run.Existing(t.Context(), map[string][]digest.Digest{"a": {digest.FromString("x")}}, nil)
		if err != nil || len(held["a"]) != 1 {
			t.Errorf("held: %v, %v", held, err)
		}
	})
	t.Run("over the socket, where that is its own", func(t *testing.T) {
		c, err := dial(t, "localhost:"+port, "admin")
		must(t, err)
		near := c.Near(t.Context())
		if near == nil {
			t.Fatal("its socket is not found")
		}
		t.Cleanup(near.Close)
		if s, err := near.Status(t.Context()); err != nil || s.Version != "v0-test" {
			t.Errorf("status is %+v, %v", s, err)
		}
		status, err := r.admin.Status(t.Context())
		must(t, err)
		moved := filepath.Join(t.TempDir(), "moved")
		must(t, os.Rename(status.Socket, moved))
		t.Cleanup(func() { must(t, os.Rename(moved, status.Socket)) })
		if c.Near(t.Context()) != nil {
			t.Error("there is none, and one is found")
		}
		l, err := net.Listen("unix", status.Socket)
		must(t, err)
		status.Started = status.Started.Add(time.Second) // another daemon
		other := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			must(t, json.NewEncoder(w).Encode(status))
		})}
		t.Cleanup(func() { _ = other.Close() })
		go func() { _ = other.Serve(l) }()
		if c.Near(t.Context()) != nil {
			t.Error("another daemon's socket is taken for its own")
		}
	})
	t.Run("as another user", func(t *testing.T) {
		_, err := dial(t, "localhost:"+port, "push")
		var refused *client.Refused
		if !errors.As(err, &refused) || refused.Status != http.StatusForbidden || refused.Hint() == "" {
			t.Errorf("error is %v", err)
		}
	})
	t.Run("by a name that the certificate has not", func(t *testing.T) {
		_, err := dial(t, r.addr, "admin")
		var hint interface{ Hint() string }
		if err == nil || !errors.As(err, &hint) || !strings.Contains(hint.Hint(), "a name that its certificate is for") {
			t.Errorf("error is %v", err)
		}
	})
}

func TestRun_sync(t *testing.T) {
	r := start(t)
	ctx := t.Context()
	img, err := random.Image(2048, 2)
	must(t, err)
	run, err := r.admin.BeginSync(ctx, "test")
	must(t, err)
	d := stage(t, run, "mirror/a", img)
	must(t, run.Tag(ctx, map[string]map[string]digest.Digest{"mirror/a": {"v1": d}}))

	if code, body := r.as(t, "pull", http.MethodGet, "/v2/mirror/a/manifests/v1"); code != http.StatusNotFound {
		t.Errorf("before the commit the tag is answered %d %s", code, body)
	}
	if code, body := r.as(t, "pull", http.MethodGet, "/v2/mirror/a/manifests/"+d.String()); code != http.StatusNotFound {
		t.Errorf("before the commit the digest is answered %d %s", code, body)
	}
	if _, err := r.admin.GC(ctx, api.GCRequest{}, nil); err != nil { // with no grace period at all
		t.Error(err)
	}
	must(t, run.Commit(ctx))
	back, err := remote.Image(tag(t, "mirror/a:v1"), r.remote(t, "pull", password)...)
	must(t, err)
	must(t, validate.Image(back))
	sameDigest(t, back, img)
}

// stage puts an image into a run, and returns its digest.
func stage(t *testing.T, run *client.Run, repo string, img v1.Image) digest.Digest {
	t.Helper()
	put := func(content []byte) {
		desc := ocispec.Descriptor{Digest: digest.FromBytes(content), Size: int64(len(content))}
		must(t, run.PutBlob(t.Context(), repo, desc, bytes.NewReader(content)))
	}
	layers, err := img.Layers()
	must(t, err)
	for _, l := range layers {
		rc, err := l.Compressed()
		must(t, err)
		content, err := io.ReadAll(rc)
		must(t, err)
		put(content)
	}
	config, err := img.RawConfigFile()
	must(t, err)
	put(config)
	body, err := img.RawManifest()
	must(t, err)
	mediaType, err := img.MediaType()
	must(t, err)
	desc := ocispec.Descriptor{MediaType: string(mediaType), Digest: digest.FromBytes(body), Size: int64(len(body))}
	must(t, run.PutManifest(t.Context(), repo, desc, body))
	return desc.Digest
}

func TestRun_collect(t *testing.T) {
	r := start(t)
	keep, err := random.Image(2048, 2)
	must(t, err)
	drop, err := random.Image(1<<20, 2)
	must(t, err)
	for ref, img := range map[string]v1.Image{"a:keep": keep, "a:drop": drop} {
		must(t, remote.Write(tag(t, ref), img, r.remote(t, "push", password)...))
	}
	before := bytesIn(t, r.cfg.Storage)
	d, err := drop.Digest()
	must(t, err)
	ref, err := name.NewDigest(host + "/a@" + d.String())
	must(t, err)
	must(t, remote.Delete(ref, r.remote(t, "push", password)...))

	plan, err := r.admin.GC(t.Context(), api.GCRequest{DryRun: true}, nil)
	must(t, err)
	planIs(t, plan, drop)
	if plan.Blobs != 3 || plan.Bytes < 2<<20 || bytesIn(t, r.cfg.Storage) != before {
		t.Errorf("the plan is %+v", plan)
	}
	done, err := r.admin.GC(t.Context(), api.GCRequest{}, nil)
	must(t, err)
	if freed := before - bytesIn(t, r.cfg.Storage); done.Result != plan.Result || freed != done.Bytes {
		t.Errorf("planned %+v, done %+v, freed %d", plan, done, freed)
	}
	back, err := remote.Image(tag(t, "a:keep"), r.remote(t, "pull", password)...)
	must(t, err)
	must(t, validate.Image(back))
	if s, err := r.admin.Status(t.Context()); err != nil || s.LastGC == nil || s.LastGC.Bytes != done.Bytes {
		t.Errorf("status has %+v, %v", s.LastGC, err)
	}
	if _, body := r.get(t, "/metrics"); !strings.Contains(body, "appliance_gc_removed_blobs_total 3\n") {
		t.Error("the metrics do not have it")
	}
	for _, b := range plan.Plan {
		if code, _ := r.as(t, "pull", http.MethodGet, "/v2/a/blobs/"+b.Digest.String()); code != http.StatusNotFound {
			t.Errorf("%s was planned to go, and is answered %d", b.Digest, code)
		}
	}
	if plan, err = r.admin.GC(t.Context(), api.GCRequest{DryRun: true}, nil); err != nil || plan.Result != (gc.Result{}) {
		t.Errorf("afterwards the plan is %+v, %v", plan, err)
	}
}

// planIs expects a plan to list exactly the blobs of an image.
func planIs(t *testing.T, plan api.GCResult, img v1.Image) {
	t.Helper()
	m, err := img.Manifest()
	must(t, err)
	want := map[digest.Digest]int64{}
	for _, b := range append(m.Layers, m.Config) {
		want[digest.Digest(b.Digest.String())] = b.Size
	}
	for _, b := range plan.Plan {
		if size, ok := want[b.Digest]; !ok || size != b.Size {
			t.Errorf("%s of %d bytes is in the plan", b.Digest, b.Size)
		}
		delete(want, b.Digest)
	}
	if len(want) > 0 || plan.More != 0 {
		t.Errorf("the plan lacks %v and says that %d are not listed", want, plan.More)
	}
}

// TestRun_collectDetached leaves a collection to the daemon, which remembers it after a restart.
func TestRun_collectDetached(t *testing.T) {
	r := start(t)
	img, err := random.Image(2048, 2)
	must(t, err)
	must(t, remote.Write(tag(t, "a:v1"), img, r.remote(t, "push", password)...))
	d, err := img.Digest()
	must(t, err)
	must(t, remote.Delete(tag(t, "a:v1").Digest(d.String()), r.remote(t, "push", password)...))
	must(t, r.admin.BeginGC(t.Context(), api.GCRequest{}))
	var last *api.GCResult
	for last == nil { // until the test's time is over
		s, err := r.admin.Status(t.Context())
		must(t, err)
		last = s.LastGC
	}
	if last.Blobs != 3 || last.Error != "" {
		t.Errorf("it has removed %+v", last)
	}
	r = r.restart(t)
	s, err := r.admin.Status(t.Context())
	if err != nil || s.LastGC == nil || s.LastGC.Result != last.Result {
		t.Errorf("after a restart status has %+v, %v", s.LastGC, err)
	}
	if _, body := r.get(t, "/metrics"); !strings.Contains(body, "\nappliance_gc_last_success_timestamp_seconds ") {
		t.Error("after a restart the metrics do not have it")
	}
}

func TestRun_collectOnSchedule(t *testing.T) {
	r := start(t, func(c *config.Config) { c.GC.Interval = 10 * time.Millisecond })
	for { // until the test's time is over
		s, err := r.admin.Status(t.Context())
		must(t, err)
		if s.LastGC != nil {
			return
		}
	}
}

func bytesIn(t *testing.T, dir string) int64 {
	t.Helper()
	var sum int64
	must(t, filepath.WalkDir(dir, func(_ string, e os.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		sum += info.Size()
		return err
	}))
	return sum
}

func TestRun_pullThrough(t *testing.T) {
	upstream := httptest.NewServer(ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0))))
	defer upstream.Close()
	img, err := random.Image(2048, 2)
	must(t, err)
	source, err := name.NewTag(strings.TrimPrefix(upstream.URL, "http://") + "/org/image:v1")
	must(t, err)
	must(t, remote.Write(source, img, remote.WithContext(t.Context())))

	r := start(t, func(c *config.Config) {
		c.Upstreams = []config.Upstream{{Prefix: "up/stream", URL: upstream.URL + "/org", Freshness: time.Hour}}
	})
	for range 2 {
		back, err := remote.Image(tag(t, "up/stream/image:v1"), r.remote(t, "pull", password)...)
		must(t, err)
		must(t, validate.Image(back))
		sameDigest(t, back, img)
		upstream.Close() // the second time it must be held
	}
}

func TestRun_badUpstream(t *testing.T) {
	cfg, _ := configure(t)
	cfg.Listen = "127.0.0.1:0"
	cfg.Upstreams = []config.Upstream{{Prefix: "quay.io", URL: "https://quay.io:port"}}
	err := registry.Run(t.Context(), cfg, registry.Options{})
	if err == nil || !strings.Contains(err.Error(), "upstream quay.io") || !strings.Contains(err.Error(), "invalid port") {
		t.Errorf("error is %v", err)
	}
}
