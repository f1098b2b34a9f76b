package main_test

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// What a medium carries is at the appliance of the far side: images, and files with ranges.
func TestBundle_toTheFarSide(t *testing.T) {
	s := newSite(t)
	set := s.set(t, "imageset.yaml", "  additionalImages:\n  - name: HOST/samples/docker:v1\n")
	iso := randomBytes(1 << 20)
	must(t, os.WriteFile(filepath.Join(s.dir, "rhcos.iso"), iso, 0o600))
	must(t, os.WriteFile(filepath.Join(s.dir, "files.yaml"), []byte("files:\n- path: rhcos.iso\n  name: RHCOS-4.20_live.iso\n"), 0o600))
	dir := filepath.Join(s.dir, "medium")
	bundle := []string{"bundle", "-c", set, "file://" + dir, "--src-tls-verify=false"}
	for text, want := range map[string]string{
		"files: x":                 ".yaml:1: files: a list is wanted here, not \"x\"\nhint: begin each element",
		"":                         ".yaml: the file is empty\nhint: list the files in it",
		"files:\n- {file: oc.tar}": ".yaml:2: files[0].file: unknown key\nhint: known keys here: path, name",
		"files:\n- {path: rhcos.iso, name: A.iso}\n- {path: rhcos.iso, name: a.ISO}": "another file has the same name, or one that differs in upper and lower case only",
	} {
		wrong := filepath.Join(s.dir, "wrong.yaml")
		must(t, os.WriteFile(wrong, []byte(text), 0o600))
		if code, _, stderr := s.run(t, append(bundle, "--files", wrong)...); code != 1 || !strings.Contains(stderr, want) {
			t.Errorf("%q: exit code %d, %s", text, code, stderr)
		}
	}
	if _, _, stderr := s.run(t, append(bundle, "--dry-run")...); !strings.Contains(stderr, "file RHCOS-4.20_live.iso, 1.0 MiB") {
		t.Errorf("the dry run says %s", stderr)
	}
	must(t, os.MkdirAll(filepath.Join(dir, "docs"), 0o755))
	for _, name := range []string{".medium.KILLED.tmp", "docs/.medium.KILLED.tmp"} {
		must(t, os.WriteFile(filepath.Join(dir, name), iso, 0o755))
	}
	s.works(t, bundle...)
	for _, left := range []string{".medium.*", "*/.medium.*"} {
		if found, err := filepath.Glob(filepath.Join(dir, left)); err != nil || len(found) > 0 {
			t.Errorf("a run that was killed has left %v, %v", found, err)
		}
	}
	must(t, os.Remove(filepath.Join(dir, "SHA256SUMS"))) // as if it had broken off after the archive
	text, err := os.ReadFile(set)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "working-dir", ".bundle"), text, 0o600))
	s.works(t, bundle...)
	for _, name := range []string{"SHA256SUMS", "appliance", "imageset.yaml", "mirror_000001.tar", "docs/mirror.md", "files/RHCOS-4.20_live.iso"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	must(t, os.RemoveAll(filepath.Join(dir, "working-dir"))) // as it is carried
	must(t, os.Chmod(dir, 0o555))
	t.Cleanup(func() { _ = os.Chmod(dir, 0o755) })

	if _, _, stderr := s.run(t, "unbundle", dir, "--quayRoot", filepath.Join(s.dir, "none")); !strings.Contains(stderr, "no appliance found") ||
		!strings.Contains(stderr, "unbundle --install") || strings.Contains(stderr, "verifying") {
		t.Errorf("without an appliance it says %s", stderr)
	}
	unbundle := []string{"unbundle", dir, "--quayRoot", s.root}
	if _, _, stderr := s.run(t, append(unbundle, "--dry-run")...); !strings.Contains(stderr, "would serve RHCOS-4.20_live.iso") {
		t.Errorf("the dry run says %s", stderr)
	}
	a, err := s.ask(t.Context(), http.MethodGet, "/files/", nil)
	must(t, err)
	if string(a.body) != "[]\n" {
		t.Errorf("after a dry run there is %s", a.body)
	}
	out := s.works(t, unbundle...)
	if !strings.Contains(out, "https://"+s.address+"/files/RHCOS-4.20_live.iso sha256:") {
		t.Errorf("it says %s", out)
	}
	_, err = s.demand(t.Context(), http.StatusOK, http.MethodGet, "/v2/samples/docker/manifests/v1", nil)
	must(t, err)
	whole, err := s.demand(t.Context(), http.StatusOK, http.MethodGet, "/files/RHCOS-4.20_live.iso", nil)
	must(t, err)
	if !bytes.Equal(whole.body, iso) {
		t.Error("the file is another")
	}
	tag := whole.header.Get("Etag")
	rest, err := s.demand(t.Context(), http.StatusPartialContent, http.MethodGet, "/files/RHCOS-4.20_live.iso", nil, "Range", "bytes=1000000-", "If-Range", tag)
	must(t, err)
	if !bytes.Equal(rest.body, iso[1000000:]) || rest.header.Get("Docker-Content-Digest") == "" {
		t.Errorf("the rest has %d bytes, %v", len(rest.body), rest.header)
	}
	list, err := s.ask(t.Context(), http.MethodGet, "/files/", nil)
	must(t, err)
	if !strings.Contains(string(list.body), `"name":"RHCOS-4.20_live.iso","size":1048576,"digest":"`+whole.header.Get("Docker-Content-Digest")) {
		t.Errorf("the listing is %s", list.body)
	}
	_, err = s.admin.CreateUser(t.Context(), api.NewUser{Name: "limited", Role: "pull", Password: faultPassword, Repositories: []string{"samples/*"}})
	must(t, err)
	for path, want := range map[string]int{"/files/absent": http.StatusNotFound, "/files/..%2fx": http.StatusNotFound} {
		_, err = s.demand(t.Context(), want, http.MethodGet, path, nil)
		must(t, err)
	}
	for user, want := range map[string]int{"": http.StatusUnauthorized, "limited": http.StatusForbidden, "pull": http.StatusOK} {
		for _, path := range []string{"", "RHCOS-4.20_live.iso"} {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://localhost/files/"+path, nil)
			must(t, err)
			if user != "" {
				r.SetBasicAuth(user, faultPassword)
			}
			resp, err := s.http.Do(r)
			must(t, err)
			must(t, resp.Body.Close())
			if resp.StatusCode != want {
				t.Errorf("%q of %q is answered %d", path, user, resp.StatusCode)
			}
		}
	}

	s.works(t, append(unbundle[:2:2], "--to", "docker://"+s.address, "--dest-creds", "admin:"+faultPassword)...) // again, over HTTPS
	must(t, os.Chmod(dir, 0o755))
	must(t, os.Truncate(filepath.Join(dir, "files/RHCOS-4.20_live.iso"), 1000))
	code, _, stderr := s.run(t, unbundle...)
	if code == 0 || !strings.Contains(stderr, "damaged: ") || !strings.Contains(stderr, "nothing was changed") {
		t.Errorf("a damaged medium: %d %s", code, stderr)
	}
}

// A medium is written without an image that its source has lost, and both sides say so.
func TestBundle_withoutAnImage(t *testing.T) {
	s := newSite(t)
	set := s.set(t, "imageset.yaml", "  additionalImages:\n  - name: HOST/samples/docker:v1\n  - name: HOST/samples/lost:v1\n")
	must(t, os.WriteFile(filepath.Join(s.dir, "oc.tar"), []byte("oc"), 0o600))
	must(t, os.WriteFile(filepath.Join(s.dir, "files.yaml"), []byte("files:\n- path: oc.tar\n"), 0o600))
	dir := filepath.Join(s.dir, "medium")
	code, _, stderr := s.run(t, "bundle", "-c", set, "file://"+dir, "--src-tls-verify=false")
	if code != 8 || !strings.Contains(stderr, "can be carried, and is without some images: 1 of 2 images") || !strings.Contains(stderr, "run the same command again") {
		t.Fatalf("exit code %d, and it says %s", code, stderr)
	}
	code, out, stderr := s.run(t, "unbundle", dir, "--quayRoot", s.root, "--workspace", "file://"+t.TempDir())
	if code != 8 || !strings.Contains(stderr, "1 of 2 images") || !strings.Contains(out, "/files/oc.tar sha256:") {
		t.Errorf("exit code %d, and it says %s%s", code, out, stderr)
	}
	_, err := s.demand(t.Context(), http.StatusOK, http.MethodGet, "/v2/samples/docker/manifests/v1", nil)
	must(t, err)
}

// A second command for a medium that is being written changes nothing of it.
func TestBundle_whileAnotherWrites(t *testing.T) {
	s := newSite(t)
	for _, name := range []string{"one", "two"} {
		must(t, os.Mkdir(filepath.Join(s.dir, name), 0o755))
		must(t, os.WriteFile(filepath.Join(s.dir, name, name+".iso"), []byte(name), 0o600))
		must(t, os.WriteFile(filepath.Join(s.dir, name, "files.yaml"), []byte("files:\n- path: "+name+".iso\n"), 0o600))
		s.set(t, name+"/imageset.yaml", "  additionalImages:\n  - name: HOST/samples/docker:v1\n")
	}
	bundle := func(name string) []string {
		return []string{"bundle", "-c", filepath.Join(s.dir, name, "imageset.yaml"), "file://" + filepath.Join(s.dir, "medium"), "--src-tls-verify=false"}
	}
	began, end := make(chan bool), make(chan bool)
	content := s.upstream.Config.Handler
	var once sync.Once
	s.upstream.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		once.Do(func() { began <- true; <-end })
		content.ServeHTTP(w, r)
	})
	first := make(chan string)
	go func() {
		code, _, stderr := s.run(t, bundle("one")...)
		first <- fmt.Sprint(code, stderr)
	}()
	<-began
	code, _, stderr := s.run(t, bundle("two")...)
	close(end)
	if code != 1 || !strings.Contains(stderr, "another run is in the workspace") {
		t.Errorf("exit code %d, %s", code, stderr)
	}
	if said := <-first; !strings.HasPrefix(said, "0") {
		t.Fatal(said)
	}
	s.works(t, "unbundle", filepath.Join(s.dir, "medium"), "--quayRoot", s.root)
	if _, err := s.demand(t.Context(), http.StatusOK, http.MethodGet, "/files/one.iso", nil); err != nil {
		t.Error(err)
	}
}

// A file that next month's medium replaces, and one whose tag is deleted, go with the next collection;
// what has a tag in that repository stays, and so do untagged images of others.
func TestBundle_replacedFilesAreCollected(t *testing.T) {
	s := newSite(t)
	set := s.set(t, "imageset.yaml", "  additionalImages:\n  - name: HOST/samples/docker:v1\n")
	list := "files:\n- path: rhcos.iso\n- path: oc.tar\n"
	must(t, os.WriteFile(filepath.Join(s.dir, "files.yaml"), []byte(list), 0o600))
	must(t, os.WriteFile(filepath.Join(s.dir, "oc.tar"), []byte("oc"), 0o600))
	for n := range 2 {
		must(t, os.WriteFile(filepath.Join(s.dir, "rhcos.iso"), randomBytes(1<<20+n), 0o600))
		dir := filepath.Join(s.dir, fmt.Sprint("medium", n))
		s.works(t, "bundle", "-c", set, "file://"+dir, "--src-tls-verify=false")
		s.works(t, "unbundle", dir, "--quayRoot", s.root, "--workspace", "file://"+s.dir+"/ws")
	}
	collect := []string{"gc", "--quayRoot", s.root, "--grace-period", "0s", "-o", "json"}
	if out := s.works(t, append(collect, "--dry-run")...); !strings.Contains(out, `"manifests": 0`) {
		t.Errorf("a dry run removes: %s", out)
	}
	if out := s.works(t, collect...); !strings.Contains(out, `"bytes": 1048576,`) {
		t.Errorf("of the replaced file it says %s", out)
	}
	_, err := s.demand(t.Context(), http.StatusAccepted, http.MethodDelete, "/v2/appliance/files/manifests/rhcos.iso", nil)
	must(t, err)
	_, err = s.demand(t.Context(), http.StatusAccepted, http.MethodDelete, "/v2/samples/docker/manifests/v1", nil)
	must(t, err)
	if out := s.works(t, collect...); !strings.Contains(out, `"bytes": 1048577,`) || !strings.Contains(out, `"manifests": 1,`) {
		t.Errorf("of the deleted file it says %s", out)
	}
	_, err = s.demand(t.Context(), http.StatusOK, http.MethodGet, "/files/oc.tar", nil)
	must(t, err)
}
