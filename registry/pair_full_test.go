package registry_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/mirror-appliance/appliance/internal/diskspace/diskspacetest"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/config"
)

// newSmall starts an appliance whose images and database are on a disk of 32 MiB, with functions that fill it and
// make space again.
func newSmall(t *testing.T) (o *one, fill, free func()) {
	t.Helper()
	dir, fill := diskspacetest.Small(t)
	o = newOne(t, func(c *config.Config) {
		c.Storage, c.Database, c.MinFree = filepath.Join(dir, "storage"), filepath.Join(dir, "db", "appliance.db"), 0
		for _, d := range []string{c.Storage, filepath.Dir(c.Database)} {
			must(t, os.Mkdir(d, 0o700))
		}
	})
	return o, fill, func() {
		t.Helper()
		must(t, os.Remove(filepath.Join(dir, "filler")))
	}
}

// pushLayer pushes an image with a layer of a size.
func (o *one) pushLayer(t *testing.T, at string, size int64) error {
	t.Helper()
	img, err := random.Image(size, 1)
	must(t, err)
	return remote.Write(o.ref(t, at), img, o.remote(t, "push", password)...)
}

// A follower whose disk is full serves pulls, tells so and how far behind it is, and goes on by itself once there is
// space. The first takes changes all the while.
func TestPair_followersDiskIsFull(t *testing.T) {
	first := newOne(t)
	second, fill, free := newSmall(t)
	must(t, first.push(t, "app:v1"))
	second.follows(t, first)
	fill()
	for _, at := range []string{"app:v2", "app:v3", "app:v4"} {
		must(t, first.pushLayer(t, at, 1<<20))
	}
	s := second.await(t, func(s api.Status) bool {
		return s.Following != nil && s.Following.Changes > 0 && strings.Contains(s.Following.Error, "no space left for ")
	})
	if all := doctor(s); !s.Following.Connected || s.Following.Equal == nil || !strings.Contains(all, "no space left for ") || !strings.Contains(all, "free space on the file system of") {
		t.Errorf("it is %+v, and doctor tells\n%s", s.Following, all)
	}
	if !second.has(t, "app:v1") || second.has(t, "app:v2") {
		t.Error("it does not serve what it had, and that alone")
	}
	_, err := second.admin.Promote(t.Context(), api.PromoteRequest{}, nil)
	if err == nil || !strings.Contains(err.Error(), "not asked to give way") || !strings.Contains(hint.Of(err), "free space on the file system of") {
		t.Errorf("its promotion ends with %v, hint %s", err, hint.Of(err))
	}
	first.mustBe(t, "primary")
	free()
	second.await(t, func(s api.Status) bool {
		return s.Following != nil && s.Following.CaughtUp && s.Following.Error == "" && second.has(t, "app:v4")
	})
}

// A first whose disk is full is followed still, and takes changes again once there is space; or its follower takes its
// place, and nothing is lost.
func TestPair_firstsDiskIsFull(t *testing.T) {
	for name, freed := range map[string]bool{"and has space again": true, "and is replaced": false} {
		t.Run(name, func(t *testing.T) {
			second := newOne(t)
			first, fill, free := newSmall(t)
			must(t, first.push(t, "app:v1"))
			second.follows(t, first)
			second.end(t)
			must(t, first.push(t, "app:v2"))
			fill()
			if err := first.pushLayer(t, "app:v3", 1<<20); err == nil {
				t.Fatal("it takes a push")
			}
			second.again(t)
			second.await(t, func(s api.Status) bool { return s.Following != nil && s.Following.CaughtUp && second.has(t, "app:v2") })
			if freed {
				free()
				must(t, first.pushLayer(t, "app:v3", 1<<20))
				second.await(t, func(s api.Status) bool { return s.Following.CaughtUp && second.has(t, "app:v3") })
				return
			}
			done, err := second.admin.Promote(t.Context(), api.PromoteRequest{}, nil)
			must(t, err)
			if done.Forced != "" || len(done.Family.Untold) > 0 {
				t.Errorf("promoted: %+v", done)
			}
			first.mustBe(t, "superseded")
			must(t, second.pushLayer(t, "app:v3", 1<<20))
		})
	}
}
