package catalog_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/cmd/sample-upstream/sample"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror/catalog"
)

// breaking is a source whose blobs break off.
type breaking struct {
	catalog.Source
	broken map[digest.Digest]bool // nil: all of them
}

var errBroken = errors.New("broken")

func (b breaking) Blob(ctx context.Context, d digest.Digest) (io.ReadCloser, int64, error) {
	if b.broken != nil && !b.broken[d] {
		return b.Source.Blob(ctx, d)
	}
	return nil, 0, errBroken
}

func walk(t *testing.T, dir string) string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			rel, _ := filepath.Rel(dir, name)
			files[rel] = ""
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names(files)
}

func TestExtract_catalogOfARegistry(t *testing.T) {
	source := samples(t, sample.CatalogRepository)
	c, err := catalog.Find(t.Context(), source, sample.CatalogTag)
	if err != nil || c.Directory != "/configs" {
		t.Fatalf("found %+v, %v", c, err)
	}
	parent := t.TempDir()
	dir, err := c.Extract(t.Context(), parent)
	if err != nil {
		t.Fatal(err)
	}
	files := walk(t, dir)
	if !strings.Contains(files, "/catalog.json") || strings.Contains(files, "retired") || strings.Contains(files, ".wh.") {
		t.Errorf("files %s", files)
	}
	asked := &counting{Source: source}
	again, err := catalog.Find(t.Context(), asked, c.Digest.String())
	if err != nil {
		t.Fatal(err)
	}
	before := asked.blobs
	if at, err := again.Extract(t.Context(), parent); err != nil || at != dir || asked.blobs != before {
		t.Errorf("the second time: %s, %v, %d blobs were read", at, err, asked.blobs-before)
	}
}

// counting counts what is read of a source.
type counting struct {
	catalog.Source
	blobs int
}

func (c *counting) Blob(ctx context.Context, d digest.Digest) (io.ReadCloser, int64, error) {
	c.blobs++
	return c.Source.Blob(ctx, d)
}

func TestExtract_anInterruptedOneIsDoneAgain(t *testing.T) {
	l := newLayout(t)
	source := l.open(l.image("amd64", labelled(), layer(t, "configs/a=1"), layer(t, "configs/b=2")))
	_, body, err := source.Manifest(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	var top digest.Digest
	m := decode[ocispec.Manifest](t, body)
	top = m.Layers[1].Digest
	parent := t.TempDir()
	c, err := catalog.Find(t.Context(), breaking{source, map[digest.Digest]bool{top: true}}, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Extract(t.Context(), parent); !errors.Is(err, errBroken) || !strings.Contains(err.Error(), c.Digest.String()) || !strings.Contains(err.Error(), top.String()) {
		t.Errorf("error %v", err)
	}
	left := filepath.Join(parent, c.Digest.Encoded(), "catalog-files.next")
	if err := os.MkdirAll(filepath.Join(left, "of", "a", "kill"), 0o755); err != nil {
		t.Fatal(err)
	}
	if c, err = catalog.Find(t.Context(), source, ""); err != nil {
		t.Fatal(err)
	}
	dir, err := c.Extract(t.Context(), parent)
	if err != nil || walk(t, dir) != "a b" {
		t.Errorf("files %s, %v", walk(t, dir), err)
	}
}

// Spec: oc-mirror 5.1.
func TestFind_whichImageIsRead(t *testing.T) {
	l := newLayout(t)
	plain := l.image("s390x", ocispec.ImageConfig{}, layer(t, "etc/x=1"))
	first := l.image("amd64", labelled(), layer(t, "configs/first=1"))
	second := l.image("arm64", labelled(), layer(t, "configs/second=1"))
	attestation := l.image("unknown", labelled(), layer(t, "configs/attestation=1"))
	attestation.Platform = &ocispec.Platform{OS: "unknown", Architecture: "unknown"}
	nested := l.index(attestation, plain, first, second)
	nested.Platform = nil
	for range 4 {
		nested = l.index(nested)
	}
	c, err := catalog.Find(t.Context(), l.open(nested), "")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := c.Extract(t.Context(), t.TempDir())
	if err != nil || walk(t, dir) != "first" {
		t.Errorf("files %s, %v", walk(t, dir), err)
	}
	if c.Digest != nested.Digest {
		t.Errorf("the catalog's digest is %s and not the one of the index", c.Digest)
	}
}

func TestFind_refused(t *testing.T) {
	l := newLayout(t)
	deep := l.image("amd64", labelled(), layer(t, "configs/a=1"))
	for range 6 {
		deep = l.index(deep)
	}
	other := labelled()
	other.Labels = map[string]string{configs: "/other"}
	root := labelled()
	root.Labels = map[string]string{configs: "//"}
	database := ocispec.ImageConfig{Labels: map[string]string{"operators.operatorframework.io.index.database.v1": "/database/index.db"}}
	for name, tc := range map[string]struct {
		root       ocispec.Descriptor
		want, hint string
	}{
		"an SQLite catalog":         {l.index(l.image("amd64", database, layer(t, "database/index.db=x"))), "is an SQLite catalog", "file-based"},
		"no catalog":                {l.image("amd64", ocispec.ImageConfig{}, layer(t, "etc/x=1")), "has no label " + configs, "additionalImages"},
		"indexes in indexes":        {deep, "nested deeper than 5", ""},
		"two directories":           {l.index(l.image("amd64", labelled(), layer(t, "configs/a=1")), l.image("arm64", other, layer(t, "other/a=1"))), "in /other, and in /configs", "in one directory"},
		"the root of the image":     {l.image("amd64", root, layer(t, "a=1")), "names the root", "opm generate dockerfile"},
		"a label and no files":      {l.image("amd64", labelled(), layer(t, "etc/x=1")), "its directory /configs has no files", "opm render"},
		"a link in its place":       {l.image("amd64", labelled(), layer(t, "etc/a=1", "configs=link:etc")), "configs is a symbolic link to etc", "copied, not linked"},
		"a link that leads out":     {l.image("amd64", labelled(), layer(t, "configs/a=link:/etc/a")), "leads out of configs", "copied, not linked"},
		"a hard link from outside":  {l.image("amd64", labelled(), layer(t, "etc/a=1", "configs/a=hard:etc/a")), "outside of configs", "copied, not linked"},
		"a hard link to no file":    {l.image("amd64", labelled(), layer(t, "configs/b=link:c", "configs/a=hard:configs/b")), "which is not a file", "copied, not linked"},
		"an entry that leads out":   {l.image("amd64", labelled(), layer(t, "configs/../../x=1")), `entry "configs/../../x"`, "must not have .."},
		"a configuration that lies": {l.json(ocispec.MediaTypeImageManifest, map[string]any{"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageManifest, "config": l.add(ocispec.MediaTypeImageConfig, []byte("x")), "layers": []int{}}), "read its configuration", ""},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := catalog.Find(t.Context(), l.open(tc.root), "")
			if err == nil {
				_, err = c.Extract(t.Context(), t.TempDir())
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(hint.Of(err), tc.hint) {
				t.Errorf("error %v (%s), want %s", err, hint.Of(err), tc.want)
			}
		})
	}
}
