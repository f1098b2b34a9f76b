package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/config"
)

// by returns the arguments of a command about the appliance, in a workspace.
func (s *site) by(workspace string, args ...string) []string {
	return append(args, "docker://"+s.address, "--workspace", "file://"+filepath.Join(s.dir, workspace), "--src-tls-verify=false", "--dest-creds", "admin:"+faultPassword)
}

// tagged reports whether the appliance has a tag in a repository.
func (s *site) tagged(t *testing.T, repository string) (found bool) {
	t.Helper()
	must(t, s.admin.Inventory(t.Context(), func(i api.Inventory) {
		for _, tag := range i.Tags {
			found = found || tag.Repository == repository
		}
	}))
	return found
}

func contains(t *testing.T, text string, wanted ...string) {
	t.Helper()
	for _, want := range wanted {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
}

const bothOperators = "  operators: [{catalog: 'HOST/redhat/redhat-operator-index:v4.18', targetCatalog: cross/%s, packages: [{name: sample-database}, {name: sample-logging}]}]\n"

// What another workspace has mirrored stays, unless by force.
func TestPrune_keepsWhatAnotherWorkspaceNeeds(t *testing.T) {
	s := newSite(t)
	const bundle = "operators/sample-database-bundle"
	own := "  additionalImages: [{name: 'HOST/samples/docker:v1'}, {name: 'HOST/samples/oci:v1'}]\n"
	s.works(t, s.by("wa", "mirror", "-c", s.set(t, "a.yaml", fmt.Sprintf(bothOperators, "wa")+own))...)
	s.works(t, s.by("wb", "mirror", "-c", s.set(t, "b.yaml", fmt.Sprintf(bothOperators, "wb")+"  additionalImages: [{name: 'HOST/samples/oci:v1', targetTag: other}]\n"))...)
	less := s.set(t, "a.yaml", strings.Replace(fmt.Sprintf(bothOperators, "wa"), "{name: sample-database}, ", "", 1))
	s.works(t, s.by("wa", "mirror", "-c", less)...)
	out := s.works(t, s.by("wa", "mirror", "prune", "-c", less)...)
	contains(t, out, bundle+":", " stays: image set b.yaml of the workspace "+s.dir+"/wb on ", "docker://"+s.address+"/samples/docker:v1\n", "2 images, of which 0 are not there")

	out = s.works(t, s.by("wa", "mirror", "prune", "-c", less, "--force")...)
	contains(t, out, "would be deleted by force: image set b.yaml")
	list := filepath.Join(s.dir, "wa/working-dir/delete/delete-images-prune.yaml")
	out = s.works(t, s.by("wa", "delete", "--delete-yaml-file", list)...)
	contains(t, out, bundle, " stays: image set b.yaml", "deleted the tag of docker://"+s.address+"/samples/oci:v1, and kept the content, which is that of image set b.yaml", "deleted 1 image, and 1 tag alone; 0 were not there")
	if !s.tagged(t, bundle) || s.tagged(t, "samples/docker") {
		t.Error("the image of the other workspace is gone, or the workspace's own is not")
	}
	out = s.works(t, s.by("wa", "mirror", "-c", less, "--prune")...)
	contains(t, out, " stays: image set b.yaml")
	if !s.tagged(t, bundle) {
		t.Error("a run with --prune deletes it")
	}

	t.Run("delete keeps it too", func(t *testing.T) {
		file := filepath.Join(s.dir, "delete.yaml")
		must(t, os.WriteFile(file, []byte("kind: DeleteImageSetConfiguration\napiVersion: mirror.openshift.io/v2alpha1\ndelete:\n  operators: [{catalog: '"+s.source+"/redhat/redhat-operator-index:v4.18', targetCatalog: cross/wa, packages: [{name: sample-logging}]}]\n"), 0o600))
		code, stdout, stderr := s.run(t, s.by("wa", "delete", "--generate", "-c", file)...)
		if code != 1 || !strings.Contains(stderr, "stays: image set b.yaml") || !strings.Contains(stderr, "--force") {
			t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
		}
	})
	t.Run("the other lets go", func(t *testing.T) {
		s.works(t, s.by("wb", "mirror", "-c", s.set(t, "b.yaml", strings.Replace(fmt.Sprintf(bothOperators, "wb"), "{name: sample-database}, ", "", 1)))...)
		s.works(t, s.by("wa", "mirror", "-c", less, "--prune")...)
		if s.tagged(t, bundle) {
			t.Error("what nothing needs any more stays")
		}
	})
}

// Two image sets of one name in a workspace are two while both files are there; one that has moved is the same.
func TestPrune_keepsWhatTwoFilesOfOneNameNeed(t *testing.T) {
	s := newSite(t)
	const docker, oci = "  additionalImages: [{name: 'HOST/samples/docker:v1'}]\n", "  additionalImages: [{name: 'HOST/samples/oci:v1'}]\n"
	for _, dir := range []string{"one", "two", "moved"} {
		must(t, os.Mkdir(filepath.Join(s.dir, dir), 0o700))
	}
	one, two := s.set(t, "one/isc.yaml", docker), s.set(t, "two/isc.yaml", oci)
	s.works(t, s.by("wb", "mirror", "-c", s.set(t, "b.yaml", "  additionalImages: [{name: 'HOST/samples/docker:v1'}, {name: 'HOST/samples/oci:v1'}, {name: 'HOST/samples/signed:v1'}]\n"))...)
	less := s.set(t, "b.yaml", "  additionalImages: [{name: 'HOST/samples/signed:v1'}]\n")
	s.works(t, s.by("wb", "mirror", "-c", less)...)
	listed := func(what string, wanted ...string) {
		t.Helper()
		t.Log(what)
		contains(t, s.works(t, s.by("wb", "mirror", "prune", "-c", less)...), wanted...)
	}
	for _, file := range []string{one, two, one} {
		s.works(t, s.by("wa", "mirror", "-c", file)...)
	}
	listed("both", "samples/docker:v1 stays: image set isc.yaml of", "samples/oci:v1 stays: image set "+two+" of the workspace "+s.dir+"/wa on ")

	must(t, os.Rename(one, filepath.Join(s.dir, "moved/isc.yaml")))
	s.works(t, s.by("wa", "mirror", "-c", filepath.Join(s.dir, "moved/isc.yaml"))...)
	listed("one has moved", "samples/docker:v1 stays: image set isc.yaml of", "samples/oci:v1 stays: image set "+two)

	must(t, os.Remove(two))
	s.works(t, s.by("wa", "mirror", "-c", filepath.Join(s.dir, "moved/isc.yaml"))...)
	listed("the other is gone", "samples/docker:v1 stays: image set isc.yaml of", "samples/oci:v1\n1 image, of which 0 are not there")
}

// What a workspace that is gone needs stays until it is forgotten.
func TestPrune_forgetsAWorkspace(t *testing.T) {
	s := newSite(t)
	const image = "  additionalImages: [{name: 'HOST/samples/docker:v1'}]\n"
	s.works(t, s.by("wa", "mirror", "-c", s.set(t, "a.yaml", image))...)
	s.works(t, s.by("wb", "mirror", "-c", s.set(t, "b.yaml", image))...)
	less := s.set(t, "b.yaml", "  additionalImages: [{name: 'HOST/samples/oci:v1'}]\n")
	s.works(t, s.by("wb", "mirror", "-c", less)...)
	must(t, os.RemoveAll(filepath.Join(s.dir, "wa")))
	prune := s.by("wb", "mirror", "prune", "-c", less)
	contains(t, s.works(t, prune...), " stays: image set a.yaml of the workspace "+s.dir+"/wa on ", "nothing to delete")
	forget := func(workspace string, flags ...string) []string {
		return append([]string{"mirror", "prune", "--forget-workspace", workspace, "docker://" + s.address, "--dest-creds", "admin:" + faultPassword}, flags...)
	}
	code, _, stderr := s.run(t, forget("/data/other")...)
	if code != 1 {
		t.Errorf("exit code %d", code)
	}
	contains(t, stderr, "no image set of a workspace /data/other", ":"+s.dir+"/wa (its run of ", ":"+s.dir+"/wb (its run of ")
	contains(t, s.works(t, forget(s.dir+"/wa", "--dry-run")...), "would be forgotten: image set a.yaml of the workspace "+s.dir+"/wa on ", "needs 1 image")
	contains(t, s.works(t, prune...), " stays: ")
	contains(t, s.works(t, forget(s.dir+"/wa", "-o", "json")...), `"images"`, "samples/docker:v1")
	contains(t, s.works(t, prune...), "samples/docker:v1\n1 image, of which 0 are not there")
}

// So does what a job of the daemon has mirrored, and what a view shows.
func TestPrune_keepsWhatTheDaemonNeeds(t *testing.T) {
	s := newSite(t)
	job := s.set(t, "job.yaml", "  additionalImages: [{name: 'HOST/samples/oci:v1'}, {name: 'HOST/redhat/redhat-operator-index:v4.18', targetRepo: originals/index}]\n")
	conf := filepath.Join(s.dir, "registries.conf")
	must(t, os.WriteFile(conf, fmt.Appendf(nil, "[[registry]]\nlocation=%q\ninsecure=true\n", s.source), 0o600))
	t.Setenv("CONTAINERS_REGISTRIES_CONF", conf)
	s.configure(t, func(c *config.Config) {
		c.Sync = []config.Sync{{ImageSet: job, Workspace: filepath.Join(s.dir, "jobs"), Interval: time.Hour}}
		c.Catalogs = []config.Catalog{{Name: "views/all:v1", Original: "originals/index:v4.18", Keep: time.Hour, Full: true}}
	})
	both := fmt.Sprintf(bothOperators, "wa") + "  additionalImages: [{name: 'HOST/samples/oci:v1'}, {name: 'HOST/samples/docker:v1'}]\n"
	s.works(t, s.by("wa", "mirror", "-c", s.set(t, "a.yaml", both))...)
	s.works(t, "sync", job, "--quayRoot", s.root)
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		if out := s.works(t, "status", "--quayRoot", s.root); strings.Contains(out, "views/all:v1 of originals/index:v4.18: 2 packages") || time.Now().After(end) {
			break
		}
	}
	less := s.set(t, "a.yaml", strings.Replace(fmt.Sprintf(bothOperators, "wa"), "{name: sample-database}, ", "", 1))
	s.works(t, s.by("wa", "mirror", "-c", less)...)
	out := s.works(t, s.by("wa", "mirror", "prune", "-c", less)...)
	contains(t, out, "samples/oci:v1 stays: the sync job of "+job+" in config.yaml", "stays: view views/all:v1, which offers bundle sample-database.v", "docker://"+s.address+"/samples/docker:v1\n", "1 image, of which")
}

// A catalog of before whose images were pruned since does not come back, unless by force.
func TestRollback_catalogWithoutItsImages(t *testing.T) {
	s := newSite(t)
	full, at := fmt.Sprintf(bothOperators, "rb"), []string{"mirror", "rollback", "docker://" + s.address, "--dest-creds", "admin:" + faultPassword}
	s.works(t, s.by("ws", "mirror", "-c", s.set(t, "a.yaml", full))...)
	less := s.set(t, "a.yaml", strings.Replace(full, "{name: sample-database}, ", "", 1))
	s.works(t, s.by("ws", "mirror", "-c", less)...)
	contains(t, s.works(t, at...), "cross/rb:v4.18: sha256:", "brought back 1 tag")
	s.works(t, append(at, "--run", func() string {
		past, err := s.admin.PastSyncs(t.Context(), api.PastRequest{})
		must(t, err)
		return past[0].ID
	}())...)
	s.works(t, s.by("ws", "mirror", "-c", less, "--prune")...)
	past, err := s.admin.PastSyncs(t.Context(), api.PastRequest{})
	must(t, err)
	run := past[len(past)-2].ID // the one that took the database out
	now, err := s.admin.PastSyncs(t.Context(), api.PastRequest{})
	must(t, err)
	for _, flags := range [][]string{{"--run", run, "--dry-run"}, {"--run", run}} {
		code, _, stderr := s.run(t, append(at, flags...)...)
		if code != 1 {
			t.Errorf("%q: exit code %d", flags, code)
		}
		contains(t, stderr, "nothing is rolled back: catalog cross/rb:v4.18 of before would offer bundles whose images are not here: sample-database.v", "hint: mirror them again")
	}
	if after, _ := s.admin.PastSyncs(t.Context(), api.PastRequest{}); len(after) != len(now) {
		t.Error("it is rolled back")
	}
	contains(t, s.works(t, append(at, "--run", run, "--force")...), "cross/rb:v4.18: sha256:", "brought back 1 tag")
}

// Image sets from standard input cannot be told apart: nothing is pruned by one, and another workspace's prune leaves
// what any of them has brought.
func TestPrune_standardInput(t *testing.T) {
	s := newSite(t)
	read := func(mirror string, args ...string) (code int, out string) {
		t.Helper()
		file, err := os.Open(s.set(t, "in.yaml", mirror))
		must(t, err)
		defer file.Close()
		c := exec.Command(s.program, args...)
		c.Dir, c.Stdin = s.dir, file
		c.Env = append(os.Environ(), "HOME="+s.dir, "REGISTRY_AUTH_FILE=", "SSL_CERT_FILE="+s.cfg.TLS.CA, "CONTAINERS_REGISTRIES_CONF=/dev/null")
		code, stdout, stderr := outcome(t, c)
		return code, stdout + stderr
	}
	const docker, oci = "  additionalImages: [{name: 'HOST/samples/docker:v1'}]\n", "  additionalImages: [{name: 'HOST/samples/oci:v1'}]\n"
	for _, set := range []string{docker, oci} {
		if code, out := read(set, s.by("in", "mirror", "-c", "-")...); code != 0 {
			t.Fatalf("exit code %d\n%s", code, out)
		}
	}
	for _, args := range [][]string{{"mirror", "-c", "-", "--prune"}, {"mirror", "prune", "-c", "-"}} {
		if code, out := read(oci, s.by("in", args...)...); code != 1 || !strings.Contains(out, "the image set is from standard input") || !strings.Contains(out, "hint: ") {
			t.Errorf("%q: exit code %d\n%s", args, code, out)
		}
	}
	both := s.set(t, "both.yaml", "  additionalImages: [{name: 'HOST/samples/docker:v1'}, {name: 'HOST/samples/oci:v1'}, {name: 'HOST/samples/docker-multi:v1'}]\n")
	s.works(t, s.by("other", "mirror", "-c", both)...)
	s.works(t, s.by("other", "mirror", "-c", s.set(t, "both.yaml", "  additionalImages: [{name: 'HOST/samples/docker-multi:v1'}]\n"), "--prune")...)
	if !s.tagged(t, "samples/docker") || !s.tagged(t, "samples/oci") {
		t.Error("what an image set from standard input has brought is pruned by another workspace")
	}
}

// A tag that a client has pushed over stays, and fails no run.
func TestPrune_pushedOver(t *testing.T) {
	s := newSite(t)
	s.works(t, s.by("ws", "mirror", "-c", s.set(t, "a.yaml", "  additionalImages: [{name: 'HOST/samples/docker:v1'}, {name: 'HOST/samples/oci:v1'}]\n"))...)
	must(t, s.push(t.Context(), newTestImage("samples/docker", "v1", []byte("a layer"))))
	less := s.set(t, "a.yaml", "  additionalImages: [{name: 'HOST/samples/oci:v1'}]\n")
	for range 2 {
		out := s.works(t, s.by("ws", "mirror", "-c", less, "--prune")...)
		contains(t, out, s.address+"/samples/docker:v1 stays: a client, which has pushed another image over the tag, needs it")
	}
	contains(t, s.works(t, s.by("ws", "mirror", "prune", "-c", less)...), "samples/docker:v1 stays: a client", "there is nothing to delete")
	if !s.tagged(t, "samples/docker") {
		t.Error("what the client has pushed is gone")
	}
}

// What --follow-dependencies has brought is not pruned by a run without it.
func TestPrune_followedDependencies(t *testing.T) {
	s := newSite(t)
	set := s.set(t, "a.yaml", "  operators: [{catalog: 'HOST/redhat/redhat-operator-index:v4.18', packages: [{name: sample-logging}]}]\n")
	s.works(t, s.by("ws", "mirror", "-c", set, "--follow-dependencies")...)
	for _, args := range [][]string{{"mirror", "-c", set, "--prune"}, {"mirror", "prune", "-c", set}} {
		if code, _, stderr := s.run(t, s.by("ws", args...)...); code != 1 || !strings.Contains(stderr, "the operators that others require, whose images would be deleted") || !strings.Contains(stderr, "--follow-dependencies") {
			t.Errorf("%q: exit code %d, %s", args, code, stderr)
		}
	}
	s.works(t, s.by("ws", "mirror", "-c", set, "--follow-dependencies", "--prune")...)
	s.works(t, s.by("ws", "mirror", "-c", set)...)
	s.works(t, s.by("ws", "mirror", "-c", set, "--prune")...)
}

// The next command that a list of images names deletes it, where the paths of the destination were joined too.
func TestDelete_nextCommandJoinsPaths(t *testing.T) {
	s := newSite(t)
	const images = "additionalImages: [{name: 'HOST/samples/docker:v1'}]\n"
	s.works(t, s.by("ws", "mirror", "-c", s.set(t, "a.yaml", "  "+images), "--max-nested-paths", "1")...)
	file := filepath.Join(s.dir, "delete.yaml")
	must(t, os.WriteFile(file, []byte("kind: DeleteImageSetConfiguration\napiVersion: mirror.openshift.io/v2alpha1\ndelete:\n  "+strings.ReplaceAll(images, "HOST", s.source)), 0o600))
	out := s.works(t, s.by("ws", "delete", "--generate", "-c", file, "--max-nested-paths", "1")...)
	_, next, found := strings.Cut(out, "to delete them: appliance ")
	command, _, _ := strings.Cut(next, "docker://")
	if !found || !strings.Contains(command, "--max-nested-paths 1 ") {
		t.Fatalf("it prints\n%s", out)
	}
	contains(t, s.works(t, s.by("ws", strings.Fields(command)...)...), "deleted 1 image; 0 were not there")
}
