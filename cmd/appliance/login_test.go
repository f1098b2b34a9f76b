package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A login in the name of an image, a catalog or a registry is refused by name, and is neither printed nor written.
func TestMirror_loginsAreNotShown(t *testing.T) {
	s := newMirrorSetup(t)
	t.Chdir(t.TempDir())
	const v1, v2 = "mirror.openshift.io/v1alpha2", "mirror.openshift.io/v2alpha1"
	for _, login := range []string{"user:s3cret@", "user:pass/s3cret@", "user:s3cret/pass@", "user:p@s3cret@", "s3cret@", "user:s3cret@/"} {
		for name, set := range map[string][2]string{
			"a catalog":              {v2, "  operators: [{catalog: 'LOGINHOST/cat/std:v1'}]"},
			"a catalog without path": {v2, "  operators: [{catalog: 'LOGINHOST'}]"},
			"a catalog of docker":    {v2, "  operators: [{catalog: 'docker://LOGINHOST/cat/std:v1'}]"},
			"a catalog of version 1": {v1, "  operators: [{catalog: 'LOGINHOST/cat/std:v1', targetName: x}]"},
			"a catalog twice":        {v2, "  operators: [{catalog: 'LOGINHOST/cat/std:v1', packages: [{name: a, minVersion: x}]}, {catalog: 'LOGINHOST/cat/std:v1'}]"},
			"an additional image":    {v2, "  additionalImages: [{name: 'LOGINHOST/app:v1'}]"},
			"an image of version 1":  {v1, "  additionalImages: [{name: 'LOGINHOST'}]"},
			"a release":              {v2, "  platform: {release: 'LOGINHOST/release:v1'}"},
			"a chart":                {v2, "  helm: {repositories: [{name: x, url: 'http://LOGINHOST/charts', charts: [{name: none}]}]}"},
			"a metadata image":       {v1, "  additionalImages: [{name: 'HOST/samples/docker:v1'}]\nstorageConfig: {registry: {imageURL: 'LOGINHOST/meta'}}"},
		} {
			text := "kind: ImageSetConfiguration\napiVersion: " + set[0] + "\nmirror:\n" + strings.NewReplacer("LOGIN", login, "HOST", s.source).Replace(set[1]) + "\n"
			if err := os.WriteFile("isc.yaml", []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			hides(t, name+" with "+login, "mirror", "-c", "isc.yaml", "--workspace", "file://ws", "--retry-times", "0", "--src-tls-verify=false", "docker://"+s.destination, "--dest-tls-verify=false")
			hides(t, name+" with "+login, "mirror", "-c", "isc.yaml", "--retry-times", "0", "--src-tls-verify=false", "file://ws")
		}
		set := s.imageSetFile(t, held)
		hides(t, "a destination with "+login, "mirror", "-c", set, "--workspace", "file://ws", "docker://"+login+s.destination+"/ns")
		hides(t, "a destination with "+login, "mirror", "-c", set, "--workspace", "file://ws", "docker://"+login+s.destination)
		hides(t, "a listed catalog with "+login, "mirror", "list", "operators", "--catalog", login+s.source)
		hides(t, "a listed catalog with "+login, "mirror", "list", "operators", "--catalog", login+s.source+"/cat:v1", "--src-tls-verify=false")
	}
}

// hides runs a command that is to fail, and looks for the secret in all that it prints and writes.
func hides(t *testing.T, what string, args ...string) {
	t.Helper()
	code, stdout, stderr := command(args...)
	if code == 0 || strings.Contains(stdout+stderr, "s3cret") {
		t.Errorf("%s: exit code %d\n%s%s", what, code, stdout, stderr)
	}
	err := filepath.WalkDir("ws", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil
		}
		if text, err := os.ReadFile(path); err != nil || strings.Contains(string(text), "s3cret") {
			t.Errorf("%s: %s has it, %v", what, path, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
