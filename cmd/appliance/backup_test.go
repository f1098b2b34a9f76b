package main_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"
)

// TestRestored_partially: a damaged backup is refused, and with --partial everything else of it
// comes back. What is missing is named, with what to do about it.
func TestRestored_partially(t *testing.T) {
	f := newFaulty(t, inMemory(t))
	images := f.fill(t, 5)
	from := filepath.Join(t.TempDir(), "backup")
	f.backup(t, from)
	bad := digest.FromBytes(images[0].contents[0])
	must(t, os.Remove(filepath.Join(from, "sha256", bad.Encoded()[:2], bad.Encoded())))
	target := newRestoreTarget(t)
	target.refuses(t, []string{"restore", from}, bad.String(), "--partial")
	out, err := target.command("restore", "--partial", from).CombinedOutput()
	must(t, err)
	for _, want := range []string{"restored 14 blobs", "14 were there, 0 copied", "missing: " + bad.String(), "appliance scrub"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("it does not say %q:\n%s", want, out)
		}
	}
	target.begin(t)
	pullable(t, target.faulty, images[1:])
	out, err = target.command("scrub").CombinedOutput()
	if err == nil || !strings.Contains(string(out), images[0].repo+":"+images[0].tag) {
		t.Errorf("scrub does not name the image that needs it: %v\n%s", err, out)
	}
	must(t, target.push(t.Context(), images[0]))
	pullable(t, target.faulty, images)
	target.stop(t)
	target.verify(t)
}

// TestRestored_otherOwner has a new disk in the place of a broken one, as root mounts it.
func TestRestored_otherOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	r := newRestoreTarget(t)
	for _, lost := range []string{filepath.Dir(r.cfg.Database), r.cfg.Storage} {
		r.empty(t)
		kept := filepath.Dir(r.cfg.Database)
		if kept == lost {
			kept = r.cfg.Storage
		}
		must(t, os.Chown(kept, 65534, 65534))
		r.refuses(t, []string{"restore", "/nowhere"}, "chown --reference="+kept+" "+lost)
	}
}

// TestBackup_byRoot without a daemon: root's is the backup, and the store stays its owner's.
func TestBackup_byRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can become another")
	}
	f := newFaulty(t, "")
	images := f.fill(t, 5)
	const owner = 65534
	f.become(t, owner)
	must(t, os.Chmod(filepath.Dir(f.root), 0o700)) // as /root is
	root := func(args ...string) {
		t.Helper()
		c := f.command(args...)
		c.SysProcAttr = nil
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
		f.belongs(t, owner, f.root)
	}
	for _, to := range []string{filepath.Join(t.TempDir(), "backup"), filepath.Join(t.TempDir(), "backup.tar")} {
		must(t, os.Remove(f.cfg.Database+".reserve")) // which whoever opens the store makes again
		root("backup", to)
		if filepath.Ext(to) != "" {
			f.belongs(t, 0, to)
		} else {
			f.belongs(t, 0, filepath.Join(to, "appliance.db"))
		}
		must(t, os.Remove(f.cfg.Database))
		must(t, os.RemoveAll(filepath.Join(f.cfg.Storage, "sha256")))
		root("restore", to)
		(&restoreTarget{f}).has(t, images)
	}
}

// belongs expects everything below a path to be a user's.
func (f *faulty) belongs(t *testing.T, owner uint32, path string) {
	t.Helper()
	must(t, filepath.WalkDir(path, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err == nil && info.Sys().(*syscall.Stat_t).Uid != owner {
			t.Errorf("%s belongs to %d", path, info.Sys().(*syscall.Stat_t).Uid)
		}
		return err
	}))
}
