package oci

import (
	"net/http"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/registry/store/storetest"
)

// An upload that fills the disk is refused and cancelled, so that it frees its space.
func TestUpload_fullDisk(t *testing.T) {
	f := &fixture{t: t, dir: t.TempDir()}
	if err := unix.Mount("tmpfs", f.dir, "tmpfs", 0, "size=48m"); err != nil {
		t.Skipf("a file system can be mounted by root only: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(f.dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	f.place = storetest.Files(f.dir)
	f.open(nil)
	t.Cleanup(f.close)
	for _, method := range []string{"PATCH", "PUT"} {
		location := f.begin("a")
		got := f.do(http.StatusRequestEntityTooLarge, method, with(location, "digest", d256), randomBytes(1, 64<<20))
		if code := got.code(t); code != codeDenied {
			t.Errorf("%s: %s", method, got.body)
		}
		got.wantHeader(t, "Location", "")
		f.do(http.StatusNotFound, "GET", location, nil)
		f.pushBlob("a", randomBytes(2, 4<<20)) // fits
	}
}
