package layers

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
)

// image is the layers of an image, by digest.
type image map[digest.Digest][]byte

func (i image) Blob(_ context.Context, d digest.Digest) (io.ReadCloser, int64, error) {
	return io.NopCloser(bytes.NewReader(i[d])), int64(len(i[d])), nil
}

// entry is an entry of a layer: a file, or a directory if the name ends with a slash, or a link.
type entry struct {
	name, text string
	kind       byte
}

func pack(t *testing.T, compression string, entries ...entry) []byte {
	t.Helper()
	var out bytes.Buffer
	var w io.WriteCloser = struct {
		io.Writer
		io.Closer
	}{&out, io.NopCloser(nil)}
	switch compression {
	case "gzip":
		w = gzip.NewWriter(&out)
	case "zstd":
		w, _ = zstd.NewWriter(&out)
	}
	tw := tar.NewWriter(w)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Typeflag: e.kind, Mode: 0o7777, Uid: 12345}
		switch {
		case e.kind == tar.TypeLink || e.kind == tar.TypeSymlink:
			h.Linkname = e.text
		case strings.HasSuffix(e.name, "/"):
			h.Typeflag = tar.TypeDir
		case e.kind == 0:
			h.Typeflag, h.Size = tar.TypeReg, int64(len(e.text))
		}
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			io.WriteString(tw, e.text)
		}
	}
	if err := errors.Join(tw.Close(), w.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// extract extracts configs and returns its files and what they have; links have their target.
func extract(t *testing.T, dir string, layers ...[]entry) (map[string]string, error) {
	t.Helper()
	at := t.TempDir()
	root, err := os.OpenRoot(at)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	all, names := image{}, []digest.Digest{}
	for n, l := range layers {
		data := pack(t, []string{"gzip", "zstd", ""}[n%3], l...)
		names = append(names, digest.FromBytes(data))
		all[names[n]] = data
	}
	if err := Extract(t.Context(), all, names, dir, root, func() error { return nil }); err != nil {
		return nil, err
	}
	files := map[string]string{}
	err = fs.WalkDir(root.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		switch {
		case e.IsDir():
			files[name] = "/"
			if info.Mode().Perm() != 0o755 {
				t.Errorf("%s has mode %s", name, info.Mode())
			}
			return nil
		case e.Type() == fs.ModeSymlink:
			to, err := root.Readlink(name)
			files[name] = "-> " + to
			return err
		}
		if info.Mode() != 0o644 {
			t.Errorf("%s has mode %s", name, info.Mode())
		}
		data, err := root.ReadFile(name)
		files[name] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files, nil
}

type files = map[string]string

func TestExtract(t *testing.T) {
	base := []entry{{name: "configs/"}, {name: "configs/a/"}, {"configs/a/x", "1", 0}, {"configs/a/y", "2", 0}, {"configs/b", "3", 0}, {"etc/x", "4", 0}}
	for name, tc := range map[string]struct {
		layers [][]entry
		want   files
	}{
		"one layer":                          {[][]entry{base}, files{"a": "/", "a/x": "1", "a/y": "2", "b": "3"}},
		"names with a dot or a slash":        {[][]entry{{{"./configs/a", "1", 0}, {"/configs/b", "2", 0}, {"//configs/./c", "3", 0}}}, files{"a": "1", "b": "2", "c": "3"}},
		"no such directory":                  {[][]entry{{{"configsx/a", "1", 0}, {"a/configs/b", "1", 0}}}, files{}},
		"a file is written anew":             {[][]entry{base, {{"configs/a/x", "new", 0}}}, files{"a": "/", "a/x": "new", "a/y": "2", "b": "3"}},
		"a file twice in a layer":            {[][]entry{{{"configs/a", "1", 0}, {"configs/a", "2", 0}}}, files{"a": "2"}},
		"a whiteout of a file":               {[][]entry{base, {{"configs/a/.wh.x", "", 0}}}, files{"a": "/", "a/y": "2", "b": "3"}},
		"a whiteout of a directory":          {[][]entry{base, {{"configs/.wh.a", "", 0}}}, files{"b": "3"}},
		"a whiteout of nothing":              {[][]entry{base, {{"configs/z/.wh.a", "", 0}, {"configs/b/.wh.x", "", 0}}}, files{"a": "/", "a/x": "1", "a/y": "2", "b": "3"}},
		"a whiteout of all":                  {[][]entry{base, {{".wh.configs", "", 0}, {"configs/n", "5", 0}}}, files{"n": "5"}},
		"a whiteout of all, after":           {[][]entry{base, {{"configs/n", "5", 0}, {".wh.configs", "", 0}}}, files{"n": "5"}},
		"an opaque directory":                {[][]entry{base, {{"configs/a/.wh..wh..opq", "", 0}, {"configs/a/n", "5", 0}}}, files{"a": "/", "a/n": "5", "b": "3"}},
		"an opaque directory, after":         {[][]entry{base, {{"configs/a/n", "5", 0}, {"configs/a/.wh..wh..opq", "", 0}}}, files{"a": "/", "a/n": "5", "b": "3"}},
		"an opaque root":                     {[][]entry{base, {{".wh..wh..opq", "", 0}}}, files{}},
		"whiteouts of another file system":   {[][]entry{base, {{"configs/.wh..wh.plnk", "", 0}, {"configs/.wh..wh.orph/", "", 0}}}, files{"a": "/", "a/x": "1", "a/y": "2", "b": "3"}},
		"a file in the place of a directory": {[][]entry{base, {{"configs/a", "5", 0}}}, files{"a": "5", "b": "3"}},
		"a directory in the place of a file": {[][]entry{base, {{name: "configs/b/"}, {"configs/b/n", "5", 0}}}, files{"a": "/", "a/x": "1", "a/y": "2", "b": "/", "b/n": "5"}},
		"a directory that is not named":      {[][]entry{base, {{"configs/b/c/n", "5", 0}}}, files{"a": "/", "a/x": "1", "a/y": "2", "b": "/", "b/c": "/", "b/c/n": "5"}},
		"a file in the place of all":         {[][]entry{base, {{"configs", "5", 0}}}, files{}},
		"and a directory again":              {[][]entry{base, {{"configs", "5", 0}}, {{"configs/n", "6", 0}}}, files{"n": "6"}},
		"hard links":                         {[][]entry{base, {{"configs/n", "configs/a/x", tar.TypeLink}, {"configs/m", "/configs/n", tar.TypeLink}}}, files{"a": "/", "a/x": "1", "a/y": "2", "b": "3", "n": "1", "m": "1"}},
		"a hard link is a copy":              {[][]entry{base, {{"configs/n", "configs/b", tar.TypeLink}}, {{"configs/b", "new", 0}}}, files{"a": "/", "a/x": "1", "a/y": "2", "b": "new", "n": "3"}},
		"symbolic links":                     {[][]entry{{{"configs/a/n", "../b", tar.TypeSymlink}, {"configs/a/b/m", "/configs/a/x/", tar.TypeSymlink}}}, files{"a": "/", "a/b": "/", "a/n": "-> ../b", "a/b/m": "-> ../../a/x"}},
		"a directory in the place of a link": {[][]entry{{{"configs/a", "b", tar.TypeSymlink}}, {{"configs/a/n", "5", 0}}}, files{"a": "/", "a/n": "5"}},
		"a file in the place of a link":      {[][]entry{{{"configs/b", "1", 0}, {"configs/a", "b", tar.TypeSymlink}}, {{"configs/a", "5", 0}}}, files{"a": "5", "b": "1"}},
		"a device takes the place of a file": {[][]entry{base, {{"configs/b", "", tar.TypeChar}, {"configs/a/y", "", tar.TypeFifo}}}, files{"a": "/", "a/x": "1"}},
		"a link that becomes a directory":    {[][]entry{{{"configs", "etc", tar.TypeSymlink}}, {{name: "configs/"}, {"configs/n", "5", 0}}}, files{"n": "5"}},
		"links outside are of no interest":   {[][]entry{{{"etc/a", "../../..", tar.TypeSymlink}, {"configs/n", "5", 0}}}, files{"n": "5"}},
		"a layer without an entry":           {[][]entry{base, nil}, files{"a": "/", "a/x": "1", "a/y": "2", "b": "3"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := extract(t, "/configs/", tc.layers...)
			if err != nil || !maps.Equal(got, tc.want) {
				t.Errorf("got %v, %v; want %v", got, err, tc.want)
			}
		})
	}
}

func TestExtract_refused(t *testing.T) {
	for name, tc := range map[string]struct {
		e    entry
		want string
	}{
		"a name that leads out":         {entry{"../x", "1", 0}, `entry "../x": the name leads out`},
		"a name that leads up":          {entry{"configs/../../x", "1", 0}, "the name leads out"},
		"a long name":                   {entry{strings.Repeat("x/", 3000), "", tar.TypeDir}, "the name has 6000 bytes"},
		"a whiteout of no file":         {entry{"configs/.wh.", "", 0}, "a whiteout of no file"},
		"a whiteout of all above":       {entry{"configs/.wh...", "", 0}, "a whiteout of no file"},
		"a link to a file elsewhere":    {entry{"configs/n", "../etc/x", tar.TypeSymlink}, "leads out of configs"},
		"a link to an absolute path":    {entry{"configs/n", "/etc/passwd", tar.TypeSymlink}, "leads out of configs"},
		"a link through another":        {entry{"configs/n", "a/../../x", tar.TypeSymlink}, "leads out of configs"},
		"a link through one inside":     {entry{"configs/n", "a/../x", tar.TypeSymlink}, "leads out of configs"},
		"a hard link to a file outside": {entry{"configs/n", "etc/x", tar.TypeLink}, "which is outside of configs"},
		"a hard link that leads out":    {entry{"configs/n", "../x", tar.TypeLink}, "the name leads out"},
		"a hard link to nothing":        {entry{"configs/n", "configs/none", tar.TypeLink}, "no such file"},
		"a hard link to a directory":    {entry{"configs/n", "configs/d", tar.TypeLink}, "which is not a file"},
		"a directory that is a link":    {entry{"configs", "etc", tar.TypeSymlink}, "configs is a symbolic link to etc"},
		"a directory below such a link": {entry{".", "etc", tar.TypeSymlink}, ". is a symbolic link to etc"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := extract(t, "configs", []entry{{name: "configs/d/"}, tc.e})
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "sha256:") && !strings.Contains(tc.want, "is a symbolic") {
				t.Errorf("error %v, want %s", err, tc.want)
			}
		})
	}
}

func TestExtract_limits(t *testing.T) {
	was := limits
	defer func() { limits = was }()
	for name, tc := range map[string]struct {
		set  func()
		want string
	}{
		"entries":          {func() { limits.entries = 2 }, "more than 2 entries"},
		"bytes":            {func() { limits.bytes = 1 << 10 }, "more than 1024 bytes"},
		"extracted files":  {func() { limits.files = 2 }, "configs has more than 2 entries"},
		"extracted bytes":  {func() { limits.extracted = 1000 }, "configs has more than 1000 bytes"},
		"and none of that": {func() {}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			limits = was
			tc.set()
			_, err := extract(t, "configs", []entry{{"configs/a", strings.Repeat("x", 900), 0}, {"configs/b", strings.Repeat("x", 900), 0}, {name: "configs/c/"}})
			if tc.want == "" && err == nil {
				return
			}
			if tc.want == "" || err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want %s", err, tc.want)
			}
		})
	}
}

// TestExtract_room has a small layer that unpacks to much, in one file and in many.
func TestExtract_room(t *testing.T) {
	full := errors.New("full")
	many := []entry{}
	for n := range 5000 {
		many = append(many, entry{name: fmt.Sprintf("configs/%d/", n)})
	}
	for name, entries := range map[string][]entry{"one": {{"configs/a", strings.Repeat(" ", 50<<20), 0}}, "many": many} {
		layer := pack(t, "gzip", entries...)
		root, err := os.OpenRoot(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		asked := 0
		err = Extract(t.Context(), image{"sha256:a": layer}, []digest.Digest{"sha256:a"}, "configs", root, func() error {
			if asked++; asked == 3 {
				return full
			}
			return nil
		})
		if !errors.Is(err, full) {
			t.Errorf("%s: error %v after %d", name, err, asked)
		}
		if info, err := root.Stat("a"); err == nil && info.Size() > 4<<20 {
			t.Errorf("%d bytes were written", info.Size())
		}
		if all, err := fs.ReadDir(root.FS(), "."); err != nil || len(all) > 1000 {
			t.Errorf("%d directories were made, %v", len(all), err)
		}
		_ = root.Close()
	}
}

func TestRead_brokenLayers(t *testing.T) {
	lie := errors.New("other bytes than the digest says")
	for _, compression := range []string{"", "gzip", "zstd"} {
		whole := pack(t, compression, entry{"a", strings.Repeat("x", 1<<16), 0})
		none := func(Entry, io.Reader) error { return nil }
		if err := Read(bytes.NewReader(whole[:len(whole)/2]), none); err == nil {
			t.Errorf("%q: a layer that breaks off is read", compression)
		}
		if err := Read(io.MultiReader(bytes.NewReader(whole), &failing{lie}), none); !errors.Is(err, lie) {
			t.Errorf("%q: error %v", compression, err)
		}
		if err := Read(bytes.NewReader(whole), func(Entry, io.Reader) error { return lie }); !errors.Is(err, lie) {
			t.Errorf("%q: error %v", compression, err)
		}
	}
}

type failing struct{ err error }

func (f *failing) Read([]byte) (int, error) { return 0, f.err }
