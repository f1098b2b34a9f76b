package registry_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/config"
)

// The overview has what doctor tells of the daemon, with what to type, and when jobs begin by themselves.
func TestConsole_overview(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "set.yaml")
	writeSet(t, file, newSample(t), "samples/docker:v1")
	r := start(t, func(c *config.Config) {
		c.Sync = []config.Sync{{ImageSet: file, Workspace: filepath.Join(dir, "ws"), Interval: time.Hour}}
		c.GC.Interval, c.Scrub.Interval = time.Hour, time.Hour
	})
	s := r.logIn(t, "admin")
	body := s.shows(t, "/", 200, "The registry is healthy.", "it has not run yet; next", "!the last run", "!no collection yet")
	if n := strings.Count(body, "Next:"); n != 2 {
		t.Errorf("%d jobs have a next time:\n%s", n, body)
	}
	must(t, os.Remove(file))
	if _, err := r.admin.Mirror(t.Context(), api.MirrorRequest{ImageSet: file}, nil); err == nil {
		t.Fatal("a set that there is not was mirrored")
	}
	s.shows(t, "/", 200, "sync "+file+": the last run, at ", "run it now: appliance sync "+file, "!The registry is healthy.")
	status, err := r.admin.Status(t.Context())
	must(t, err)
	if status.NextGC == nil || status.NextScrub == nil {
		t.Errorf("the next collection and scrub are at %v and %v", status.NextGC, status.NextScrub)
	}
}
