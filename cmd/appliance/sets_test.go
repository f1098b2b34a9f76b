package main_test

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// tag copies an image of the appliance to a tag, as a client does.
func (s *site) tag(t *testing.T, from, to string) {
	t.Helper()
	ca, err := os.ReadFile(s.cfg.TLS.CA)
	must(t, err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	options := []remote.Option{
		remote.WithAuth(&authn.Basic{Username: "admin", Password: faultPassword}),
		remote.WithTransport(&http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}),
	}
	source, err := name.ParseReference(s.address + "/" + from)
	must(t, err)
	destination, err := name.ParseReference(s.address + "/" + to)
	must(t, err)
	image, err := remote.Image(source, options...)
	must(t, err)
	must(t, remote.Write(destination, image, options...))
}

// tags returns what the appliance has, as repository:tag.
func (s *site) tags(t *testing.T) (all string) {
	t.Helper()
	must(t, s.admin.Inventory(t.Context(), func(i api.Inventory) {
		for _, tag := range i.Tags {
			all += tag.Repository + ":" + tag.Tag + "\n"
		}
	}))
	return all
}

// Deleting a manifest deletes all of its tags. Where it has other tags, only the tag of the mirror is deleted.
func TestDelete_keepsTheTagsOfClients(t *testing.T) {
	s := newSite(t)
	s.works(t, s.by("ws", "mirror", "-c", s.set(t, "a.yaml", "  additionalImages: [{name: 'HOST/samples/docker:v1'}, {name: 'HOST/samples/oci:v1'}]\n"))...)
	s.tag(t, "samples/docker:v1", "samples/docker:mine")
	s.tag(t, "samples/oci:v1", "samples/oci:mine")
	file := filepath.Join(s.dir, "delete.yaml")
	must(t, os.WriteFile(file, []byte("kind: DeleteImageSetConfiguration\napiVersion: mirror.openshift.io/v2alpha1\ndelete:\n  additionalImages: [{name: '"+s.source+"/samples/docker:v1'}]\n"), 0o600))
	s.works(t, s.by("ws", "delete", "--generate", "-c", file)...)
	out := s.works(t, s.by("ws", "delete", "--delete-yaml-file", filepath.Join(s.dir, "ws/working-dir/delete/delete-images.yaml"))...)
	contains(t, out, "deleted the tag of docker://"+s.address+"/samples/docker:v1, and kept the content, which is that of tag samples/docker:mine")
	out = s.works(t, s.by("ws", "mirror", "-c", s.set(t, "a.yaml", "  additionalImages: [{name: 'HOST/samples/artifact:v1'}]\n"), "--prune")...)
	contains(t, out, "which is that of tag samples/oci:mine")
	if has := s.tags(t); strings.Contains(has, "/oci:v1") || strings.Contains(has, "/docker:v1") || !strings.Contains(has, "/docker:mine\n") || !strings.Contains(has, "/oci:mine\n") {
		t.Errorf("there is\n%s", has)
	}
}

// Two files of one name are two image sets, while both are there.
func TestPrune_ofAnotherFileOfTheSameName(t *testing.T) {
	s := newSite(t)
	for _, dir := range []string{"one", "two"} {
		must(t, os.Mkdir(filepath.Join(s.dir, dir), 0o700))
	}
	s.works(t, s.by("ws", "mirror", "-c", s.set(t, "one/imageset.yaml", "  additionalImages: [{name: 'HOST/samples/docker:v1'}]\n"))...)
	s.works(t, s.by("ws", "mirror", "-c", s.set(t, "two/imageset.yaml", "  additionalImages: [{name: 'HOST/samples/oci:v1'}]\n"), "--prune")...)
	if has := s.tags(t); !strings.Contains(has, "samples/docker:v1\n") {
		t.Fatalf("the other file's image is gone:\n%s", has)
	}
	less := s.set(t, "two/imageset.yaml", "  additionalImages: [{name: 'HOST/samples/artifact:v1'}]\n")
	s.works(t, s.by("ws", "mirror", "-c", less, "--prune")...)
	if has := s.tags(t); strings.Contains(has, "samples/oci:v1\n") || !strings.Contains(has, "samples/docker:v1\n") {
		t.Fatalf("its own image is there, or the other's is gone:\n%s", has)
	}

	// A file that has moved is the same image set.
	must(t, os.RemoveAll(filepath.Join(s.dir, "one")))
	s.works(t, s.by("ws", "mirror", "-c", less, "--prune")...)
	if has := s.tags(t); strings.Contains(has, "samples/docker:v1\n") {
		t.Errorf("the image of a file that is no more is there:\n%s", has)
	}
}

// What was mirrored to one path of a registry is not pruned by a run to another.
func TestPrune_atAnotherPath(t *testing.T) {
	s := newSite(t)
	to := func(path, set string, flags ...string) string {
		t.Helper()
		args := []string{"mirror", "-c", set, "docker://" + s.address + path, "--workspace", "file://" + filepath.Join(s.dir, "ws"), "--src-tls-verify=false", "--dest-creds", "admin:" + faultPassword}
		return s.works(t, append(args, flags...)...)
	}
	both := s.set(t, "a.yaml", "  additionalImages: [{name: 'HOST/samples/docker:v1'}, {name: 'HOST/samples/oci:v1'}]\n")
	for _, path := range []string{"/testing", "/prod", ""} {
		to(path, both)
	}
	// What the last run of another image set to the same path asks for stays, whatever its runs to others did.
	to("/testing", s.set(t, "b.yaml", "  additionalImages: [{name: 'HOST/samples/docker:v1'}]\n"))
	to("/testing", s.set(t, "b.yaml", "  additionalImages: [{name: 'HOST/samples/oci:v1'}]\n"), "--prune")
	if has := s.tags(t); !strings.Contains(has, "testing/samples/docker:v1\n") {
		t.Errorf("the image of the other image set is gone:\n%s", has)
	}

	one := s.set(t, "a.yaml", "  additionalImages: [{name: 'HOST/samples/oci:v1'}]\n")
	for _, step := range []struct{ path, gone string }{{"", "samples/docker:v1\n"}, {"/prod", "prod/samples/docker:v1\n"}, {"/testing", "testing/samples/docker:v1\n"}} {
		before := strings.SplitAfter(s.tags(t), "\n")
		to(step.path, one, "--prune")
		after := s.tags(t)
		for _, tag := range before {
			if there := strings.Contains("\n"+after, "\n"+tag); there == (tag == step.gone) && tag != "" {
				t.Errorf("after a run to %q: %s: there %v", step.path, tag, there)
			}
		}
	}
}

// prune plans with the tags that the mirror gave, of version 1 too.
func TestPrune_version1(t *testing.T) {
	s := newSite(t)
	file := filepath.Join(s.dir, "v1.yaml")
	set := func(packages string) {
		must(t, os.WriteFile(file, []byte("kind: ImageSetConfiguration\napiVersion: mirror.openshift.io/v1alpha2\nmirror:\n  operators: [{catalog: '"+s.source+"/redhat/redhat-operator-index:v4.18', packages: ["+packages+"]}]\n"), 0o600))
	}
	set("{name: sample-logging}, {name: sample-database}")
	s.works(t, s.by("ws", "mirror", "-c", file)...)
	if out := s.works(t, s.by("ws", "mirror", "prune", "-c", file)...); !strings.Contains(out, "there is nothing to delete") {
		t.Fatalf("it lists what was mirrored:\n%s", out)
	}
	code, stdout, stderr := s.run(t, s.by("ws", "drift", "-c", file)...)
	if code != 0 || strings.Contains(stdout+stderr, "v2alpha1") {
		t.Errorf("drift reads it as another version: exit code %d, %s%s", code, stdout, stderr)
	}
	set("{name: sample-logging}")
	s.works(t, s.by("ws", "mirror", "-c", file)...)
	if out := s.works(t, s.by("ws", "mirror", "prune", "-c", file)...); strings.Contains(out, "logging") || !strings.Contains(out, "/sample-database-bundle:") {
		t.Errorf("after a package was taken out:\n%s", out)
	}
}

// What is asked for by its digest is there, and under a tag that is not asked for.
func TestPrune_ofWhatIsPinned(t *testing.T) {
	s := newSite(t)
	s.works(t, s.by("ws", "mirror", "-c", s.set(t, "a.yaml", "  additionalImages: [{name: 'HOST/samples/docker:v1'}]\n"))...)
	var pinned string
	must(t, s.admin.Inventory(t.Context(), func(i api.Inventory) {
		for _, tag := range i.Tags {
			pinned = tag.Digest.String()
		}
	}))
	set := s.set(t, "a.yaml", "  additionalImages: [{name: 'HOST/samples/docker@"+pinned+"'}]\n")
	if out := s.works(t, s.by("ws", "mirror", "prune", "-c", set)...); !strings.Contains(out, "there is nothing to delete") {
		t.Fatalf("before the next run:\n%s", out)
	}
	s.works(t, s.by("ws", "mirror", "-c", set)...)
	contains(t, s.works(t, s.by("ws", "mirror", "prune", "-c", set)...), "samples/docker:v1\n")
	s.works(t, s.by("ws", "mirror", "prune", "--delete-yaml-file", filepath.Join(s.dir, "ws/working-dir/delete/delete-images-prune.yaml"))...)
	if has := s.tags(t); strings.Contains(has, "docker:v1\n") || !strings.Contains(has, "docker:sha256-") {
		t.Errorf("there is\n%s", has)
	}
}

// A list is of the time when it was made.
func TestDelete_ofAnOldList(t *testing.T) {
	s := newSite(t)
	const both, one = "  additionalImages: [{name: 'HOST/samples/docker:v1'}, {name: 'HOST/samples/oci:v1'}]\n", "  additionalImages: [{name: 'HOST/samples/oci:v1'}]\n"
	list := filepath.Join(s.dir, "ws/working-dir/delete/delete-images-prune.yaml")
	again := func() {
		t.Helper()
		s.works(t, s.by("ws", "mirror", "-c", s.set(t, "a.yaml", both))...)
		set := s.set(t, "a.yaml", one)
		s.works(t, s.by("ws", "mirror", "-c", set)...)
		contains(t, s.works(t, s.by("ws", "mirror", "prune", "-c", set)...), "samples/docker:v1\n")
	}
	again()
	s.works(t, s.by("ws", "mirror", "-c", s.set(t, "a.yaml", both))...)
	code, _, stderr := s.run(t, s.by("ws", "delete", "--delete-yaml-file", list)...)
	if code == 0 || !strings.Contains(stderr, "were mirrored since it was written") || !strings.Contains(s.tags(t), "docker:v1\n") {
		t.Errorf("of what was mirrored again: exit code %d, %s", code, stderr)
	}

	again()
	s.tag(t, "samples/oci:v1", "samples/docker:v1")
	code, stdout, _ := s.run(t, s.by("ws", "delete", "--delete-yaml-file", list)...)
	if code == 0 || !strings.Contains(stdout, "which the workspace has not mirrored") || !strings.Contains(s.tags(t), "docker:v1\n") {
		t.Errorf("of what a client has pushed since: exit code %d, %s", code, stdout)
	}
	s.works(t, s.by("ws", "delete", "--delete-yaml-file", list, "--force")...)
	if strings.Contains(s.tags(t), "docker:v1\n") {
		t.Error("by force it is not deleted")
	}
}

// What a workspace has mirrored to another path of the registry is still wanted there, after its run to this one.
func TestPrune_keepsWhatWasMirroredToAnotherPath(t *testing.T) {
	s := newSite(t)
	to := func(workspace, path, set string, flags ...string) string {
		t.Helper()
		args := []string{"mirror", "-c", set, "docker://" + s.address + path, "--workspace", "file://" + filepath.Join(s.dir, workspace), "--src-tls-verify=false", "--dest-creds", "admin:" + faultPassword}
		return s.works(t, append(args, flags...)...)
	}
	const both = "  additionalImages: [{name: 'HOST/samples/docker:v1'}, {name: 'HOST/samples/oci:v1'}]\n"
	a := s.set(t, "a.yaml", both)
	to("wa", "/testing", a)
	to("wa", "", a)
	to("wb", "/testing", s.set(t, "b.yaml", both))
	out := to("wb", "/testing", s.set(t, "b.yaml", "  additionalImages: [{name: 'HOST/samples/oci:v1'}]\n"), "--prune")
	contains(t, out, "testing/samples/docker:v1 stays: image set a.yaml of the workspace")
	if has := s.tags(t); !strings.Contains(has, "testing/samples/docker:v1\n") {
		t.Errorf("it is gone:\n%s", has)
	}
}
