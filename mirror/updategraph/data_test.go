package updategraph_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/mirror/graphdata"
	"github.com/mirror-appliance/appliance/mirror/updategraph"
)

// entry is a file of an archive.
type entry struct {
	name, text string
	kind       byte
}

func data(t *testing.T, at time.Time, entries ...entry) []byte {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	w := tar.NewWriter(z)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Typeflag: e.kind, Mode: 0o600, Uid: 7, Size: int64(len(e.text)), ModTime: at}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.text); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func file(name, text string) entry { return entry{name, text, tar.TypeReg} }

// Spec: oc-mirror 4.9.
func TestDataLayer(t *testing.T) {
	dir := entry{"./channels/", "", tar.TypeDir}
	link := entry{"link", "", tar.TypeSymlink}
	one, err := updategraph.DataLayer(data(t, time.Unix(1, 0), dir, file("./channels/a.yaml", "a"), file("version", ""), file("../../x", "x"), link))
	if err != nil {
		t.Fatal(err)
	}
	other, err := updategraph.DataLayer(data(t, time.Unix(2, 0), file("x", "x"), file("version", ""), file("channels/a.yaml", "a")))
	if err != nil || !bytes.Equal(one, other) {
		t.Errorf("the same files give another layer, %v", err)
	}
	files := map[string]string{}
	for r := tar.NewReader(bytes.NewReader(one)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil || h.Uid != 0 || h.Gid != 0 || h.ModTime.Unix() != 0 {
			t.Errorf("%s: owner %d:%d, time %v, %v", h.Name, h.Uid, h.Gid, h.ModTime, err)
		}
		files[h.Name] = string(text)
	}
	const at = "var/lib/cincinnati-graph-data/"
	want := map[string]string{"var/": "", "var/lib/": "", at: "", at + "channels/": "", at + "channels/a.yaml": "a", at + "version": "", at + "x": "x"}
	if !maps.Equal(files, want) {
		t.Errorf("the layer has %v, want %v", slices.Sorted(maps.Keys(files)), slices.Sorted(maps.Keys(want)))
	}
}

// TestDataLayer_emptyDirectory keeps a directory that an update service demands.
func TestDataLayer_emptyDirectory(t *testing.T) {
	dir := func(name string) entry { return entry{name, "", tar.TypeDir} }
	one, err := updategraph.DataLayer(data(t, time.Unix(1, 0), dir("g/"), dir("g/blocked-edges/"), dir("g/channels/"), file("g/channels/a.yaml", "a")))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for r := tar.NewReader(bytes.NewReader(one)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
	const at = "var/lib/cincinnati-graph-data/"
	if want := []string{"var/", "var/lib/", at, at + "g/", at + "g/blocked-edges/", at + "g/channels/", at + "g/channels/a.yaml"}; !slices.Equal(names, want) {
		t.Errorf("the layer has %q", names)
	}
}

func TestDataLayer_refuses(t *testing.T) {
	good := data(t, time.Unix(1, 0), file("version", "1"))
	for name, raw := range map[string][]byte{
		"what is not gzip":                     []byte("<html>"),
		"what breaks off":                      good[:len(good)/2],
		"an empty archive":                     data(t, time.Unix(1, 0)),
		"a file as a directory":                data(t, time.Unix(1, 0), file("a", "1"), file("a/b", "2")),
		"a directory as a file":                data(t, time.Unix(1, 0), entry{"channels/", "", tar.TypeDir}, file("channels", "1")),
		"what an update service does not read": data(t, time.Unix(1, 0), file("version", "1"), file("channels/a.yaml", strings.Repeat("a", graphdata.MaxArchiveBytes))),
		"a file without a name":                data(t, time.Unix(1, 0), file("..", "1")),
	} {
		if _, err := updategraph.DataLayer(raw); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}
