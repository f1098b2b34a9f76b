package catalog_test

import (
	"encoding/json"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/cmd/sample-upstream/sample"
	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/mirror/catalog"
	"github.com/mirror-appliance/appliance/mirror/layers"
	"github.com/mirror-appliance/appliance/mirror/rebuild"
)

func decode[T any](t *testing.T, data []byte) (v T) {
	t.Helper()
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// filtered writes the files of a filtered catalog.
func filtered(w io.Writer) error {
	var files []layers.NewFile
	for _, name := range []string{"z-operator", "a-operator"} {
		text := `{"schema":"olm.package","name":"` + name + `"}`
		files = append(files, layers.NewFile{Name: "/configs/" + name + "/catalog.json", Size: int64(len(text)),
			Write: func(w io.Writer) error { _, err := io.WriteString(w, text); return err }})
	}
	return layers.Write(w, files)
}

const kept = "configs/a-operator/catalog.json configs/z-operator/catalog.json"

func remake(t *testing.T, source catalog.Source, ref string) *rebuild.Image {
	t.Helper()
	c, err := catalog.Find(t.Context(), source, ref)
	if err != nil {
		t.Fatal(err)
	}
	i, err := c.Rebuild(t.Context(), filepath.Join(t.TempDir(), "made"), "v1", filtered)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// images returns the images of a root, after checks that all of it is whole.
func images(t *testing.T, i *rebuild.Image, ref string) (all []ocispec.Manifest) {
	t.Helper()
	desc, body, err := i.Manifest(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	if image.IsIndex(desc.MediaType) {
		for _, m := range decode[ocispec.Index](t, body).Manifests {
			all = append(all, images(t, i, m.Digest.String())...)
		}
		return all
	}
	m := decode[ocispec.Manifest](t, body)
	config := decode[ocispec.Image](t, blob(t, i, m.Config.Digest))
	if !slices.Equal(config.Config.Cmd, []string{"serve", "/configs"}) || config.Config.Labels[configs] != "/configs" {
		t.Errorf("configuration %+v", config.Config)
	}
	steps := slices.DeleteFunc(config.History, func(h ocispec.History) bool { return h.EmptyLayer })
	if len(config.RootFS.DiffIDs) != len(m.Layers) || len(steps) != 0 && len(steps) != len(m.Layers) {
		t.Fatalf("%d layers, %d diff IDs, %d steps of history", len(m.Layers), len(config.RootFS.DiffIDs), len(steps))
	}
	for n, l := range m.Layers {
		data := blob(t, i, l.Digest)
		if size, err := i.Stat(t.Context(), l.Digest); err != nil || size != l.Size || int64(len(data)) != l.Size {
			t.Errorf("layer %d has %d bytes, %d are stated, %v", n, len(data), size, err)
		}
		if d := digest.FromBytes(unzip(t, data)); d != config.RootFS.DiffIDs[n] {
			t.Errorf("layer %d unpacks to %s, and the configuration says %s", n, d, config.RootFS.DiffIDs[n])
		}
	}
	return append(all, m)
}

func TestRebuild_catalogOfARegistry(t *testing.T) {
	source := samples(t, sample.CatalogRepository)
	desc, _, err := source.Manifest(t.Context(), sample.CatalogTag)
	if err != nil {
		t.Fatal(err)
	}
	i := remake(t, source, sample.CatalogTag)
	made, _, err := i.Manifest(t.Context(), "v1")
	if err != nil || made.MediaType != desc.MediaType || made.Digest == desc.Digest {
		t.Errorf("%+v of %+v, %v", made, desc, err)
	}
	all := images(t, i, "v1")
	if len(all) != 2 {
		t.Fatalf("%d images", len(all))
	}
	for _, m := range all {
		if m.MediaType != image.MediaTypeDockerManifest || !strings.HasPrefix(m.Layers[len(m.Layers)-1].MediaType, "application/vnd.docker.") {
			t.Errorf("types %s, %+v", m.MediaType, m.Layers)
		}
		if got := names(unpack(t, i, m, "configs")); got != kept {
			t.Errorf("catalogd sees %s", got)
		}
	}
	for range 2 {
		if again := remake(t, source, sample.CatalogTag); again.Root != i.Root {
			t.Errorf("made again, it is %s and not %s", again.Root, i.Root)
		}
	}
}

func TestRebuild_takesOldFilesOut(t *testing.T) {
	l := newLayout(t)
	binary := layer(t, "bin/", "bin/opm=opm", "tmp/")
	both := layer(t, "etc/=", "etc/nsswitch=x", "configs/", "configs/old/catalog.json=1", "tmp/cache/digest=2")
	old := layer(t, "configs/", "configs/older/catalog.json=1", "configs/.wh.old=")
	cache := layer(t, "tmp/cache/", "tmp/cache/x=3", "tmp/.wh.cache=", "tmp/other=4")
	beside := layer(t, "configs.d/x=5", "tmp/cache2=6")
	run := labelled("serve", "/configs", "--cache-dir=/tmp/cache")
	amd := l.image("amd64", run, binary, both, old, cache, beside)
	arm := l.image("arm64", labelled("serve", "/configs", "--cache-dir", "/var/cache/"), layer(t, "bin/opm=arm"), both, old, layer(t, "var/cache/x=1"))
	source := l.open(l.index(amd, arm))
	i := remake(t, source, "")
	all := images(t, i, "v1")
	_, body, _ := source.Manifest(t.Context(), amd.Digest.String())
	before := decode[ocispec.Manifest](t, body)
	if got := len(all[0].Layers); got != 5 { // without the one that was only catalog, with the new one
		t.Errorf("%d layers", got)
	}
	if all[0].Layers[0].Digest != before.Layers[0].Digest || all[0].Layers[3].Digest != before.Layers[4].Digest {
		t.Error("a layer without the catalog was changed")
	}
	if all[0].Layers[1].Digest != all[1].Layers[1].Digest {
		t.Error("a layer of two platforms was changed twice")
	}
	if all[0].Annotations["kept"] != "yes" {
		t.Errorf("annotations %v", all[0].Annotations)
	}
	want := "bin/opm configs.d/x " + kept + " etc/nsswitch tmp/cache2 tmp/other"
	if got := names(unpack(t, i, all[0], "")); got != want {
		t.Errorf("amd64 has %s", got)
	}
	if got := names(unpack(t, i, all[1], "")); got != "bin/opm "+kept+" etc/nsswitch" {
		t.Errorf("arm64 has %s", got)
	}
	for _, m := range all {
		for _, l := range m.Layers {
			if strings.Contains(string(unzip(t, blob(t, i, l.Digest))), ".wh.") {
				t.Errorf("layer %s has a whiteout", l.Digest)
			}
		}
	}
	if again := remake(t, source, ""); again.Root != i.Root {
		t.Errorf("made again, it is %s and not %s", again.Root, i.Root)
	}
}

func TestRebuild_isOpenedAgainWithoutTheBase(t *testing.T) {
	l := newLayout(t)
	source := l.open(l.image("amd64", labelled(), layer(t, "bin/opm=opm"), layer(t, "configs/a=1", "etc/x=1")))
	c, err := catalog.Find(t.Context(), source, "")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "made")
	if _, err := rebuild.Open(source, dir, "v1"); err == nil {
		t.Error("opened before it was made")
	}
	i, err := c.Rebuild(t.Context(), dir, "v1", filtered)
	if err != nil {
		t.Fatal(err)
	}
	asked := &counting{Source: source}
	again, err := rebuild.Open(asked, dir, "v1")
	if err != nil || again.Root != i.Root {
		t.Fatalf("%v, %v", again, err)
	}
	images(t, again, "v1")
	if asked.blobs != 1 {
		t.Errorf("%d blobs of the base were read, and one has not changed", asked.blobs)
	}
	if _, err := c.Rebuild(t.Context(), dir, "v1", func(io.Writer) error { return errBroken }); err == nil {
		t.Error("a layer that cannot be written is no error")
	}
	if again, err := rebuild.Open(source, dir, "v1"); err != nil || again.Root != i.Root {
		t.Errorf("after a failed attempt: %v", err)
	}
	if files, _ := filepath.Glob(dir + "*"); len(files) != 1 {
		t.Errorf("left over: %v", files)
	}
}

func TestRebuild_emptiesACacheThatIsTmp(t *testing.T) {
	l := newLayout(t)
	source := l.open(l.image("amd64", labelled("serve", "--cache-dir=/tmp"), layer(t, "tmp/", "tmp/x=1", "configs/a=1")))
	i := remake(t, source, "")
	m := images(t, i, "v1")[0]
	if first := string(unzip(t, blob(t, i, m.Layers[0].Digest))); !strings.HasPrefix(first, "tmp/\x00") || strings.Contains(first, "tmp/x") {
		t.Error("the directory is gone, or its files are not")
	}
}

func TestBare_plainDirectory(t *testing.T) {
	c, err := catalog.Bare()
	if err != nil {
		t.Fatal(err)
	}
	i, err := c.Rebuild(t.Context(), filepath.Join(t.TempDir(), "made"), "v1", filtered)
	if err != nil {
		t.Fatal(err)
	}
	all := images(t, i, "v1")
	if got := names(unpack(t, i, all[0], "configs")); len(all) != 1 || got != kept {
		t.Errorf("%d images, catalogd sees %s", len(all), got)
	}
}
