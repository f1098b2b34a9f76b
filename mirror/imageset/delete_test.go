package imageset_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/mirror/imageset"
)

// Spec: oc-mirror 2.3.
func TestLoadDelete(t *testing.T) {
	const head = "kind: DeleteImageSetConfiguration\napiVersion: mirror.openshift.io/v2alpha1\n"
	file := filepath.Join(t.TempDir(), "disc.yaml")
	load := func(text string) (*imageset.Config, error) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return imageset.LoadDelete(file)
	}
	c, err := load(head + "delete:\n  platform: {channels: [{name: stable-4.18}]}\n  additionalImages: [{name: 'quay.io/a/b:v1'}]\n" +
		"  helm: {local: [{path: /c}]}\n  operators: [{catalog: 'a/b:c'}]\n  samples: [{name: x}]\n")
	if err != nil {
		t.Fatal(err)
	}
	if m := c.Mirror; len(m.Platform.Channels) != 1 || len(m.AdditionalImages) != 1 || len(m.Helm.Local) != 1 || len(m.Operators) != 1 {
		t.Errorf("read %+v", m)
	}
	for text, want := range map[string]string{
		head + "delete:\n  blockedImages: [{name: x}]\n": "disc.yaml:4: blockedImages: unknown key",
		head + "archiveSize: 4\ndelete: {}\n":            "disc.yaml:3: archiveSize: unknown key",
		head:                                             "the key delete is missing",
		"kind: ImageSetConfiguration\nmirror: {}\n":      `disc.yaml:1: kind is "ImageSetConfiguration", not DeleteImageSetConfiguration`,
		head + "delete:\n  platform: {channels: [{name: a-4.1}, {name: a-4.1}]}\n":                       `release channel "a-4.1": duplicate found in configuration`,
		head + "delete:\n  operators: [{catalog: 'a/b:c'}, {catalog: 'a/b:c'}]\n":                        `catalog "a/b:c": duplicate found in configuration`,
		head + "mirror: {}\ndelete: {}\n":                                                                "mirror: unknown key",
		head + "delete:\n  additionalImages: [{name: 'quay.io/a/b:v1'}, {name: 'quay.io/a/b:v1', x: 1}]": "unknown key",
	} {
		if _, err := load(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %s, of\n%s", err, want, text)
		}
	}
}

// A file for version 1 says itself what to change.
//
// Spec: oc-mirror 2.4.
func TestParse_keysOfVersion1(t *testing.T) {
	text := strings.Replace(head, "v2alpha1", "v1alpha2", 1) + `storageConfig: {local: {path: x}}
mirror:
  operators:
  - catalog: a/b:c
    targetName: d
    originalRef: e
    packages: [{name: p, minBundle: b, channels: [{name: q, minBundle: b}]}]
`
	_, err := imageset.Parse("isc.yaml", []byte(text))
	if err == nil {
		t.Fatal("it is read")
	}
	for _, key := range []string{"isc.yaml:3: storageConfig", "isc.yaml:7: mirror.operators[0].targetName", "isc.yaml:8: mirror.operators[0].originalRef",
		"isc.yaml:9: mirror.operators[0].packages[0].minBundle", "isc.yaml:9: mirror.operators[0].packages[0].channels[0].minBundle"} {
		if !strings.Contains(err.Error(), key+": unknown key") {
			t.Errorf("%v\nsays nothing of %s", err, key)
		}
	}
}
