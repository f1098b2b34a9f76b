package archive_test

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/mirror/archive"
)

// tricks are archives that a program that extracts them would fall for.
func tricks(t testing.TB) map[string][]byte {
	all := map[string][]byte{}
	for name, h := range map[string]*tar.Header{
		"a name that leads out":       {Typeflag: tar.TypeReg, Name: "working-dir/../../etc/passwd"},
		"an absolute name":            {Typeflag: tar.TypeReg, Name: "/etc/cron.d/working-dir"},
		"a symbolic link":             {Typeflag: tar.TypeSymlink, Name: "working-dir/signatures", Linkname: "/etc"},
		"a hard link":                 {Typeflag: tar.TypeLink, Name: "working-dir/x", Linkname: "/etc/shadow"},
		"a device":                    {Typeflag: tar.TypeChar, Name: "working-dir/null", Devmajor: 1, Devminor: 3},
		"a pipe":                      {Typeflag: tar.TypeFifo, Name: "working-dir/pipe"},
		"a long name":                 {Typeflag: tar.TypeReg, Name: "working-dir/" + strings.Repeat("a/", 100000) + "b", Format: tar.FormatPAX},
		"a size that is not there":    {Typeflag: tar.TypeReg, Name: "working-dir/x", Size: 1 << 40},
		"a tag with a digest of ../x": {Typeflag: tar.TypeReg, Name: tagFile("a", "v1", "").name, Size: 3},
		"a tag that is large":         {Typeflag: tar.TypeReg, Name: tagFile("a", "v1", "").name, Size: 1 << 30},
		"a list that is large":        {Typeflag: tar.TypeReg, Name: "appliance-archive.json", Size: 1 << 40},
		"a first entry that is large": {Typeflag: tar.TypeReg, Name: "appliance-chunk.json", Size: 1 << 40},
	} {
		var b bytes.Buffer
		if err := tar.NewWriter(&b).WriteHeader(h); err != nil {
			t.Fatal(name, err)
		}
		b.Write(make([]byte, 4096)) // content, and an end
		all[name] = b.Bytes()
	}
	return all
}

// Spec: oc-mirror 8.5.
func TestOpen_tricksAreRefused(t *testing.T) {
	for name, data := range tricks(t) {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			must(t, os.WriteFile(filepath.Join(dir, "mirror_000001.tar"), data, 0o644))
			if a, err := archive.Open(t.Context(), dir); err == nil {
				t.Error("it is opened", a.Close())
			}
		})
	}
}

func FuzzOpen(f *testing.F) {
	for _, data := range tricks(f) {
		f.Add(data)
	}
	b := &workbench{T: &testing.T{}, dir: f.TempDir()}
	i := newImage([]byte("layer"))
	w, err := archive.Create(f.Context(), archive.Options{Dir: b.dir})
	if err != nil {
		f.Fatal(err)
	}
	if err := w.PutManifest(f.Context(), "a", i.manifest, i.body); err != nil {
		f.Fatal(err)
	}
	if err := w.Tag(f.Context(), map[string]map[string]digest.Digest{"a": {"v1": i.manifest.Digest}}); err != nil {
		f.Fatal(err)
	}
	if err := w.Commit(f.Context()); err != nil {
		f.Fatal(err)
	}
	whole, err := os.ReadFile(filepath.Join(b.dir, "mirror_000001.tar"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(sparse)
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		must(t, os.WriteFile(filepath.Join(dir, "mirror_000001.tar"), data, 0o644))
		if _, err := archive.Describe(t.Context(), dir); err != nil {
			t.Errorf("describe: %v", err)
		}
		a, err := archive.Open(t.Context(), dir)
		if err != nil {
			return
		}
		defer a.Close()
		r := a.Repository("a", "a")
		_, _, _ = r.Manifest(t.Context(), "v1")
		_, _ = a.Read("x")
		if body, _, err := r.Blob(t.Context(), i.layer.Digest); err == nil {
			if data, err := io.ReadAll(body); err == nil && digest.FromBytes(data) != i.layer.Digest {
				t.Error("another blob is read")
			}
		}
	})
}

// sparse is a PAX header of a file of 1 TB that has no data.
var sparse = func() []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	record := "22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n38 GNU.sparse.realsize=1099511627776\n"
	_ = w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "pax", Size: int64(len(record))})
	_, _ = io.WriteString(w, record)
	_ = w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "working-dir/x", Size: 512})
	_, _ = io.WriteString(w, "1\n0\n1\n"+strings.Repeat("\x00", 506))
	_ = w.Close()
	data := b.Bytes()
	data[156] = 'x' // the type of the first header
	sum := 0
	copy(data[148:156], "        ")
	for _, c := range data[:512] {
		sum += int(c)
	}
	copy(data[148:156], []byte{byte('0' + sum>>15&7), byte('0' + sum>>12&7), byte('0' + sum>>9&7), byte('0' + sum>>6&7), byte('0' + sum>>3&7), byte('0' + sum&7), 0, ' '})
	return data
}()

func TestOpen_sparseFilesAreRefused(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "mirror_000001.tar"), sparse, 0o644))
	_, err := archive.Open(t.Context(), dir)
	if err == nil || !strings.Contains(err.Error(), "sparse") {
		t.Errorf("error %v", err)
	}
}
