package catalog_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/cmd/sample-upstream/sample"
	"github.com/mirror-appliance/appliance/mirror/catalog"
	"github.com/mirror-appliance/appliance/mirror/ocilayout"
	"github.com/mirror-appliance/appliance/mirror/upstream"
)

// samples returns the catalog of the sample upstream, over HTTP.
func samples(t *testing.T, repository string) catalog.Source {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	content, err := sample.New(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server.Config.Handler = content.Handler()
	server.Start()
	t.Cleanup(server.Close)
	registries := upstream.NewRegistries(func(registry string) (upstream.Options, error) {
		return upstream.Options{Registry: registry, PlainHTTP: true}, nil
	})
	t.Cleanup(registries.Close)
	source, err := registries.Repository(server.Listener.Addr().String(), repository)
	if err != nil {
		t.Fatal(err)
	}
	return source
}

// layout builds images in an OCI layout.
type layout struct {
	t   *testing.T
	dir string
}

func newLayout(t *testing.T) *layout {
	l := &layout{t, t.TempDir()}
	if err := os.MkdirAll(filepath.Join(l.dir, "blobs", "sha256"), 0o755); err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *layout) add(mediaType string, data []byte) ocispec.Descriptor {
	d := digest.FromBytes(data)
	if err := os.WriteFile(filepath.Join(l.dir, "blobs", "sha256", d.Encoded()), data, 0o600); err != nil {
		l.t.Fatal(err)
	}
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(data))}
}

func (l *layout) json(mediaType string, v any) ocispec.Descriptor {
	data, err := json.Marshal(v)
	if err != nil {
		l.t.Fatal(err)
	}
	return l.add(mediaType, data)
}

// layer returns the tar of files; a name that ends with a slash is a directory.
func layer(t *testing.T, files ...string) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, f := range files {
		name, text, _ := strings.Cut(f, "=")
		h := &tar.Header{Name: name, Size: int64(len(text)), Mode: 0o640, Typeflag: tar.TypeReg}
		for prefix, kind := range map[string]byte{"link:": tar.TypeSymlink, "hard:": tar.TypeLink} {
			if to, ok := strings.CutPrefix(text, prefix); ok {
				h.Typeflag, h.Linkname, h.Size, text = kind, to, 0, ""
			}
		}
		if strings.HasSuffix(name, "/") {
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, text)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// image adds an image with layers.
func (l *layout) image(arch string, run ocispec.ImageConfig, tars ...[]byte) ocispec.Descriptor {
	config := ocispec.Image{Platform: ocispec.Platform{OS: "linux", Architecture: arch}, Config: run}
	config.RootFS.Type = "layers"
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Annotations: map[string]string{"kept": "yes"}}
	config.History = append(config.History, ocispec.History{CreatedBy: "FROM", EmptyLayer: true})
	for n, data := range tars {
		var out bytes.Buffer
		z, _ := gzip.NewWriterLevel(&out, gzip.BestSpeed) // unlike ours
		z.Write(data)
		z.Close()
		m.Layers = append(m.Layers, l.add(ocispec.MediaTypeImageLayerGzip, out.Bytes()))
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, digest.FromBytes(data))
		config.History = append(config.History, ocispec.History{CreatedBy: "step " + string(rune('0'+n))}, ocispec.History{CreatedBy: "ENV", EmptyLayer: true})
	}
	m.Config = l.json(ocispec.MediaTypeImageConfig, config)
	desc := l.json(ocispec.MediaTypeImageManifest, m)
	desc.Platform = &config.Platform
	return desc
}

func (l *layout) index(members ...ocispec.Descriptor) ocispec.Descriptor {
	return l.json(ocispec.MediaTypeImageIndex, ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex,
		Manifests: members, Annotations: map[string]string{"kept": "yes"}})
}

// open opens the layout with its root.
func (l *layout) open(root ocispec.Descriptor) *ocilayout.Layout {
	l.t.Helper()
	body, err := json.Marshal(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, Manifests: []ocispec.Descriptor{root}})
	err = errors.Join(err, os.WriteFile(filepath.Join(l.dir, "index.json"), body, 0o600))
	if err != nil {
		l.t.Fatal(err)
	}
	opened, err := ocilayout.Open(l.dir)
	if err != nil {
		l.t.Fatal(err)
	}
	return opened
}

func labelled(cmd ...string) ocispec.ImageConfig {
	return ocispec.ImageConfig{Cmd: cmd, Entrypoint: []string{"/bin/opm"}, Labels: map[string]string{configs: "/configs", "vendor": "x"}}
}

const configs = "operators.operatorframework.io.index.configs.v1"

func blob(t *testing.T, s catalog.Source, d digest.Digest) []byte {
	t.Helper()
	body, _, err := s.Blob(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	data, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// unpack returns the files of an image as containerd unpacks it, with a filter on entries as
// catalogd has: only those of its directory, and so no whiteout that is beside it.
func unpack(t *testing.T, s catalog.Source, m ocispec.Manifest, below string) map[string]string {
	t.Helper()
	files := map[string]string{}
	for _, l := range m.Layers {
		z, err := gzip.NewReader(bytes.NewReader(blob(t, s, l.Digest)))
		if err != nil {
			t.Fatal(err)
		}
		brought := map[string]string{}
		for r := tar.NewReader(z); ; {
			h, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			name := path.Clean(h.Name)
			if below != "" && name != below && !strings.HasPrefix(name, below+"/") {
				continue
			}
			dir, base := path.Split(name)
			if hidden, ok := strings.CutPrefix(base, ".wh."); ok {
				t.Logf("whiteout %s", name)
				maps.DeleteFunc(files, func(f, _ string) bool {
					return hidden == ".wh..opq" && strings.HasPrefix(f, dir) || f == dir+hidden || strings.HasPrefix(f, dir+hidden+"/")
				})
				continue
			}
			if h.Typeflag == tar.TypeReg {
				data, err := io.ReadAll(r)
				if err != nil {
					t.Fatal(err)
				}
				brought[name] = string(data)
			}
		}
		maps.Copy(files, brought)
	}
	return files
}

func names(files map[string]string) string { return strings.Join(slices.Sorted(maps.Keys(files)), " ") }

func unzip(t *testing.T, data []byte) []byte {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
