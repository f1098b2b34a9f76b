package follow_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/mirror-appliance/appliance/registry/store"
)

// saved returns the file of the database.
func (h *host) saved() []byte {
	h.t.Helper()
	h.must(h.Close())
	text, err := os.ReadFile(filepath.Join(h.dir, "appliance.db"))
	h.must(err)
	h.open()
	return text
}

// putBack puts an earlier file in the place of the database.
func (h *host) putBack(saved []byte) {
	h.t.Helper()
	h.must(h.Close())
	for _, end := range []string{"", "-wal", "-shm"} {
		h.must(os.RemoveAll(filepath.Join(h.dir, "appliance.db"+end)))
	}
	h.must(os.WriteFile(filepath.Join(h.dir, "appliance.db"), saved, 0o600))
	h.open()
}

// The database of the first goes back to an earlier state, and gives the numbers of the changes that it has lost
// to others. The follower ends equal to it.
func TestFollower_firstGoesBack(t *testing.T) {
	const lost = 5 // as many changes as below
	for _, made := range []int{lost - 1, lost, lost + 4} {
		t.Run(fmt.Sprint(lost, " changes are lost, and ", made, " made"), func(t *testing.T) {
			first, second := newFileHost(t), newFileHost(t)
			fill(first)
			first.push("kept", newImage("kept", nil), "v1")
			follow := func() {
				t.Helper()
				f := first.start(second)
				mustCatchUp(t, f)
				f.stop()
				equal(t, first, second)
			}
			follow()
			earlier := first.saved()
			first.push("lost", newImage("lost", nil, []byte("lost")), "v1")
			first.must(first.Tags.Delete(first.ctx, "kept", "v1"))
			first.must(first.Users.Delete(first.ctx, "eva"))
			first.must(first.Users.Put(first.ctx, store.User{Name: "lost", Role: "pull"}))
			follow()

			first.putBack(earlier)
			first.push("made", newImage("made", nil, []byte("made")), "v1")
			for i := range made - 2 {
				first.must(first.Users.Put(first.ctx, store.User{Name: fmt.Sprint("made", i), Role: "pull"}))
			}
			follow()
			for _, name := range []string{"tag kept:v1", "user eva", "tag made:v1"} {
				if _, ok := second.content()[name]; !ok {
					t.Errorf("the follower lacks %s", name)
				}
			}
		})
	}
}
