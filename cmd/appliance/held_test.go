package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/mirror-appliance/appliance/cmd/sample-upstream/sample"
	"github.com/mirror-appliance/appliance/mirror/imageset"
)

// An appliance's content as an image set asks for exactly that content.
func TestImageSet_fromStore(t *testing.T) {
	s := newSite(t)
	t.Setenv("UPDATE_URL_OVERRIDE", "http://"+s.source+sample.GraphPath)
	set := s.set(t, "imageset.yaml", `  platform:
    channels: [{name: stable-4.18, minVersion: 4.18.1, maxVersion: 4.18.2}]
  additionalImages:
  - name: HOST/samples/docker:v1
    targetRepo: other/name
  - name: HOST/samples/oci-multi:v1
    platforms: [{os: linux, architecture: amd64}]
`)
	s.mirror(t, set, "--ignore-release-signature")
	must(t, s.push(t.Context(), newTestImage("pushed/by", "hand", []byte("a layer"))))
	held := filepath.Join(s.dir, "held.yaml")
	s.works(t, "imageset", "from-store", "--quayRoot", s.root, "-o", held)
	text, err := os.ReadFile(held)
	must(t, err)
	c, err := imageset.Load(held)
	must(t, err)
	if p := c.Mirror.Platform; len(p.Channels) != 1 || p.Channels[0].MinVersion != "4.18.1" || p.Channels[0].MaxVersion != "4.18.2" || len(c.Mirror.AdditionalImages) != 2 {
		t.Errorf("it is\n%s", text)
	}
	if !strings.Contains(string(text), "no run recorded their origins") {
		t.Errorf("what a client pushed is not told:\n%s", text)
	}
	if again := s.works(t, "imageset", "from-store", "docker://"+s.address, "--dest-creds", "admin:"+faultPassword); again != string(text) {
		t.Errorf("from elsewhere it is\n%s", again)
	}
	// what is no regular file stays what it is, and a link leads on
	pipe, link := filepath.Join(s.dir, "pipe"), filepath.Join(s.dir, "link.yaml")
	must(t, syscall.Mkfifo(pipe, 0o600))
	must(t, os.Symlink(held, link))
	read := make(chan string, 1)
	go func() {
		got, err := os.ReadFile(pipe)
		read <- fmt.Sprint(string(got), err)
	}()
	s.works(t, "imageset", "from-store", "--quayRoot", s.root, "-o", pipe)
	if got := <-read; got != string(text)+"<nil>" {
		t.Errorf("through a pipe it is\n%s", got)
	}
	s.works(t, "imageset", "from-store", "--quayRoot", s.root, "-o", link)
	for name, mode := range map[string]os.FileMode{pipe: os.ModeNamedPipe, link: os.ModeSymlink} {
		if info, err := os.Lstat(name); err != nil || info.Mode().Type() != mode {
			t.Errorf("%s is %v, %v", name, info, err)
		}
	}
	if code, _, stderr := s.run(t, "imageset", "from-store", "--quayRoot", s.root, "-o", s.dir); code != 1 || !strings.Contains(stderr, "it is a directory") {
		t.Errorf("into a directory: %d, %s", code, stderr)
	}

	compare := func(name string) (int, string) {
		code, stdout, stderr := s.run(t, "drift", "-c", name, "docker://"+s.address, "--workspace", "file://"+s.dir+"/ws",
			"--src-tls-verify=false", "--dest-creds", "admin:"+faultPassword)
		return code, stdout + stderr
	}
	if code, said := compare(held); code != 0 {
		t.Errorf("drift ended with %d:\n%s", code, said)
	}
	less := s.set(t, "imageset.yaml", "  additionalImages:\n  - name: HOST/samples/oci-multi:v1\n    platforms: [{os: linux, architecture: amd64}]\n  - name: HOST/samples/oci:v1\n")
	code, said := compare(less)
	for _, want := range []string{"missing: " + s.address + "/samples/oci:v1", "no longer asked for: " + s.address + "/other/name:v1", "openshift/release-images:4.18.2-x86_64"} {
		if code != 2 || !strings.Contains(said, want) {
			t.Errorf("drift ended with %d, and does not say %q:\n%s", code, want, said)
		}
	}

	prune := []string{"mirror", "prune", "-c", less, "docker://" + s.address, "--workspace", "file://" + s.dir + "/ws",
		"--src-tls-verify=false", "--dest-creds", "admin:" + faultPassword}
	if code, _, stderr := s.run(t, prune...); code == 0 || !strings.Contains(stderr, "not at the destination yet") {
		t.Errorf("with images missing it ended with %d: %s", code, stderr)
	}
	s.mirror(t, less)
	out := s.works(t, prune...)
	if !strings.Contains(out, "docker://"+s.address+"/other/name:v1") || !strings.Contains(out, "nothing was deleted") {
		t.Errorf("the plan is\n%s", out)
	}
	out = s.works(t, "mirror", "prune", "--delete-yaml-file", s.dir+"/ws/working-dir/delete/delete-images-prune.yaml",
		"docker://"+s.address, "--dest-creds", "admin:"+faultPassword, "--gc")
	if !strings.Contains(out, "deleted ") {
		t.Errorf("it says\n%s", out)
	}
	if code, said := compare(less); code != 0 {
		t.Errorf("after it drift ended with %d:\n%s", code, said)
	}
}
