package archive_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/archive"
	"github.com/mirror-appliance/appliance/mirror/sourcetest"
)

// entryV1 is an entry as oc-mirror v1 writes them: with a target it is a symbolic link.
type entryV1 struct{ name, data, target string }

func writeV1(t *testing.T, path string, entries ...entryV1) {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: e.name, Size: int64(len(e.data)), Mode: 0o644}
		if e.target != "" {
			h = &tar.Header{Typeflag: tar.TypeSymlink, Name: e.name, Linkname: e.target, Mode: 0o777}
		}
		must(t, w.WriteHeader(h))
		_, err := w.Write([]byte(e.data))
		must(t, err)
	}
	must(t, w.Close())
	must(t, os.WriteFile(path, b.Bytes(), 0o644))
}

func metadataV1(sequence int) entryV1 {
	return entryV1{name: "publish/.metadata.json", data: fmt.Sprintf(`{"kind":"Metadata","pastMirror":{"sequence":%d}}`, sequence)}
}

// Spec: oc-mirror 9.3.
func TestArchive_ofVersion1IsASource(t *testing.T) {
	sourcetest.Run(t, func(t *testing.T, c sourcetest.Content) mirror.Source {
		dir := t.TempDir()
		first := []entryV1{metadataV1(1)}
		var second []entryV1
		for tag, d := range c.Tags {
			first = append(first, entryV1{name: "v2/team/app/manifests/" + tag, target: d.String()})
		}
		for d, data := range c.Manifests {
			first = append(first, entryV1{name: "v2/team/app/manifests/" + d.String(), data: string(data)})
		}
		for d, data := range c.Blobs {
			second = append(second, entryV1{name: "blobs/" + d.String(), data: string(data)})
		}
		writeV1(t, filepath.Join(dir, "mirror_seq1_000000.tar"), first...)
		writeV1(t, filepath.Join(dir, "mirror_seq1_000001.tar"), second...)
		a, err := archive.Open(t.Context(), dir)
		must(t, err)
		t.Cleanup(func() { must(t, a.Close()) })
		return a.Repository("registry.example.com/team/app", "team/app")
	})
}

// An image is found by the name that it had at its source, and a tag that is a file and no link.
//
// Spec: oc-mirror 9.3, 9.4.
func TestOpen_version1ByItsMetadata(t *testing.T) {
	dir := t.TempDir()
	body := `{"schemaVersion":2}`
	d := digest.FromString(body)
	meta := entryV1{name: "publish/.metadata.json", data: `{"pastMirror":{"sequence":1,"associations":[{"name":"q.io/a/b:v1","id":"` + d.String() + `"},{"name":"x","id":"none"}]}}`}
	writeV1(t, filepath.Join(dir, "mirror_seq1_000000.tar"), meta, entryV1{name: "v2/other/name/manifests/v2", data: body},
		entryV1{name: "catalogs/q.io/a/index.json", data: "{}"})
	a, err := archive.Open(t.Context(), dir)
	must(t, err)
	defer a.Close()
	for _, at := range [][3]string{{"q.io/a/b", "a/b", "v1"}, {"q.io/other/name", "other/name", "v2"}} {
		if desc, _, err := a.Repository(at[0], at[1]).Manifest(t.Context(), at[2]); err != nil || desc.Digest != d {
			t.Errorf("%v: %v, %v", at, desc.Digest, err)
		}
	}
}

// Spec: oc-mirror 9.3, 9.4.
func TestOpen_version1Refuses(t *testing.T) {
	d := digest.FromString("x").String()
	for name, tc := range map[string]struct {
		files map[string][]entryV1
		want  string
	}{
		"a link that is not a tag":      {map[string][]entryV1{"mirror_seq1_000000.tar": {metadataV1(1), {name: "blobs/x", target: "/etc/passwd"}}}, "only tags are links"},
		"a tag that names no digest":    {map[string][]entryV1{"mirror_seq1_000000.tar": {metadataV1(1), {name: "v2/a/manifests/v1", target: "../../../etc/passwd"}}}, `tag "a":"v1": `},
		"a tag of no repository":        {map[string][]entryV1{"mirror_seq1_000000.tar": {metadataV1(1), {name: "v2/A/manifests/v1", target: d}}}, `of a repository "A"`},
		"a name that leads out":         {map[string][]entryV1{"mirror_seq1_000000.tar": {metadataV1(1), {name: "v2/../../a/manifests/v1", target: d}}}, "leads out of the archive"},
		"an entry twice":                {map[string][]entryV1{"mirror_seq1_000000.tar": {metadataV1(1), {name: "blobs/" + d, data: "x"}, {name: "blobs/" + d, data: "y"}}}, "which the archive has already"},
		"another sequence inside":       {map[string][]entryV1{"mirror_seq1_000000.tar": {metadataV1(2)}}, "says that it is of sequence 2"},
		"metadata that is none":         {map[string][]entryV1{"mirror_seq1_000000.tar": {{name: "publish/.metadata.json", data: "["}}}, "publish/.metadata.json: "},
		"a chunk that is missing":       {map[string][]entryV1{"mirror_seq1_000001.tar": {}}, "chunks are missing: mirror_seq1_000000.tar"},
		"a sequence that is missing":    {map[string][]entryV1{"mirror_seq2_000000.tar": {metadataV1(2)}, "mirror_seq4_000000.tar": {metadataV1(4)}}, "invalid mirror sequence order, want 3, got 4"},
		"a link in an archive of ver 2": {map[string][]entryV1{"mirror_000001.tar": {{name: "v2/a/manifests/v1", target: d}}}, "is a link or a device"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for file, entries := range tc.files {
				writeV1(t, filepath.Join(dir, file), entries...)
			}
			if a, err := archive.Open(t.Context(), dir); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v, error %v, want %s", a, err, tc.want)
			}
		})
	}
	t.Run("two sequences in order", func(t *testing.T) {
		dir := t.TempDir()
		for n := 9; n <= 10; n++ {
			writeV1(t, filepath.Join(dir, fmt.Sprintf("mirror_seq%d_000000.tar", n)), metadataV1(n), entryV1{name: "v2/a/manifests/v1", target: digest.FromString(fmt.Sprint(n)).String()},
				entryV1{name: "v2/a/manifests/" + digest.FromString(fmt.Sprint(n)).String(), data: fmt.Sprint(n)})
		}
		a, err := archive.Open(t.Context(), dir)
		must(t, err)
		defer a.Close()
		if _, body, err := a.Repository("q.io/a", "a").Manifest(t.Context(), "v1"); err != nil || string(body) != "10" {
			t.Errorf("the newest is %s, %v", body, err)
		}
	})
}
