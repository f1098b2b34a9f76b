package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// What root's run has left in a user's archive directory costs that user's archive no catalog.
func TestMirror_archiveOfAnotherUser(t *testing.T) {
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
	const user = 65534
	run := func() (int, string) {
		c := exec.Command(s.program, "mirror", "-c", filepath.Join(dir, "imageset.yaml"), "file://"+filepath.Join(dir, "ar"), "--src-tls-verify=false")
		c.Dir, c.Env = dir, append(os.Environ(), "HOME="+dir, "REGISTRY_AUTH_FILE=", "CONTAINERS_REGISTRIES_CONF=/dev/null")
		if os.Getuid() == 0 {
			c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}}
		}
		code, out, stderr := outcome(t, c)
		return code, out + stderr
	}
	if os.Getuid() == 0 {
		must(t, os.Chown(dir, user, user))
	}
	if code, said := run(); code != 0 {
		t.Fatalf("exit code %d, %s", code, said)
	}
	found, err := filepath.Glob(filepath.Join(dir, "ar/working-dir/operator-catalogs/*/*/filtered-catalogs/*/catalog-config"))
	if err != nil || len(found) != 1 {
		t.Fatal(found, err)
	}
	must(t, filepath.WalkDir(found[0], func(path string, e os.DirEntry, err error) error {
		if err != nil || !e.IsDir() {
			return err
		}
		if os.Getuid() == 0 {
			return os.Chown(path, 0, 0)
		}
		return os.Chmod(path, 0o555)
	}))
	must(t, os.Remove(filepath.Join(dir, "ar/mirror_000001.tar")))
	if code, said := run(); code != 0 || strings.Contains(said, "failed") {
		t.Errorf("exit code %d, %s", code, said)
	}
	if _, err := os.Stat(filepath.Join(found[0], "sample-database/catalog.json")); err != nil {
		t.Error(err)
	}
}
