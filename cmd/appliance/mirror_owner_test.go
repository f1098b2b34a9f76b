package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// user is what a user who is not root shares with root.
const user = 65534

// shared is an archive directory in which two users run.
type shared struct {
	*site
	dir string
}

func newShared(t *testing.T) shared {
	s := newSite(t)
	set := "kind: ImageSetConfiguration\napiVersion: mirror.openshift.io/v2alpha1\nmirror:\n  operators:\n  - catalog: " + s.source +
		"/redhat/redhat-operator-index:v4.18\n    packages:\n    - name: sample-database\n"
	dir, err := os.MkdirTemp("", "archive")
	must(t, err)
	t.Cleanup(func() { _ = exec.Command("chmod", "-R", "u+w", dir).Run(); _ = os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "imageset.yaml"), []byte(set), 0o644))
	program, err := os.ReadFile(s.program)
	must(t, err)
	s.program = filepath.Join(dir, "appliance") // where any user may run it
	must(t, os.WriteFile(s.program, program, 0o755))
	must(t, os.Mkdir(filepath.Join(dir, "ar"), 0o755))
	if os.Getuid() == 0 {
		must(t, os.Chown(dir, user, user))
		must(t, os.Chown(filepath.Join(dir, "ar"), user, user))
	}
	return shared{s, dir}
}

// run mirrors into the archive, as a user or as the one of the test.
func (s shared) run(t *testing.T, as int) (int, string) {
	t.Helper()
	c := exec.Command(s.program, "mirror", "-c", filepath.Join(s.dir, "imageset.yaml"), "file://"+filepath.Join(s.dir, "ar"), "--src-tls-verify=false")
	c.Dir, c.Env = s.dir, append(os.Environ(), "HOME="+s.dir, "REGISTRY_AUTH_FILE=", "CONTAINERS_REGISTRIES_CONF=/dev/null")
	if os.Getuid() == 0 && as != 0 {
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(as), Gid: uint32(as)}}
	}
	code, out, stderr := outcome(t, c)
	return code, out + stderr
}

// take gives a directory and those below it to root, or makes them such that a user who is not root
// cannot write there.
func take(t *testing.T, dir string) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || !e.IsDir() {
			return err
		}
		if os.Getuid() == 0 {
			return os.Chown(path, 0, 0)
		}
		return os.Chmod(path, 0o555)
	}))
}

// What root's run has left in a user's archive directory costs that user's archive no catalog.
func TestMirror_archiveOfAnotherUser(t *testing.T) {
	s := newShared(t)
	if code, said := s.run(t, user); code != 0 {
		t.Fatalf("exit code %d, %s", code, said)
	}
	found, err := filepath.Glob(filepath.Join(s.dir, "ar/working-dir/operator-catalogs/*/*/filtered-catalogs/*/catalog-config"))
	if err != nil || len(found) != 1 {
		t.Fatal(found, err)
	}
	take(t, found[0])
	must(t, os.Remove(filepath.Join(s.dir, "ar/mirror_000001.tar")))
	if code, said := s.run(t, user); code != 0 || strings.Contains(said, "failed") {
		t.Errorf("exit code %d, %s", code, said)
	}
	if _, err := os.Stat(filepath.Join(found[0], "sample-database/catalog.json")); err != nil {
		t.Error(err)
	}
}

// A catalog that another user's run has extracted, and that cannot be read or removed, is extracted once
// more beside it: it is not damaged, and costs the archive nothing.
func TestMirror_catalogOfAnotherUser(t *testing.T) {
	s := newShared(t)
	if code, said := s.run(t, user); code != 0 {
		t.Fatalf("exit code %d, %s", code, said)
	}
	found, err := filepath.Glob(filepath.Join(s.dir, "ar/working-dir/operator-catalogs/*/*/catalog-sums"))
	if err != nil || len(found) != 1 {
		t.Fatal(found, err)
	}
	at := filepath.Dir(found[0])
	made, err := filepath.Glob(filepath.Join(at, "filtered-catalogs/*/digest"))
	must(t, err)
	for _, name := range append(made, found[0]) { // as with a umask of 077
		if os.Getuid() == 0 {
			must(t, os.Chown(name, 0, 0))
		}
		must(t, os.Chmod(name, 0))
	}
	take(t, at)
	must(t, os.Remove(filepath.Join(s.dir, "ar/mirror_000001.tar")))
	code, said := s.run(t, user)
	if code != 0 || strings.Contains(said, "failed") || strings.Contains(said, "damaged") || !strings.Contains(said, "is of another user's run and is made anew") {
		t.Errorf("exit code %d, %s", code, said)
	}
	aside, err := filepath.Glob(at + ".aside-*")
	if err != nil || len(aside) != 1 {
		t.Error(aside, err)
	}
	must(t, os.Remove(filepath.Join(s.dir, "ar/mirror_000001.tar")))
	if code, said := s.run(t, user); code != 0 || strings.Contains(said, "anew") {
		t.Errorf("the next run: exit code %d, %s", code, said)
	}
}

// Root may run first in a user's directory, and the user goes on with what it has left.
func TestMirror_archiveOfRoot(t *testing.T) {
	s := newShared(t)
	if code, said := s.run(t, 0); code != 0 {
		t.Fatalf("exit code %d, %s", code, said)
	}
	must(t, os.Remove(filepath.Join(s.dir, "ar/mirror_000001.tar")))
	must(t, os.WriteFile(filepath.Join(s.dir, "ar/.mirror_journal"), []byte("{\"begin\":{\"format\":1,\"archive\":\"killed\"}}\n{\"chunk\":{\"number\":1}}\n"), 0o444))
	must(t, os.WriteFile(filepath.Join(s.dir, "ar/.mirror_000001.partial"), nil, 0o444))
	for range 2 {
		if code, said := s.run(t, user); code != 0 || strings.Contains(said, "failed") || strings.Contains(said, "damaged") {
			t.Fatalf("exit code %d, %s", code, said)
		}
	}
	must(t, filepath.WalkDir(filepath.Join(s.dir, "ar/working-dir"), func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err == nil && e.IsDir() && os.Getuid() == 0 && info.Sys().(*syscall.Stat_t).Uid != user {
			t.Errorf("%s is root's", path)
		}
		return err
	}))
}
