package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A medium has the archive that mirror makes of an image set of version 1, and the far side reads that
// as version 1 too.
func TestBundle_ofVersion1(t *testing.T) {
	s := newSite(t)
	set := filepath.Join(s.dir, "v1.yaml")
	must(t, os.WriteFile(set, []byte("kind: ImageSetConfiguration\napiVersion: mirror.openshift.io/v1alpha2\nmirror:\n  operators:\n  - catalog: "+
		s.source+"/redhat/redhat-operator-index:v4.18\n    packages: [{name: sample-database, channels: [{name: stable, minBundle: sample-database.v1.1.0}]}]\n"), 0o600))
	images := func(dir string) (all []string) {
		for _, line := range strings.Split(s.works(t, "mirror", "describe", dir), "\n") {
			if strings.HasPrefix(line, "image ") {
				all = append(all, line)
			}
		}
		return all
	}
	s.works(t, "mirror", "-c", set, "file://"+s.dir+"/ar", "--src-tls-verify=false")
	s.works(t, "bundle", "-c", set, "file://"+s.dir+"/medium", "--src-tls-verify=false")
	if want, got := images(s.dir+"/ar"), images(s.dir+"/medium"); len(want) == 0 || !slices.Equal(want, got) {
		t.Errorf("the medium has %q, and the archive %q", got, want)
	}
	code, out, stderr := s.run(t, "unbundle", s.dir+"/medium", "--quayRoot", s.root, "--workspace", "file://"+t.TempDir())
	if code != 0 || strings.Contains(out+stderr, "is read as mirror.openshift.io/v2alpha1") {
		t.Errorf("exit code %d, %s", code, stderr)
	}
	text, err := os.ReadFile(set)
	must(t, err)
	must(t, os.WriteFile(set, append(text, "  additionalImages: [{name: "+s.source+"/samples/lost:v1}]\n"...), 0o600))
	for _, args := range [][]string{{"bundle", "-c", set, "file://" + s.dir + "/lost", "--src-tls-verify=false"},
		{"unbundle", s.dir + "/lost", "--quayRoot", s.root, "--workspace", "file://" + t.TempDir()}} {
		if code, _, stderr := s.run(t, args...); code != 1 || !strings.Contains(stderr, "1 of 7 images") {
			t.Errorf("%s: exit code %d, %s", args[0], code, stderr)
		}
	}
}

// What can be no configuration is refused at once, with what to do, and not read to its end.
func TestBundle_refusesWhatIsNoConfiguration(t *testing.T) {
	s := newSite(t)
	set := s.set(t, "imageset.yaml", "  additionalImages:\n  - name: HOST/samples/docker:v1\n")
	link := filepath.Join(s.dir, "loop")
	must(t, os.Symlink(link, link))
	medium := "file://" + s.dir + "/medium"
	for _, tc := range []struct {
		flags []string
		want  string
	}{
		{[]string{"-c", "/dev/zero"}, "/dev/zero is larger than any image set configuration\nhint: give the path of an ImageSetConfiguration"},
		{[]string{"-c", s.dir}, "is a directory\nhint: give the path of an ImageSetConfiguration"},
		{[]string{"-c", s.dir + "/missing"}, "no such file or directory\nhint: give the path of an ImageSetConfiguration"},
		{[]string{"-c", link}, "too many levels of symbolic links\nhint: give the path of an ImageSetConfiguration"},
		{[]string{"-c", set, "--files", "/dev/zero"}, "/dev/zero: it is not a regular file\nhint: list them in a file"},
		{[]string{"-c", set, "--files", s.dir + "/missing"}, "no such file or directory\nhint: list them in a file"},
	} {
		c := exec.Command(s.program, slices.Concat([]string{"bundle", medium, "--dry-run"}, tc.flags)...)
		timer := time.AfterFunc(10*time.Second, func() { _ = c.Process.Signal(syscall.SIGKILL) })
		code, _, stderr := outcome(t, c)
		timer.Stop()
		if code != 1 || !strings.Contains(stderr, tc.want) {
			t.Errorf("%v: exit code %d, %s", tc.flags, code, stderr)
		}
	}
}
