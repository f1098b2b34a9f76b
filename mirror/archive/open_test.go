package archive_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror/archive"
)

// severalChunks writes an archive of at least three chunks, and returns its images.
func severalChunks(t *testing.T) (*workbench, []image) {
	t.Helper()
	b := newWorkbench(t)
	b.begin(smallChunks)
	var all []image
	for n := range 5 {
		i := newImage(noise(byte(n), 30<<10))
		all = append(all, i)
		b.put("team/app", fmt.Sprint("v", n), i)
	}
	b.commit()
	if len(b.chunks()) < 3 {
		t.Fatalf("only %v", b.chunks())
	}
	return b, all
}

// Spec: oc-mirror 8.5.
func TestOpen_namesWhatIsWrong(t *testing.T) {
	for _, tc := range []struct {
		name   string
		damage func(t *testing.T, b *workbench)
		says   []string
	}{
		{"a chunk is missing", func(t *testing.T, b *workbench) { must(t, os.Remove(b.chunks()[1])) }, []string{"1 of 3 chunks are missing: mirror_000002.tar"}},
		{"the last chunk is missing", func(t *testing.T, b *workbench) { must(t, os.Remove(b.chunks()[2])) }, []string{"missing: mirror_000003.tar"}},
		{"a chunk is cut off within an entry", func(t *testing.T, b *workbench) {
			change(t, b.chunks()[0], func(d []byte) []byte { return d[:20<<10] })
		}, []string{"mirror_000001.tar is damaged", "cut off"}},
		{"a chunk is cut off between entries", func(t *testing.T, b *workbench) {
			change(t, b.chunks()[0], func(d []byte) []byte { return d[:1024] })
		}, []string{"mirror_000001.tar is damaged", "cut off"}},
		{"a chunk is empty", func(t *testing.T, b *workbench) {
			change(t, b.chunks()[1], func([]byte) []byte { return nil })
		}, []string{"empty archive file", "mirror_000002.tar"}},
		{"a chunk is something else", func(t *testing.T, b *workbench) {
			change(t, b.chunks()[1], func(d []byte) []byte { return noise(1, len(d)) })
		}, []string{"mirror_000002.tar is damaged"}},
		{"a header has another size", func(t *testing.T, b *workbench) {
			change(t, b.chunks()[1], func(d []byte) []byte { d[1024+130] ^= 1; return d })
		}, []string{"mirror_000002.tar is damaged"}},
		{"a chunk of another archive", func(t *testing.T, b *workbench) {
			other, _ := severalChunks(t)
			data, err := os.ReadFile(other.chunks()[1])
			must(t, err)
			must(t, os.WriteFile(b.chunks()[1], data, 0o644))
		}, []string{"mirror_000002.tar", "missing", "of another archive"}},
		{"a chunk of oc-mirror's", func(t *testing.T, b *workbench) {
			writeTar(t, filepath.Join(b.dir, "mirror_000004.tar"), file{"working-dir/x", "x"})
		}, []string{"mirror_000004.tar is of another archive"}},
		{"an entry is written again behind the others", func(t *testing.T, b *workbench) {
			appendEntry(t, b.chunks()[0], blobFile(digest.FromString("x"), []byte("x")), blobFile(digest.FromString("x"), []byte("x")))
		}, []string{"mirror_000001.tar is damaged", "has already"}},
		{"an entry is added", func(t *testing.T, b *workbench) {
			appendEntry(t, b.chunks()[0], file{"working-dir/hold-release/x", "x"})
		}, []string{"is damaged", "entries that its list of contents does not name"}},
		{"an entry has another size than the list says", func(t *testing.T, b *workbench) {
			change(t, b.chunks()[2], func(d []byte) []byte {
				return bytes.Replace(d, []byte(`"size":30720,"chunk"`), []byte(`"size":30721,"chunk"`), 1)
			})
		}, []string{"is damaged", "has 30720 bytes and not 30721"}},
		{"the list of contents is damaged", func(t *testing.T, b *workbench) {
			change(t, b.chunks()[2], func(d []byte) []byte {
				return bytes.Replace(d, []byte(`{"format":1,"archive"`), []byte(`{"format":1,"archiv}`), 2)
			})
		}, []string{"mirror_000003.tar is damaged", "appliance-"}},
		{"the format is of a later version", func(t *testing.T, b *workbench) {
			change(t, b.chunks()[0], func(d []byte) []byte { return bytes.Replace(d, []byte(`"format":1`), []byte(`"format":7`), 1) })
		}, []string{"mirror_000001.tar has format 7", "use a newer one"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b, _ := severalChunks(t)
			tc.damage(t, b)
			a, err := archive.Open(t.Context(), b.dir)
			if err == nil {
				t.Fatal("it is opened", a.Close())
			}
			for _, part := range tc.says {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("it is said that %v, want %q", err, part)
				}
			}
			if hint.Of(err) == "" {
				t.Error("there is no hint")
			}
		})
	}
}

// appendEntry writes entries in the place of a chunk's end.
func appendEntry(t *testing.T, path string, files ...file) {
	t.Helper()
	other := filepath.Join(t.TempDir(), "x.tar")
	writeTar(t, other, files...)
	more, err := os.ReadFile(other)
	must(t, err)
	change(t, path, func(d []byte) []byte { return append(d[:len(d)-1024], more...) })
}

// Spec: oc-mirror 8.5.
func TestOpen_directoriesWithoutAnArchive(t *testing.T) {
	dir := t.TempDir()
	for _, tc := range []struct {
		name string
		make func(t *testing.T)
		path string
		says string
	}{
		{"there is none", func(*testing.T) {}, dir + "/none", "no such file"},
		{"it has none", func(*testing.T) {}, dir, `no tar archives matching "mirror_[0-9]{6}\\.tar" found in`},
		{"one that is being written", func(t *testing.T) { must(t, os.WriteFile(dir+"/"+partial, nil, 0o644)) }, dir, "no tar archives"},
		{"a pipe", func(t *testing.T) { must(t, syscall.Mkfifo(dir+"/mirror_000001.tar", 0o600)) }, dir, "is not a file"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.make(t)
			if _, err := archive.Open(t.Context(), tc.path); err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("error %v, want %q", err, tc.says)
			}
		})
	}
}

func TestOpen_severalDirectoriesInAnyOrder(t *testing.T) {
	b, all := severalChunks(t)
	other := t.TempDir()
	must(t, os.Rename(b.chunks()[0], filepath.Join(other, "mirror_000001.tar")))
	for _, dirs := range [][]string{{b.dir, other}, {other, b.dir}, {other, b.dir, other}} {
		a := b.open(dirs...)
		for n, i := range all {
			desc, _, err := a.Repository("team/app", "team/app").Manifest(t.Context(), fmt.Sprint("v", n))
			if err != nil || desc.Digest != i.manifest.Digest {
				t.Errorf("%s, %v", desc.Digest, err)
			}
			if err := verify(a.Repository("x", "x"), i.layer.Digest); err != nil {
				t.Error(err)
			}
		}
	}
}

// moved moves the chunks to a directory of their own, as to a medium.
func (b *workbench) moved() string {
	b.Helper()
	to := b.TempDir()
	for _, c := range b.chunks() {
		must(b.T, os.Rename(c, filepath.Join(to, filepath.Base(c))))
	}
	return to
}

func TestOpen_archivesThatBuildOnEachOther(t *testing.T) {
	b := newWorkbench(t)
	first, second, third := newImage([]byte("first")), newImage([]byte("second")), newImage([]byte("third"))
	var media []string
	for n, images := range [][]image{{first}, {first, second}, {first, second, third}} {
		b.begin()
		for _, i := range images {
			b.put("team/app", "latest", i)
		}
		b.commit()
		media = append(media, b.moved())
		if n == 0 {
			continue
		}
		a := b.open(media[n])
		r := a.Repository("team/app", "team/app")
		if _, _, err := r.Manifest(t.Context(), "latest"); err != nil {
			t.Fatal(err)
		}
		_, _, err := r.Manifest(t.Context(), first.manifest.Digest.String())
		if n > 0 && !errors.Is(err, fs.ErrNotExist) {
			t.Logf("%d: %v", n, err)
		}
	}
	t.Run("all together", func(t *testing.T) {
		a := b.open(media[2], media[0], media[1])
		r := a.Repository("team/app", "team/app")
		desc, _, err := r.Manifest(t.Context(), "latest")
		if err != nil || desc.Digest != third.manifest.Digest {
			t.Errorf("the newest does not win: %s, %v", desc.Digest, err)
		}
		for _, i := range []image{first, second, third} {
			if err := verify(r, i.layer.Digest); err != nil {
				t.Error(err)
			}
		}
	})
	t.Run("one between them is missing", func(t *testing.T) {
		_, err := archive.Open(t.Context(), media[0], media[2])
		if err == nil || !strings.Contains(err.Error(), media[2]+"/mirror_000001.tar is out of sequence") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("what is left out is told apart from what is unknown", func(t *testing.T) {
		a := b.open(media[2])
		r := a.Repository("team/app", "team/app")
		_, _, err := r.Manifest(t.Context(), "latest")
		must(t, err)
		if size, err := r.Stat(t.Context(), third.config.Digest); err != nil || size != 2 {
			t.Errorf("a config that is left out: %d, %v", size, err)
		}
		_, _, err = r.Blob(t.Context(), third.config.Digest)
		if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "builds on the archive before it, number 2") || !strings.Contains(hint.Of(err), "--have") {
			t.Errorf("error %v, %s", err, hint.Of(err))
		}
	})
}

// Whatever byte changes, it is told when the archive is opened or when the content is read.
func TestOpen_changedBytesAreNoticed(t *testing.T) {
	b := newWorkbench(t)
	must(t, os.MkdirAll(filepath.Join(b.dir, "working-dir/signatures"), 0o755))
	must(t, os.WriteFile(filepath.Join(b.dir, "working-dir/signatures/s"), []byte("signature"), 0o644))
	b.begin()
	i := newImage(noise(1, 700))
	b.put("team/app", "v1", i)
	b.commit()
	path := b.chunks()[0]
	whole, err := os.ReadFile(path)
	must(t, err)
	harmless := padding(t, whole)
	for at := range whole {
		if at%29 != 0 || harmless[at] {
			continue
		}
		broken := bytes.Clone(whole)
		broken[at] ^= 4
		must(t, os.WriteFile(path, broken, 0o644))
		if err := readAll(t, b.dir, i); err == nil {
			t.Errorf("byte %d of %d: %q", at, len(whole), whole[max(at-10, 0):min(at+10, len(whole))])
		}
	}
}

// padding marks what has no meaning: what fills blocks, and our two lists, whose fields are checked
// as far as they matter.
func padding(t *testing.T, data []byte) map[int]bool {
	harmless := map[int]bool{}
	file := bytes.NewReader(data)
	for r := tar.NewReader(file); ; {
		h, err := r.Next()
		if err != nil {
			return harmless
		}
		at := len(data) - file.Len()
		harmless[at-512+155] = true // the space behind the header's checksum
		end := at + int(h.Size)
		if strings.HasPrefix(h.Name, "appliance-") || strings.HasPrefix(h.Name, "isc_") || strings.Contains(h.Name, "_layers") || strings.Contains(h.Name, "revisions") || strings.HasSuffix(h.Name, "version.json") {
			end = at
		}
		for n := end; n < at+(int(h.Size)+511)/512*512; n++ {
			harmless[n] = true
		}
	}
}

func readAll(t *testing.T, dir string, i image) error {
	a, err := archive.Open(t.Context(), dir)
	if err != nil {
		return err
	}
	defer a.Close()
	r := a.Repository("team/app", "team/app")
	if _, _, err := r.Manifest(t.Context(), "v1"); err != nil {
		return err
	}
	for _, d := range []digest.Digest{i.config.Digest, i.layer.Digest} {
		if err := verify(r, d); err != nil {
			return err
		}
	}
	_, err = a.Read("signatures/s")
	return err
}
