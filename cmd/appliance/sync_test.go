package main_test

import (
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/registry/config"
)

// The daemon mirrors as the command does: it reads where registries.conf says.
func TestSync_throughTheDaemon(t *testing.T) {
	_, source := newUpstream(t)
	f := newFaulty(t, "")
	set := f.syncs(t, "  additionalImages:\n  - name: quay.example/samples/docker:v1\n",
		fmt.Sprintf("[[registry]]\nlocation=\"quay.example\"\n[[registry.mirror]]\nlocation=%[1]q\ninsecure=true\n[[registry]]\nlocation=%[1]q\ninsecure=true\n", source))
	dir := filepath.Dir(set.ImageSet)
	f.begin(t)
	code, stdout, stderr := outcome(t, f.command("status"))
	if code != 0 || !strings.Contains(stdout, "last sync     "+set.ImageSet+": never") {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
	code, stdout, stderr = outcome(t, f.command("sync", set.ImageSet))
	if code != 0 || !strings.Contains(stdout, "mirrored 1 of 1 image") || !strings.Contains(stdout, filepath.Join(set.Workspace, "working-dir/logs")) {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
	code, stdout, stderr = outcome(t, f.command("status"))
	if code != 0 || !strings.Contains(stdout, ": 1 of 1 image, fetched") {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
	ca, err := os.ReadFile(f.cfg.TLS.CA)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "ca.crt"), ca, 0o600))
	_, port, _ := strings.Cut(f.socket.Name(), ":")
	// A login may be for a path alone.
	logins := filepath.Join(dir, "auth.json")
	must(t, os.WriteFile(logins, fmt.Appendf(nil, `{"auths":{"localhost:%s/team":{"auth":%q}}}`, port,
		base64.StdEncoding.EncodeToString([]byte("init:"+faultPassword))), 0o600))
	rollback := func(flags ...string) string {
		t.Helper()
		args := append([]string{"mirror", "rollback", "docker://localhost:" + port + "/team", "--dest-cert-dir", dir, "--authfile", logins}, flags...)
		c := exec.Command(f.program, args...)
		code, stdout, stderr := outcome(t, c)
		return fmt.Sprintf("exit code %d\n%s%s", code, stdout, stderr)
	}
	run, _, _ := strings.Cut(strings.Split(rollback("--list"), "\n")[2], " ")
	for _, step := range []struct {
		flags []string
		want  string
		tags  int
	}{
		{[]string{"--list"}, "set.yaml", 1},
		{[]string{"--dry-run"}, "would bring back 1 tag; 0 stay", 1},
		{nil, "brought back 1 tag; 0 stay", 0},
		{nil, "the last run is a rollback itself", 0},
		{[]string{"--run", run}, "exit code 1\n", 0},
		{[]string{"--run", run}, "brought back 0 tags; 1 stay\nerror: nothing is rolled back: no tag is as run " + run + " left it", 0},
		{[]string{"--run", "none"}, "committed run \"none\" not found", 0},
	} {
		said := rollback(step.flags...)
		status, err := f.admin.Status(t.Context())
		must(t, err)
		if !strings.Contains(said, step.want) || status.Store.Tags != int64(step.tags) {
			t.Errorf("rollback %q, with %d tags after it: %s", step.flags, status.Store.Tags, said)
		}
	}
	history := exec.Command(f.program, "mirror", "history", "docker://localhost:"+port, "--dest-cert-dir", dir, "--authfile", logins)
	if code, stdout, stderr := outcome(t, history); code == 0 || !strings.Contains(stderr, "podman login") || !strings.Contains(stderr, "list the runs of localhost:") {
		t.Errorf("history without a login: exit code %d\n%s%s", code, stdout, stderr) // it is for the path alone
	}
	history = exec.Command(f.program, "mirror", "history", "docker://localhost:"+port+"/team", "--dest-cert-dir", dir, "--authfile", logins)
	if code, stdout, stderr := outcome(t, history); code != 0 || !strings.Contains(stdout, "rollback of ") || !strings.Contains(stdout, "set.yaml") {
		t.Errorf("history: exit code %d\n%s%s", code, stdout, stderr)
	}
	must(t, os.WriteFile(set.ImageSet, []byte("kind: ImageSetConfiguration\napiVersion: mirror.openshift.io/v2alpha1\nmirror:\n  operators:\n  - catalog: quay.example/redhat/redhat-operator-index:v4.18\n    packages: [{name: sample-logging}, {name: sample-loging}]\n"), 0o600))
	code, stdout, stderr = outcome(t, f.command("sync", set.ImageSet))
	if code != 0 || !strings.Contains(stdout, "warning: set.yaml:5: ") || !strings.Contains(stdout, `"sample-loging" does not exist`) {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
	code, stdout, stderr = outcome(t, f.command("status"))
	if code != 0 || !strings.Contains(stdout, `"sample-loging" does not exist`) {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
	must(t, os.WriteFile(set.ImageSet, []byte("kind: ImageSetConfiguration\napiVersion: mirror.openshift.io/v2alpha1\nmirror:\n  additionalImages: [{name: quay.example/samples/absent:v1}]\n  operators:\n  - catalog: quay.example/redhat/redhat-operator-index:v4.18\n    packages: [{name: sample-logging}, {name: sample-loging}]\n"), 0o600))
	code, stdout, stderr = outcome(t, f.command("sync", set.ImageSet))
	if code != 1 || !strings.Contains(stdout, `"sample-loging" does not exist`) || !strings.Contains(stdout, "failed: quay.example/samples/absent:v1: ") || strings.Count(stderr, "error: ") != 1 {
		t.Errorf("of a run that fails: exit code %d\n%s%s", code, stdout, stderr)
	}
	code, stdout, _ = outcome(t, f.command("sync", set.ImageSet, "-o", "json"))
	if code != 1 || !strings.Contains(stdout, `"warnings": [`) {
		t.Errorf("of a run that fails, as JSON: exit code %d\n%s", code, stdout)
	}
	must(t, os.Remove(set.ImageSet))
	f.refuses(t, []string{"sync", set.ImageSet}, set.ImageSet, "imageSet: in its config.yaml")
	f.refuses(t, []string{"sync", filepath.Join(dir, "another.yaml")}, "names no image set", "config.yaml")
	f.stop(t)
}

// newSyncing returns a site whose daemon is stopped and will mirror an image set, with a registries.conf.
func newSyncing(t *testing.T, conf string) (s *site, set string) {
	t.Helper()
	s = newSite(t)
	s.stop(t)
	set = filepath.Join(s.dir, "set.yaml")
	t.Setenv("CONTAINERS_REGISTRIES_CONF", filepath.Join(s.dir, "registries.conf"))
	must(t, os.WriteFile(filepath.Join(s.dir, "registries.conf"), []byte(strings.ReplaceAll(conf, "SOURCE", s.source)), 0o600))
	text, err := os.ReadFile(config.Path(s.root))
	must(t, err)
	must(t, os.WriteFile(config.Path(s.root), []byte(strings.Replace(string(text), "sync: []",
		fmt.Sprintf("sync:\n- {imageSet: %s, workspace: %s/ws, interval: 1h}", set, s.dir), 1)), 0o644))
	return s, set
}

// What a sync has fetched is repaired from where it was fetched: by registries.conf.
func TestSync_isRepaired(t *testing.T) {
	for name, conf := range map[string]string{
		"insecure": "[[registry]]\nlocation='SOURCE'\ninsecure=true\n",
		"a mirror": "[[registry]]\nlocation='quay.example'\n[[registry.mirror]]\nlocation='SOURCE'\ninsecure=true\n",
	} {
		t.Run(name, func(t *testing.T) {
			s, set := newSyncing(t, conf)
			from := map[string]string{"insecure": s.source, "a mirror": "quay.example"}[name]
			must(t, os.WriteFile(set, []byte("kind: ImageSetConfiguration\napiVersion: mirror.openshift.io/v2alpha1\nmirror: {additionalImages: [{name: '"+from+"/samples/docker:v1'}]}\n"), 0o600))
			s.start(t)
			code, _, stderr := outcome(t, s.command("sync", set))
			if code != 0 {
				t.Fatal(stderr)
			}
			var large string
			size := int64(0)
			must(t, filepath.WalkDir(filepath.Join(s.cfg.Storage, "sha256"), func(path string, e os.DirEntry, err error) error {
				if err != nil || e.IsDir() {
					return err
				}
				info, err := e.Info()
				if err == nil && info.Size() > size {
					large, size = path, info.Size()
				}
				return err
			}))
			must(t, os.Truncate(large, size-1))
			code, stdout, stderr := outcome(t, s.command("scrub"))
			if code != 0 || !strings.Contains(stdout, "1 damaged, 1 of them repaired") {
				t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
			}
		})
	}
}

// An image set of version 1 is read as the command reads it, or refused with what to do.
func TestSync_ofVersion1(t *testing.T) {
	s, set := newSyncing(t, "[[registry]]\nlocation='SOURCE'\ninsecure=true\n")
	const header = "kind: ImageSetConfiguration\napiVersion: mirror.openshift.io/v1alpha2\n"
	images := "mirror: {additionalImages: [{name: '" + s.source + "/samples/docker'}]}\n"
	must(t, os.WriteFile(set, []byte(header+"storageConfig: {local: {path: history}}\n"+images), 0o600))
	s.start(t)
	code, stdout, stderr := outcome(t, s.command("sync", set))
	if code != 1 || !strings.Contains(stderr, "set.yaml:3: only appliance mirror goes on with the history of oc-mirror v1") {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
	// Without a tag an image is wrong in version 2, and the latest one in version 1, which the sample does not have.
	for version, want := range map[string]string{"v2alpha1": "tag and digest are empty", "v1alpha2": "1 of 1 images are not at their destination"} {
		must(t, os.WriteFile(set, []byte(strings.Replace(header, "v1alpha2", version, 1)+images), 0o600))
		if code, stdout, stderr = outcome(t, s.command("sync", set)); code == 0 || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit code %d\n%s%s", version, code, stdout, stderr)
		}
	}
}
