package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// command runs one command line.
func command(args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = execute(args, stdio{in: strings.NewReader(""), out: &out, err: &errs})
	return code, out.String(), errs.String()
}

// imageSetFile writes an image set of images of the upstream.
func (s *mirrorSetup) imageSetFile(t *testing.T, images ...string) string {
	t.Helper()
	set := "kind: ImageSetConfiguration\napiVersion: mirror.openshift.io/v2alpha1\nmirror:\n  additionalImages:\n"
	for _, image := range images {
		set += "  - {name: '" + s.source + "/" + image + "', targetRepo: renamed}\n"
	}
	file := filepath.Join(t.TempDir(), "imageset.yaml")
	if err := os.WriteFile(file, []byte(set), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// Spec: oc-mirror 1.2, 7.1.
func TestMirror_toAndFromAnArchive(t *testing.T) {
	s := newMirrorSetup(t)
	dir, file := t.TempDir(), s.imageSetFile(t, held)
	puts := 0
	s.onPut = func() { puts++ }
	code, stdout, stderr := command("mirror", "-c", file, "file://"+dir, "--src-tls-verify=false", "--dry-run")
	if code != 0 || len(glob(t, dir, "mirror_*")) > 0 {
		t.Errorf("a dry run ends with %d and leaves %v: %s", code, glob(t, dir, "mirror_*"), stderr)
	}
	says(t, stdout, "docker://"+s.source+"/"+held+"=docker://localhost:55000/renamed:v1", "nothing was copied")
	code, stdout, stderr = command("mirror", "-c", file, "file://"+dir, "--src-tls-verify=false", "--strict-archive")
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	says(t, stdout, "the archive is in "+dir, "--from file://DIR")
	if found := glob(t, dir, "*.tar"); len(found) != 1 || len(glob(t, dir, "working-dir/cluster-resources/*")) > 0 || puts > 0 {
		t.Errorf("it leaves %v, and has put %d blobs into a registry", found, puts)
	}

	code, stdout, _ = command("mirror", "describe", dir)
	if code != 0 {
		t.Errorf("describe ends with %d", code)
	}
	says(t, stdout, "1 of 1 chunk", "archive number 1", "image renamed:v1 from "+s.source+"/"+held)
	if code, stdout, _ := command("describe", "--verify", dir); code != 0 || !strings.Contains(stdout, "image ") {
		t.Errorf("describe --verify ends with %d\n%s", code, stdout)
	}
	code, stdout, _ = command("describe", "-o", "json", glob(t, dir, "*.tar")[0])
	if code != 0 || !json.Valid([]byte(stdout)) {
		t.Errorf("as JSON it ends with %d: %s", code, stdout)
	}

	code, _, stderr = command("mirror", "-c", file, "--from", "file://"+dir, "docker://"+s.destination, "--dest-tls-verify=false")
	if code != 0 || puts == 0 {
		t.Fatalf("the import ends with %d after %d puts: %s", code, puts, stderr)
	}
	if found := glob(t, dir, "working-dir/cluster-resources/*"); len(found) == 0 {
		t.Error("there are no resources for the cluster")
	}

	readOnly := t.TempDir() // as a DVD
	if err := os.CopyFS(filepath.Join(readOnly, "disc"), os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(readOnly, "disc", "working-dir")); err != nil {
		t.Fatal(err)
	}
	other := t.TempDir()
	code, _, stderr = command("mirror", "-c", file, "--from", "file://"+readOnly+"/disc", "--workspace", "file://"+other,
		"docker://"+s.destination, "--dest-tls-verify=false")
	if code != 0 || len(glob(t, readOnly, "disc/working-dir")) > 0 || len(glob(t, other, "working-dir/cluster-resources/*")) == 0 {
		t.Errorf("an import with a workspace ends with %d: %s", code, stderr)
	}

	if err := os.Truncate(glob(t, dir, "*.tar")[0], 3000); err != nil {
		t.Fatal(err)
	}
	puts = 0
	code, _, stderr = command("mirror", "-c", file, "--from", "file://"+dir, "docker://"+s.destination, "--dest-tls-verify=false")
	if code != 1 || puts > 0 {
		t.Errorf("a damaged archive ends with %d after %d puts", code, puts)
	}
	says(t, stderr, "mirror_000001.tar is damaged", "hint: copy the file again")
	if code, stdout, _ = command("describe", dir); code != 1 {
		t.Errorf("describe of a damaged archive ends with %d", code)
	}
	says(t, stdout, "problem: ", "mirror_000001.tar is damaged")
}

func glob(t *testing.T, dir, pattern string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// The configurations that a run pins are read by imports, and by deletes on the far side, where the
// archive alone has come.
//
// Spec: oc-mirror 2.5.
func TestMirror_pinned(t *testing.T) {
	s := newMirrorSetup(t)
	dir, file := t.TempDir(), s.imageSetFile(t, held)
	set, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	set = append(set, "  operators:\n  - catalog: "+s.source+"/redhat/redhat-operator-index:v4.18\n    packages: [{name: sample-database}]\n"...)
	if err := os.WriteFile(file, set, 0o600); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := command("mirror", "-c", file, "file://"+dir, "--src-tls-verify=false")
	pinned, deletion := glob(t, dir, "working-dir/isc_pinned_*Z.yaml"), glob(t, dir, "working-dir/disc_pinned_*Z.yaml")
	if code != 0 || len(pinned) != 1 || len(deletion) != 1 {
		t.Fatalf("exit code %d, pinned %q and %q: %s", code, pinned, deletion, stderr)
	}
	says(t, stdout, "Pinned ISC written to: "+pinned[0], "Pinned DISC written to: "+deletion[0])
	if err := os.Rename(filepath.Join(dir, "working-dir"), filepath.Join(dir, "here")); err != nil {
		t.Fatal(err)
	}
	for name, set := range map[string]string{"as it was": file, "pinned": filepath.Join(dir, "here", filepath.Base(pinned[0]))} {
		t.Run(name, func(t *testing.T) {
			far := t.TempDir()
			code, _, stderr := command("mirror", "-c", set, "--from", "file://"+dir, "--workspace", "file://"+far, "docker://"+s.destination, "--dest-tls-verify=false")
			if code != 0 {
				t.Fatalf("the import ends with %d: %s", code, stderr)
			}
			code, stdout, stderr := command("delete", "--generate", "-c", filepath.Join(far, "working-dir", filepath.Base(deletion[0])),
				"--workspace", "file://"+far, "docker://"+s.destination, "--dest-tls-verify=false")
			if code != 0 {
				t.Fatal(stderr)
			}
			says(t, stdout, "docker://"+s.destination+"/renamed:v1\n", "docker://"+s.destination+"/operators/sample-database-bundle:sha256-",
				"images, of which 0 are not there")
		})
	}
}
