package registry_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/cmd/sample-upstream/sample"
	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/upstream"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/client"
	"github.com/mirror-appliance/appliance/registry/config"
)

// mirrorPlain reads sources without TLS.
func mirrorPlain(_ context.Context, set config.Sync, log *slog.Logger) (mirror.Options, func(), error) {
	loaded, err := imageset.Load(set.ImageSet)
	if err != nil {
		return mirror.Options{}, nil, err
	}
	registries := upstream.NewRegistries(func(registry string) (upstream.Options, error) {
		return upstream.Options{Registry: registry, PlainHTTP: true, Log: log}, nil
	})
	return mirror.Options{Config: loaded, Log: log, Open: func(ref imageset.Reference) (mirror.Source, error) {
		return registries.Repository(ref.Registry(), ref.Repository())
	}}, registries.Close, nil
}

// writeSet writes an image set with some images of a sample upstream.
func writeSet(t *testing.T, file, source string, images ...string) {
	t.Helper()
	text := "kind: ImageSetConfiguration\napiVersion: mirror.openshift.io/v2alpha1\nmirror:\n  additionalImages:\n"
	for _, image := range images {
		text += "  - name: " + source + "/" + image + "\n"
	}
	must(t, os.WriteFile(file, []byte(text), 0o600))
}

func newSample(t *testing.T) (host string) {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	content, err := sample.New(server.Listener.Addr().String())
	must(t, err)
	server.Config.Handler = content.Handler()
	server.Start()
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

func TestScheduled_mirrorsAnImageSet(t *testing.T) {
	source, dir := newSample(t), t.TempDir()
	set := config.Sync{ImageSet: filepath.Join(dir, "set.yaml"), Workspace: filepath.Join(dir, "ws"), Interval: time.Hour, Prefix: "far"}
	writeSet(t, set.ImageSet, source, "samples/docker:v1")
	r := start(t, func(c *config.Config) { c.Sync = []config.Sync{set} })
	ask := api.MirrorRequest{ImageSet: set.ImageSet}
	told := 0
	result, err := r.admin.Mirror(t.Context(), ask, func(api.MirrorProgress) { told++ })
	must(t, err)
	if result.Mirrored != 1 || result.Planned != 1 || result.Fetched == 0 || told == 0 {
		t.Errorf("the first run: %+v, told %d times", result, told)
	}
	if status, _ := r.as(t, "pull", http.MethodGet, "/v2/far/samples/docker/manifests/v1"); status != http.StatusOK {
		t.Errorf("the image is answered %d", status)
	}
	for _, file := range append(result.Resources, result.Report) {
		if text, err := os.ReadFile(file); err != nil || !strings.Contains(string(text), r.cfg.Address()) {
			t.Errorf("%s: %v, without the name of this registry", file, err)
		}
	}
	result, err = r.admin.Mirror(t.Context(), ask, nil)
	must(t, err)
	if result.Mirrored != 1 || result.Fetched != 0 {
		t.Errorf("the second run: %+v", result)
	}
	last := func() api.MirrorState {
		s, err := r.admin.Status(t.Context())
		must(t, err)
		if len(s.Sync) != 1 || s.Sync[0].ImageSet != set.ImageSet || s.Sync[0].Last == nil {
			t.Fatalf("the status has %+v", s.Sync)
		}
		return s.Sync[0]
	}
	if s := last(); s.Last.Error != "" || s.Running != nil || time.Duration(s.Every) != time.Hour {
		t.Errorf("the status has %+v", s)
	}

	writeSet(t, set.ImageSet, source, "samples/docker:v1", "samples/absent:v1")
	_, err = r.admin.Mirror(t.Context(), ask, nil)
	if err == nil {
		t.Error("an image that is absent is no failure")
	}
	r = r.restart(t)
	if s := last(); s.Last.Error == "" || s.Last.Mirrored != 1 || len(s.Last.Failures) != 1 || !strings.Contains(s.Last.Failures[0].Image, "samples/absent") {
		t.Errorf("after a restart the status has %+v", s.Last)
	}
	_, body := r.get(t, "/metrics")
	for _, want := range []string{"appliance_sync_running{", "appliance_sync_runs_total{"} {
		if !strings.Contains(body, want+`image_set="`+set.ImageSet+`"}`) {
			t.Errorf("the metrics have no %s", want)
		}
	}
}

// The state of a run that waits for another one is shown.
func TestScheduled_waitsForAnother(t *testing.T) {
	began, end := make(chan bool), make(chan bool)
	var once sync.Once
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		once.Do(func() { close(began) })
		<-end
		http.NotFound(w, r)
	}))
	defer slow.Close()
	dir := t.TempDir()
	var sets []config.Sync
	for _, name := range []string{"a", "b"} {
		set := config.Sync{ImageSet: filepath.Join(dir, name+".yaml"), Workspace: filepath.Join(dir, name), Interval: time.Hour}
		writeSet(t, set.ImageSet, slow.Listener.Addr().String(), "samples/docker:v1")
		sets = append(sets, set)
	}
	r := start(t, func(c *config.Config) { c.Sync = sets })
	done := make(chan bool)
	go func() {
		defer close(done)
		_, _ = r.admin.Mirror(t.Context(), api.MirrorRequest{ImageSet: sets[0].ImageSet}, nil)
	}()
	<-began
	answer := sync.OnceFunc(func() { close(end) })
	defer time.AfterFunc(10*time.Second, answer).Stop()
	waiting := false
	_, _ = r.admin.Mirror(t.Context(), api.MirrorRequest{ImageSet: sets[1].ImageSet}, func(p api.MirrorProgress) {
		if p.Waiting {
			waiting = true
			answer()
		}
	})
	<-done
	if !waiting {
		t.Error("it does not say that it waits")
	}
}

func TestScheduled_runsByItself(t *testing.T) {
	source, dir := newSample(t), t.TempDir()
	var sets []config.Sync
	for _, name := range []string{"a", "b"} {
		set := config.Sync{ImageSet: filepath.Join(dir, name+".yaml"), Workspace: filepath.Join(dir, name), Interval: 50 * time.Millisecond}
		writeSet(t, set.ImageSet, source, "samples/docker:v1")
		sets = append(sets, set)
	}
	r := start(t, func(c *config.Config) { c.Sync = sets })
	for {
		s, err := r.admin.Status(t.Context())
		must(t, err)
		if s.Sync[0].Last != nil && s.Sync[1].Last != nil {
			if s.Sync[0].Last.Mirrored != 1 || s.Sync[1].Last.Mirrored != 1 {
				t.Errorf("mirrored %+v, %+v", s.Sync[0].Last, s.Sync[1].Last)
			}
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestScheduled_namesWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	set := config.Sync{ImageSet: filepath.Join(dir, "set.yaml"), Workspace: filepath.Join(dir, "ws"), Interval: time.Hour}
	must(t, os.WriteFile(set.ImageSet, []byte("kind: ImageSetConfiguration\nmirorr: {}\n"), 0o600))
	r := start(t, func(c *config.Config) { c.Sync = []config.Sync{set} })
	s, err := r.admin.Status(t.Context())
	must(t, err)
	if len(s.Trouble) == 0 || !strings.Contains(s.Trouble[0].Problem, set.ImageSet) {
		t.Errorf("an image set that cannot be read is no trouble: %+v", s.Trouble)
	}
	if _, err := r.admin.Mirror(t.Context(), api.MirrorRequest{ImageSet: set.ImageSet}, nil); err == nil || !strings.Contains(err.Error(), set.ImageSet) {
		t.Errorf("a run of it: %v", err)
	}
	var refused *client.Refused
	_, err = r.admin.Mirror(t.Context(), api.MirrorRequest{ImageSet: "/elsewhere.yaml"}, nil)
	if !errors.As(err, &refused) || refused.Status != http.StatusBadRequest || !strings.Contains(err.Error(), "/elsewhere.yaml") {
		t.Errorf("an image set that is not configured: %v", err)
	}
}
