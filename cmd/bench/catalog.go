package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	catalogRepo  = "bench/catalog"
	catalogLabel = "operators.operatorframework.io.index.configs.v1"
)

// mirrorLarge has the programs mirror one operator of the large catalog to disk, and this appliance's another one then.
func (b *bench) mirrorLarge(ctx context.Context) (_ []row, err error) {
	programs, err := b.mirrorers()
	if err != nil || len(programs) == 0 || programs[0].name != subjectName {
		return nil, err
	}
	from, err := openBenchSource(b.site)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, from.close()) }()
	if err := from.addCatalog(); err != nil {
		return nil, err
	}
	took, memory := series{}, series{}
	mirror := func(program mirrorer, name, packageName string) error {
		if err := b.prepareMirrors(from.operatorSet(packageName)); err != nil {
			return err
		}
		r, err := program.run(ctx, "file://"+b.site.path("archive"))
		took.add(name, r.took.Seconds())
		memory.add(name, float64(r.memory)/(1<<20))
		return err
	}
	const again = "again"
	for _, program := range programs {
		name := program.name
		if name == ocMirrorProgram {
			name = probeName
		}
		if err := mirror(program, name, "package-000"); err != nil {
			return nil, err
		}
		if program.name == subjectName {
			if err := mirror(program, again, "package-001"); err != nil {
				return nil, err
			}
		}
		if err := errors.Join(b.site.remove("archive"), b.site.remove("cache")); err != nil {
			return nil, err
		}
	}
	rows := []row{took.row("one operator of it, mirrored to disk", "s"), memory.row("one operator of it, mirrored to disk: memory", "MiB")}
	for i := range rows {
		if rows[i] = rows[i].atMost(1); rows[i].Probe == 0 {
			rows[i].Verdict = absent
		}
		rows[i].Note = "the probe is oc-mirror"
	}
	return append(rows, row{What: "another operator of it then", Unit: "s", Value: took[again][0]}), nil
}

// operatorSet is the configuration of a mirror of the head of one package.
func (s *source) operatorSet(packageName string) string {
	return fmt.Sprintf("kind: ImageSetConfiguration\napiVersion: mirror.openshift.io/v2alpha1\nmirror:\n  operators:\n"+
		"  - catalog: %s/%s:v1\n    packages:\n    - name: %s\n", s.listener.Addr(), catalogRepo, packageName)
}

// addCatalog adds the image of the large catalog, and those that its bundles are made of.
func (s *source) addCatalog() error {
	images := map[string]string{}
	for _, name := range largeImages() {
		i, err := newImage(name, 1, smallSize)
		if err != nil {
			return err
		}
		if err := s.add("bench/"+name, i); err != nil {
			return err
		}
		images[name] = fmt.Sprintf("%s/bench/%s@%s", s.listener.Addr(), name, i.digest)
	}
	i, err := catalogImage(newLargeCatalog(func(name string) string { return images[name] }))
	if err != nil {
		return err
	}
	return s.add(catalogRepo, i)
}

// catalogImage makes an image with the files of a catalog in its one layer.
func catalogImage(c *largeCatalog) (image, error) {
	var layer bytes.Buffer
	compressed, err := gzip.NewWriterLevel(&layer, gzip.BestSpeed)
	if err != nil {
		return image{}, err
	}
	plain := digest.Canonical.Digester()
	if err := errors.Join(c.writeTar(io.MultiWriter(compressed, plain.Hash())), compressed.Close()); err != nil {
		return image{}, err
	}
	config, err := json.Marshal(ocispec.Image{
		Platform: ocispec.Platform{Architecture: "amd64", OS: "linux"},
		Config:   ocispec.ImageConfig{Labels: map[string]string{catalogLabel: "/configs"}},
		RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{plain.Digest()}},
	})
	if err != nil {
		return image{}, err
	}
	describe := func(mediaType string, content []byte) ocispec.Descriptor {
		return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(content), Size: int64(len(content))}
	}
	m, err := json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: describe(ocispec.MediaTypeImageConfig, config),
		Layers: []ocispec.Descriptor{describe(ocispec.MediaTypeImageLayerGzip, layer.Bytes())},
	})
	return image{digest: digest.FromBytes(m), manifest: m, blobs: [][]byte{config, layer.Bytes()}}, err
}

// writeTar writes a layer with the catalog in /configs.
func (c *largeCatalog) writeTar(w io.Writer) error {
	t := tar.NewWriter(w)
	for i := range largePackages {
		name := fmt.Sprintf("package-%03d", i)
		var file bytes.Buffer
		if _, err := io.Copy(&file, io.MultiReader(c.pack(name)...)); err != nil {
			return err
		}
		if err := t.WriteHeader(&tar.Header{Name: "configs/" + name + "/catalog.json", Mode: 0o644, Size: int64(file.Len())}); err != nil {
			return err
		}
		if _, err := t.Write(file.Bytes()); err != nil {
			return err
		}
	}
	return t.Close()
}
