package archive_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror/archive"
)

func inventoryOf(t *testing.T, ds ...digest.Digest) []byte {
	t.Helper()
	var b bytes.Buffer
	w := archive.NewInventoryWriter(&b, time.Date(2026, 11, 20, 22, 58, 33, 0, time.UTC))
	for _, d := range ds {
		w.Blob(d)
	}
	w.Tag("team/app", "v1", digest.FromString("m"))
	must(t, w.Close())
	return b.Bytes()
}

func TestWriter_leavesOutWhatAnInventoryHas(t *testing.T) {
	b := newWorkbench(t)
	there, archived := newImage([]byte("there")), newImage([]byte("archived"))
	b.begin()
	b.put("team/app", "v1", archived)
	b.commit() // and lost on its way
	path := filepath.Join(t.TempDir(), "inventory")
	must(t, os.WriteFile(path, inventoryOf(t, there.layer.Digest), 0o644))
	have, err := archive.ReadInventory(path)
	must(t, err)
	b.begin(func(o *archive.Options) { o.Have = have })
	b.put("team/app", "v1", archived)
	b.put("team/app", "v2", there)
	b.commit()
	files := b.all()
	if n := len(names(files, blobFile(there.layer.Digest, nil).name)); n != 0 {
		t.Error("what the far side has is carried")
	}
	if n := len(names(files, blobFile(archived.layer.Digest, nil).name)); n != 1 {
		t.Error("what was lost on the way is left out")
	}
	d, err := archive.Describe(t.Context(), b.dir)
	must(t, err)
	if on := d.Archives[0].BuildsOn; on == nil || !strings.HasPrefix(on.Inventory, "sha256:") || on.Created.IsZero() {
		t.Errorf("it builds on %+v", on)
	}
	b.begin()
	if !b.held(there.layer.Digest) || !b.held(archived.layer.Digest) {
		t.Error("the history lacks what the far side has now")
	}
}

func TestReadInventory_damaged(t *testing.T) {
	whole := inventoryOf(t, digest.FromString("a"), digest.FromString("b"))
	path := filepath.Join(t.TempDir(), "inventory")
	read := func(data []byte) error {
		must(t, os.WriteFile(path, data, 0o644))
		_, err := archive.ReadInventory(path)
		return err
	}
	must(t, read(whole))
	for n := 0; n < len(whole); n += 3 {
		if read(whole[:n]) == nil {
			t.Errorf("the first %d bytes of %d are taken", n, len(whole))
		}
		changed := bytes.Clone(whole)
		changed[n] ^= 1
		if read(changed) == nil {
			t.Errorf("a change of byte %d of %d is not noticed", n, len(whole))
		}
	}
	for name, data := range map[string][]byte{
		"something behind it": append(bytes.Clone(whole), "blob x\n"...),
		"twice":               append(bytes.Clone(whole), whole...),
		"a line without end":  bytes.Repeat([]byte("x"), 1<<20),
		"lines without one":   bytes.ReplaceAll(whole, []byte("\n"), nil),
		"nothing":             nil,
		"another file":        []byte("kind: ImageSetConfiguration\n"),
		"another version":     bytes.Replace(whole, []byte("inventory 1"), []byte("inventory 2"), 1),
	} {
		if err := read(data); err == nil || hint.Of(err) == "" || len(err.Error()) > 500 {
			t.Errorf("%s: error %v", name, err)
		}
	}
}
