package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// writeV1 writes an image set of version 1.
func (s *mirrorSetup) writeV1(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "isc.yaml")
	text = "kind: ImageSetConfiguration\napiVersion: mirror.openshift.io/v1alpha2\n" + strings.ReplaceAll(text, "HOST", s.source)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// A file of version 1 needs no flag, and no workspace; oc-mirror needs --v1.
//
// Spec: oc-mirror 9.1, 9.2, 9.6.
func TestMirrorV1_results(t *testing.T) {
	for name, run := range map[string]func([]string, stdio) int{
		"appliance mirror": func(args []string, std stdio) int { return execute(append([]string{"mirror"}, args...), std) },
		"oc-mirror":        func(args []string, std stdio) int { return executePlugin(append(args, "--v1"), std) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newMirrorSetup(t)
			t.Chdir(t.TempDir())
			file := s.writeV1(t, "mirror:\n  additionalImages: [{name: 'HOST/samples/docker:v1'}]\n")
			var out bytes.Buffer
			code := run([]string{"-c", file, "docker://" + s.destination + "/ns", "--source-use-http", "--dest-use-http"},
				stdio{in: strings.NewReader(""), out: &out, err: &out})
			if code != 0 {
				t.Fatalf("exit code %d\n%s", code, out.String())
			}
			dirs, err := filepath.Glob("oc-mirror-workspace/results-*")
			if err != nil || len(dirs) != 1 || !regexp.MustCompile(`results-\d{10}$`).MatchString(dirs[0]) {
				t.Fatalf("results are in %v, %v", dirs, err)
			}
			mapping, err := os.ReadFile(filepath.Join(dirs[0], "mapping.txt"))
			want := regexp.MustCompile(`^` + s.source + `/samples/docker@sha256:[0-9a-f]{64}=` + s.destination + `/ns/samples/docker:v1\n$`)
			if err != nil || !want.Match(mapping) {
				t.Errorf("mapping.txt is %s, %v", mapping, err)
			}
			policy, err := os.ReadFile(filepath.Join(dirs[0], "imageContentSourcePolicy.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			says(t, string(policy), "kind: ImageContentSourcePolicy", "name: generic-0", "source: "+s.source+"/samples\n", "- "+s.destination+"/ns/samples\n")
		})
	}
}

// An archive of version 1 needs the image set, and no file:// before its name.
//
// Spec: oc-mirror 9.1, 9.3.
func TestMirrorV1_fromItsArchive(t *testing.T) {
	s := newMirrorSetup(t)
	t.Chdir(t.TempDir())
	config, layer := "{}", "a layer"
	d := func(text string) string { return digest.FromString(text).String() }
	manifest := fmt.Sprintf(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":%d},`+
		`"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":%q,"size":%d}]}`, d(config), len(config), d(layer), len(layer))
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, text := range map[string]string{"publish/.metadata.json": `{"pastMirror":{"sequence":1}}`, "v2/ns/app/manifests/" + d(manifest): manifest,
		"blobs/" + d(config): config, "blobs/" + d(layer): layer} {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(text)), Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	link := &tar.Header{Typeflag: tar.TypeSymlink, Name: "v2/ns/app/manifests/latest", Linkname: d(manifest)}
	if err := errors.Join(w.WriteHeader(link), w.Close(), os.WriteFile("mirror_seq1_000000.tar", b.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
	file := s.writeV1(t, "mirror:\n  additionalImages: [{name: 'registry.example.com/ns/app'}]\n")
	code, stdout, stderr := command("mirror", "-c", file, "--from", "mirror_seq1_000000.tar", "docker://"+s.destination, "--dest-use-http")
	if code != 0 {
		t.Fatalf("exit code %d\n%s%s", code, stdout, stderr)
	}
	response, err := http.Get("http://" + s.destination + "/v2/ns/app/manifests/latest")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if got, err := io.ReadAll(response.Body); err != nil || string(got) != manifest {
		t.Errorf("the registry has %s, %v", got, err)
	}
}

// Spec: oc-mirror 9.1.
func TestMirrorV1_refuses(t *testing.T) {
	s := newMirrorSetup(t)
	t.Chdir(t.TempDir())
	file := s.writeV1(t, "mirror: {}\n")
	missing := s.writeV1(t, "mirror:\n  additionalImages: [{name: 'HOST/samples/absent:v1'}]\n")
	stored := s.writeV1(t, "storageConfig: {local: {path: x}}\nmirror: {}\n")
	for line, want := range map[string]string{
		"x -c " + file:                           "no scheme delimiter in destination argument",
		"oci://x -c " + file:                     `unknown destination scheme "oci"`,
		"file://x --dir y -c " + file:            "--dir cannot be specified with file destination scheme",
		"file://x --from y -c " + file:           "must specify a registry destination",
		"file://x --v1":                          "must specify a configuration file with --config",
		"docker://x --v1":                        "must specify --config or --from with registry destination",
		"docker://x --v1 --from y":               "mirroring from an archive without --config is not built yet",
		"docker://x --from none -c " + file:      "--from: stat none: no such file or directory",
		"docker://x --manifests-only -c " + file: "must specify a path to an archive with --from with --manifest-only",
		"docker://x --v1 -c none":                "read image set configuration: open none",
		"docker://" + s.destination + " --dest-use-http --source-use-http --retry-times 0 -c " + missing: "1 of 1 image",
		"docker://" + s.destination + " --dest-use-http -c " + stored:                                    "no images to copy",
		"docker://x --v2 -c " + file: "when destination is docker://, either --from",
	} {
		code, _, stderr := command(append([]string{"mirror"}, strings.Fields(line)...)...)
		if code != 1 || !strings.Contains(stderr, "error: "+want) {
			t.Errorf("mirror %s\nends with %d: %s\nwant %s", line, code, stderr, want)
		}
	}
}
