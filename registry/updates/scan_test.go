package updates

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/mirror/graphdata"
	"github.com/mirror-appliance/appliance/mirror/layers"
	"github.com/mirror-appliance/appliance/registry/store"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestService_pass_whatIsNotWhole has a release of which pull-through has brought the manifest alone. It is
// looked at again soon, is a release as soon as its layers are here, and meanwhile if another repository
// has all of it.
func TestService_pass_whatIsNotWhole(t *testing.T) {
	for _, how := range []string{"the layers arrive", "another repository has it"} {
		t.Run(how, func(t *testing.T) {
			dir := t.TempDir()
			s, err := store.Open(t.Context(), store.Options{Database: filepath.Join(dir, "db"), Storage: filepath.Join(dir, "storage")})
			must(t, err)
			defer func() { must(t, s.Close()) }()
			body, blobs := release(t, "4.18.1")
			_, err = s.Manifests.PutPulled(t.Context(), "a/ocp-release", body, store.PutOptions{MediaType: ocispec.MediaTypeImageManifest})
			must(t, err)
			service := New(Options{Store: s, Registry: "registry.test", Log: slog.New(slog.DiscardHandler)})
			if wait, k := service.pass(t.Context()), service.Known(); wait != soon || len(k.Releases) != 0 || len(k.Problems) != 1 {
				t.Errorf("without layers it waits %s and has %+v", wait, k)
			}
			want := "a/ocp-release"
			if how == "the layers arrive" {
				for _, b := range blobs {
					pull(t, s, want, b)
				}
			} else {
				want = "z/ocp-release:v1"
				put(t, s, "z/ocp-release", body, blobs)
			}
			if wait, k := service.pass(t.Context()), service.Known(); wait != again || len(k.Problems) != 0 || len(k.Releases) != 1 || k.Places[k.Releases[0].Digest] != want {
				t.Errorf("when it is whole it waits %s and has %+v", wait, k)
			}
		})
	}
}

// release makes an image of a release, and its configuration and layer.
func release(t *testing.T, version string) (manifest []byte, blobs [][]byte) {
	t.Helper()
	text := `{"kind":"cincinnati-metadata-v0","version":"` + version + `"}`
	var layer bytes.Buffer
	z := gzip.NewWriter(&layer)
	must(t, layers.Write(z, []layers.NewFile{{Name: graphdata.MetadataFile, Size: int64(len(text)),
		Write: func(w io.Writer) error { _, err := io.WriteString(w, text); return err }}}))
	must(t, z.Close())
	blobs = [][]byte{[]byte(`{"architecture":"amd64","os":"linux"}`), layer.Bytes()}
	describe := func(mediaType string, b []byte) ocispec.Descriptor {
		return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
	}
	manifest, err := json.Marshal(ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: describe(ocispec.MediaTypeImageConfig, blobs[0]), Layers: []ocispec.Descriptor{describe(ocispec.MediaTypeImageLayerGzip, blobs[1])}})
	must(t, err)
	return manifest, blobs
}

// pull brings a blob as pull-through does.
func pull(t *testing.T, s *store.Store, repo string, b []byte) {
	t.Helper()
	u, err := s.Uploads.NewPulled(t.Context(), repo, int64(len(b)), func(int) {})
	must(t, err)
	_, err = u.ReadFrom(bytes.NewReader(b))
	must(t, err)
	_, err = u.Commit(t.Context(), digest.FromBytes(b))
	must(t, err)
}

// put brings an image as a run does.
func put(t *testing.T, s *store.Store, repo string, body []byte, blobs [][]byte) {
	t.Helper()
	run, err := s.Runs.Begin(context.WithoutCancel(t.Context()), "run")
	must(t, err)
	for _, b := range blobs {
		must(t, run.PutBlob(t.Context(), repo, ocispec.Descriptor{Digest: digest.FromBytes(b), Size: int64(len(b))}, strings.NewReader(string(b))))
	}
	d := digest.FromBytes(body)
	must(t, run.PutManifest(t.Context(), repo, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: d, Size: int64(len(body))}, body))
	must(t, run.Tag(t.Context(), map[string]map[string]digest.Digest{repo: {"v1": d}}))
	must(t, run.Commit(t.Context()))
}
