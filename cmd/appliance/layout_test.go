package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// writeImageLayout writes an OCI layout with one image that has no tag.
func writeImageLayout(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o755); err != nil {
		t.Fatal(err)
	}
	add := func(mediaType, text string) string {
		sum := sha256.Sum256([]byte(text))
		name := hex.EncodeToString(sum[:])
		writeText(t, filepath.Join(dir, "blobs", "sha256", name), text)
		return fmt.Sprintf(`{"mediaType":%q,"digest":"sha256:%s","size":%d}`, mediaType, name, len(text))
	}
	const manifest = "application/vnd.oci.image.manifest.v1+json"
	root := add(manifest, fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":%s,"layers":[%s]}`, manifest,
		add("application/vnd.oci.image.config.v1+json", `{"os":"linux"}`), add("application/vnd.oci.image.layer.v1.tar", "a layer")))
	writeText(t, filepath.Join(dir, "index.json"), `{"schemaVersion":2,"manifests":[`+root+`]}`)
}

// The far side does not have the layout.
//
// Spec: oc-mirror 6.2.
func TestMirror_layoutThroughAnArchive(t *testing.T) {
	s := newMirrorSetup(t)
	layout, dir := filepath.Join(t.TempDir(), "app"), t.TempDir()
	writeImageLayout(t, layout)
	file := filepath.Join(t.TempDir(), "imageset.yaml")
	writeText(t, file, "kind: ImageSetConfiguration\napiVersion: mirror.openshift.io/v2alpha1\nmirror:\n  additionalImages:\n  - {name: 'oci://"+layout+"', targetRepo: team/app}\n")
	code, stdout, stderr := command("mirror", "-c", file, "file://"+dir, "--dry-run")
	if code != 0 {
		t.Fatalf("a dry run ends with %d: %s", code, stderr)
	}
	says(t, stdout, "oci://"+layout+"=docker://localhost:55000/team/app:latest")
	if code, _, stderr = command("mirror", "-c", file, "file://"+dir); code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	if err := os.RemoveAll(layout); err != nil {
		t.Fatal(err)
	}
	puts := 0
	s.onPut = func() { puts++ }
	code, _, stderr = command("mirror", "-c", file, "--from", "file://"+dir, "docker://"+s.destination, "--dest-tls-verify=false")
	if code != 0 || puts == 0 {
		t.Fatalf("the import ends with %d after %d puts: %s", code, puts, stderr)
	}
	code, stdout, stderr = command("mirror", "-c", file, "docker://"+s.destination, "--dest-tls-verify=false", "--workspace", "file://"+t.TempDir())
	if code == 0 {
		t.Error("a layout that is not there is no error")
	}
	says(t, stdout+stderr, layout+" as an OCI layout", "name a directory with index.json")
}

func writeText(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
