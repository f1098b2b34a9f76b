package archive_test

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/mirror/archive"
)

// file is an entry of a tar that a test makes.
type file struct{ name, data string }

// writeTar writes a chunk as oc-mirror does.
func writeTar(t *testing.T, path string, files ...file) {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		must(t, w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: f.name, Size: int64(len(f.data)), Mode: 0o644}))
		_, err := io.WriteString(w, f.data)
		must(t, err)
	}
	must(t, w.Close())
	must(t, os.WriteFile(path, b.Bytes(), 0o644))
}

// readTar returns the entries of a chunk.
func readTar(t *testing.T, path string) (files []file) {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if err == io.EOF {
			return files
		}
		must(t, err)
		data, err := io.ReadAll(r)
		must(t, err)
		files = append(files, file{h.Name, string(data)})
	}
}

// names returns the names of the entries that contain part.
func names(files []file, part string) (found []string) {
	for _, f := range files {
		if strings.Contains(f.name, part) {
			found = append(found, f.name)
		}
	}
	return found
}

func blobFile(d digest.Digest, data []byte) file {
	return file{"docker/registry/v2/blobs/" + d.Algorithm().String() + "/" + d.Encoded()[:2] + "/" + d.Encoded() + "/data", string(data)}
}

func tagFile(repo, tag string, d digest.Digest) file {
	return file{"docker/registry/v2/repositories/" + repo + "/_manifests/tags/" + tag + "/current/link", d.String()}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// clock is a time that goes on with each question, so that histories have names of their own.
type clock struct{ time.Time }

func (c *clock) now() time.Time {
	c.Time = c.Add(time.Second)
	return c.Time
}

// workbench is a directory with archives, written by one writer after the other.
type workbench struct {
	*testing.T
	dir    string
	clock  clock
	writer *archive.Writer
}

func newWorkbench(t *testing.T) *workbench {
	b := &workbench{T: t, dir: t.TempDir(), clock: clock{time.Date(2026, 11, 20, 22, 58, 33, 0, time.UTC)}}
	t.Cleanup(b.close)
	return b
}

func (b *workbench) close() {
	if b.writer != nil {
		must(b.T, b.writer.Close())
		b.writer = nil
	}
}

func (b *workbench) create(ctx context.Context, change ...func(*archive.Options)) (*archive.Writer, error) {
	b.close()
	o := archive.Options{Dir: b.dir, Now: b.clock.now, Version: "v1.2.3", ImageSet: []byte("kind: ImageSetConfiguration\n")}
	for _, c := range change {
		c(&o)
	}
	w, err := archive.Create(ctx, o)
	b.writer = w
	return w, err
}

func (b *workbench) begin(change ...func(*archive.Options)) *archive.Writer {
	b.Helper()
	w, err := b.create(b.Context(), change...)
	must(b.T, err)
	return w
}

func smallChunks(o *archive.Options) { o.ChunkSize = 64 << 10 }

// image is an image of one layer.
type image struct {
	config, layer ocispec.Descriptor
	content       []byte
	manifest      ocispec.Descriptor
	body          []byte
}

func newImage(content []byte) image {
	i := image{content: content}
	i.config = describe(ocispec.MediaTypeImageConfig, []byte("{}"))
	i.layer = describe(ocispec.MediaTypeImageLayerGzip, content)
	i.body = fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,"digest":%q,"size":%d},"layers":[{"mediaType":%q,"digest":%q,"size":%d}]}`,
		ocispec.MediaTypeImageManifest, i.config.MediaType, i.config.Digest, i.config.Size, i.layer.MediaType, i.layer.Digest, i.layer.Size)
	i.manifest = describe(ocispec.MediaTypeImageManifest, i.body)
	return i
}

func describe(mediaType string, data []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
}

// put puts what the archive lacks of an image, and tags it.
func (b *workbench) put(repo, tag string, i image) {
	b.Helper()
	for _, blob := range []struct {
		desc ocispec.Descriptor
		data []byte
	}{{i.config, []byte("{}")}, {i.layer, i.content}} {
		if b.held(blob.desc.Digest) {
			continue
		}
		must(b.T, b.writer.PutBlob(b.Context(), repo, blob.desc, bytes.NewReader(blob.data)))
	}
	must(b.T, b.writer.PutManifest(b.Context(), repo, i.manifest, i.body))
	must(b.T, b.writer.Tag(b.Context(), map[string]map[string]digest.Digest{repo: {tag: i.manifest.Digest}}))
}

func (b *workbench) held(d digest.Digest) bool {
	b.Helper()
	blobs, _, _, err := b.writer.Existing(b.Context(), map[string][]digest.Digest{"any": {d}}, nil)
	must(b.T, err)
	return len(blobs["any"]) == 1
}

func (b *workbench) commit() {
	b.Helper()
	must(b.T, b.writer.Commit(b.Context()))
	b.close()
}

// chunks lists the chunks in the directory.
func (b *workbench) chunks() []string {
	b.Helper()
	found, err := filepath.Glob(filepath.Join(b.dir, "mirror_*.tar"))
	must(b.T, err)
	return found
}

// all returns the entries of all chunks.
func (b *workbench) all() (files []file) {
	b.Helper()
	for _, c := range b.chunks() {
		files = append(files, readTar(b.T, c)...)
	}
	return files
}

func (b *workbench) open(dirs ...string) *archive.Archive {
	b.Helper()
	if dirs == nil {
		dirs = []string{b.dir}
	}
	a, err := archive.Open(b.Context(), dirs...)
	must(b.T, err)
	b.Cleanup(func() { must(b.T, a.Close()) })
	return a
}

// noise returns content that is not like other content.
func noise(seed byte, n int) []byte {
	data := make([]byte, n)
	x := uint32(seed) + 1
	for i := range data {
		x = x*1664525 + 1013904223
		data[i] = byte(x >> 24)
	}
	return data
}

// leftovers lists the files of the directory that are neither chunks nor the workspace.
func (b *workbench) leftovers() []string {
	b.Helper()
	entries, err := os.ReadDir(b.dir)
	must(b.T, err)
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return slices.DeleteFunc(all, func(n string) bool { return n == "working-dir" || strings.HasPrefix(n, "mirror_") })
}

// verify reads a blob to its end.
func verify(r *archive.Repository, d digest.Digest) error {
	body, _, err := r.Blob(context.Background(), d)
	if err != nil {
		return err
	}
	defer body.Close()
	_, err = io.Copy(io.Discard, body)
	return err
}
