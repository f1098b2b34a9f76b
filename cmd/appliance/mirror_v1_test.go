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

// writeV1 writes an image set of version 1 to a file of its own, rewriteV1 to one that is always the same: two files that
// are there are two image sets.
func (s *mirrorSetup) writeV1(t *testing.T, text string) string {
	t.Helper()
	return s.setV1(t, filepath.Join(t.TempDir(), "isc.yaml"), text)
}

func (s *mirrorSetup) rewriteV1(t *testing.T, text string) string {
	t.Helper()
	return s.setV1(t, filepath.Join(filepath.Dir(s.workspace), "isc.yaml"), text)
}

func (s *mirrorSetup) setV1(t *testing.T, file, text string) string {
	t.Helper()
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

// archiveOfV1 writes an archive of version 1 with an image, and returns its manifest.
func archiveOfV1(t *testing.T, sequence int) (manifest string) {
	t.Helper()
	config, layer := "{}", fmt.Sprint("a layer of ", sequence)
	d := func(text string) string { return digest.FromString(text).String() }
	manifest = fmt.Sprintf(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":%d},`+
		`"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":%q,"size":%d}]}`, d(config), len(config), d(layer), len(layer))
	metadata := fmt.Sprintf(`{"kind":"Metadata","apiVersion":"mirror.openshift.io/v1alpha2","uid":"b8d4c0f6-0d4e-4a3c-9d55-4fb6cb0b1f5c","singleUse":false,"pastMirror":{"timestamp":1,"sequence":%d,`+
		`"mirror":{"platform":{},"additionalImages":[{"name":"registry.example.com/ns/app"}],"helm":{}},"associations":[%[2]s]},"pastAssociations":[%[2]s]}`, sequence,
		fmt.Sprintf(`{"name":"registry.example.com/ns/app@%[1]s","path":"ns/app","id":%[1]q,"tagSymlink":"latest","type":"generic"}`, d(manifest)))
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, text := range map[string]string{"publish/.metadata.json": metadata, "v2/ns/app/manifests/" + d(manifest): manifest,
		"blobs/" + d(config): config, "blobs/" + d(layer): layer} {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(text)), Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	link := &tar.Header{Typeflag: tar.TypeSymlink, Name: "v2/ns/app/manifests/latest", Linkname: d(manifest)}
	if err := errors.Join(w.WriteHeader(link), w.Close(), os.WriteFile(fmt.Sprintf("mirror_seq%d_000000.tar", sequence), b.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
	return manifest
}

// manifest returns what the destination has under a tag.
func (s *mirrorSetup) manifest(t *testing.T, repository, tag string) string {
	t.Helper()
	response, err := http.Get("http://" + s.destination + "/v2/" + repository + "/manifests/" + tag)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	got, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(got)
}

// An archive of version 1 needs no file:// before its name, and no image set: it has its own.
//
// Spec: oc-mirror 9.1, 9.3.
func TestMirrorV1_fromItsArchive(t *testing.T) {
	for _, given := range []bool{true, false} {
		s := newMirrorSetup(t)
		t.Chdir(t.TempDir())
		manifest := archiveOfV1(t, 1)
		args := []string{"mirror", "--from", "mirror_seq1_000000.tar", "docker://" + s.destination, "--dest-use-http", "--v1"}
		if given {
			args = append(args, "-c", s.writeV1(t, "mirror:\n  additionalImages: [{name: 'registry.example.com/ns/app'}]\n"))
		}
		code, stdout, stderr := command(args...)
		if code != 0 {
			t.Fatalf("exit code %d\n%s%s", code, stdout, stderr)
		}
		if got := s.manifest(t, "ns/app", "latest"); got != manifest {
			t.Errorf("the registry has %s", got)
		}
	}
}

// Archives are published in their order, once each.
//
// Spec: oc-mirror 9.4.
func TestMirrorV1_sequenceOfArchives(t *testing.T) {
	s := newMirrorSetup(t)
	t.Chdir(t.TempDir())
	var manifests []string
	for n := range 4 {
		manifests = append(manifests, archiveOfV1(t, n+1))
	}
	publish := func(from, flags string, wantCode int, want string) {
		t.Helper()
		code, stdout, stderr := command(append([]string{"mirror", "--from", from, "docker://" + s.destination, "--dest-use-http", "--v1"}, strings.Fields(flags)...)...)
		if code != wantCode || !strings.Contains(stdout+stderr, want) {
			t.Errorf("from %s: exit code %d\n%s%s", from, code, stdout, stderr)
		}
	}
	publish("mirror_seq2_000000.tar", "", 1, "error during publishing, expecting imageset with prefix mirror_seq1: invalid mirror sequence order, want 1, got 2")
	publish("mirror_seq2_000000.tar", "", 1, "hint: mirror from the archive with that sequence first, or leave the check out: --skip-metadata-check")
	publish("mirror_seq1_000000.tar", "", 0, "mirrored successfully")
	publish("mirror_seq1_000000.tar", "", 0, "No diff from previous mirror (sequence is the same), nothing to do")
	publish("mirror_seq1_000000.tar", "", 0, "where images were deleted since, --skip-metadata-check mirrors from the archive again")
	publish("mirror_seq3_000000.tar", "", 1, "want 2, got 3")
	if got := s.manifest(t, "ns/app", "latest"); got != manifests[0] {
		t.Errorf("the registry has %s", got)
	}
	publish(".", "", 0, "mirrored successfully") // all of them, of which the second follows
	publish(".", "", 0, "No diff from previous mirror")
	publish("mirror_seq2_000000.tar", "--skip-metadata-check", 0, "mirrored successfully")
	if got := s.manifest(t, "ns/app", "latest"); got != manifests[1] {
		t.Errorf("the registry has %s", got)
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
		"docker://x --v1 --from y":               "--from: stat y: no such file or directory",
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
