package archive_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/hint"
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
	_, _, err = a.Repository("q.io/a/b", "a/b").Manifest(t.Context(), digest.FromString("deleted since").String())
	if !strings.Contains(hint.Of(err), "--skip-metadata-check") || strings.Contains(hint.Of(err), "--have") {
		t.Errorf("error %v, hint %s", err, hint.Of(err))
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
		"a catalog without its image":   {map[string][]entryV1{"mirror_seq1_000000.tar": {metadataV1(1), {name: "catalogs/q.io/a/b/v1/index/index.json", data: "{}"}}}, "catalog q.io/a/b:v1 has no image"},
		"a catalog without content":     {map[string][]entryV1{"mirror_seq1_000000.tar": {metadataV1(1), {name: "catalogs/q.io/a/b/v1/layout/index.json", data: "{}"}}}, "catalog q.io/a/b:v1 has no content"},
		"a catalog of a bad name":       {map[string][]entryV1{"mirror_seq1_000000.tar": {metadataV1(1), {name: "catalogs/q.io/a b/v1/layout/index.json", data: "{}"}}}, `a catalog of the name "q.io/a b/v1"`},
		"a catalog of no layout":        {map[string][]entryV1{"mirror_seq1_000000.tar": {metadataV1(1), {name: "catalogs/a/v1/index/index.json", data: "{}"}, {name: "catalogs/a/v1/layout/index.json", data: "x"}}}, "catalog a:v1: "},
		"a signature of no ConfigMap":   {map[string][]entryV1{"mirror_seq1_000000.tar": {metadataV1(1), {name: "release-signatures/x.json", data: "["}}}, "a signature of a release: "},
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

// A catalog has the name and the place that version 1 publishes it at, and an image of one platform or of several.
//
// Spec: oc-mirror 9.2, 9.3.
func TestArchive_catalogsOfVersion1(t *testing.T) {
	d := digest.FromString("x")
	one := `{"schemaVersion":2,"manifests":[{"mediaType":"m","digest":"` + d.String() + `","size":1}]}`
	two := `{"schemaVersion":2,"manifests":[{"digest":"` + d.String() + `"},{"digest":"` + d.String() + `"}]}`
	for name, tc := range map[string]struct {
		dir, index string
		want       archive.CatalogV1
	}{
		"by tag":                {"q.io:5000/a/b/v1", two, archive.CatalogV1{Name: "q.io:5000/a/b:v1", Repository: "a/b", Tag: "v1", Root: digest.FromString(two)}},
		"by digest":             {"localhost/a/" + d.String(), two, archive.CatalogV1{Name: "localhost/a@" + d.String(), Repository: "a", Tag: d.Encoded()[:6], Root: digest.FromString(two)}},
		"of a layout of a host": {"home/Me/cat/v1", one, archive.CatalogV1{Name: "home/me/cat:v1", Repository: "home/me/cat", Tag: "v1", Root: d}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			writeV1(t, filepath.Join(dir, "mirror_seq1_000000.tar"), metadataV1(1), entryV1{name: "catalogs/" + tc.dir + "/layout/index.json", data: tc.index},
				entryV1{name: "catalogs/" + tc.dir + "/index/index.json", data: "content"}, entryV1{name: "catalogs/" + tc.dir + "/layout/blobs/sha256/" + d.Encoded(), data: "x"})
			a, err := archive.Open(t.Context(), dir)
			must(t, err)
			defer a.Close()
			all := a.V1().Catalogs
			if len(all) != 1 {
				t.Fatalf("the catalogs are %v", all)
			}
			got := all[0]
			content, err := io.ReadAll(got.Index())
			got.Index = nil
			if fmt.Sprint(got) != fmt.Sprint(tc.want) || string(content) != "content" || err != nil {
				t.Errorf("the catalog is %v with %s, %v\nwant %v", got, content, err, tc.want)
			}
			described, err := archive.Describe(t.Context(), dir)
			if err != nil || len(described.Archives[0].Images) != 1 || described.Archives[0].Images[0].Reference != tc.want.Name {
				t.Errorf("it is described as %+v, %v", described, err)
			}
			for _, d := range []digest.Digest{d, got.Root} {
				if _, err := a.Repository("q.io/any", "any").Stat(t.Context(), d); err != nil {
					t.Error(err)
				}
			}
		})
	}
}
