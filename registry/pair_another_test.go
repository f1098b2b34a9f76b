package registry_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// loseBlobs removes all files of blobs of an appliance, so that a follower cannot become equal.
func (o *one) loseBlobs(t *testing.T) {
	t.Helper()
	n := 0
	must(t, filepath.WalkDir(filepath.Join(o.cfg.Storage, "sha256"), func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() {
			n++
			err = os.Remove(path)
		}
		return err
	}))
	if n == 0 {
		t.Fatal("there are no files of blobs")
	}
}

// A follower that follows another appliance leaves the list of the one before, and was never equal to the other one.
func TestPair_followsAnother(t *testing.T) {
	first, other, follower := newOne(t), newOne(t), newOne(t)
	img, err := random.Image(64<<10, 3)
	must(t, err)
	must(t, remote.Write(other.ref(t, "app:v1"), img, other.remote(t, "push", password)...))
	other.loseBlobs(t)
	follower.follows(t, first)
	_, err = follower.admin.Follow(t.Context(), other.asks(t))
	must(t, err)
	s := follower.await(t, func(s api.Status) bool { return s.Following != nil && s.Following.Error != "" })
	if s.Following.Equal != nil || s.Family.Follows != other.address() {
		t.Errorf("it tells of the other one: %s", s.Following.Summary())
	}
	if all, err := first.admin.Followers(t.Context()); err != nil || len(all) > 0 {
		t.Errorf("the first of before has the followers %+v, %v", all, err)
	}
	t.Run("one that is not reached", func(t *testing.T) {
		other.end(t)
		followed, err := follower.admin.Follow(t.Context(), first.asks(t))
		must(t, err)
		if all := strings.Join(followed.Warnings, "\n"); !strings.Contains(all, other.address()) || !strings.Contains(all, "appliance forget https://"+follower.address()) {
			t.Errorf("the warnings are %q", all)
		}
	})
}
