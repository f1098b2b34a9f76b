package medium

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"slices"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/mirror"
)

// Repository has the files at a registry: each is an artifact whose tag is the file's name. So they
// are verified, backed up, scrubbed and deleted as images are. An appliance serves them at /files/.
const Repository = image.FilesRepository

// artifact is the type of such an artifact.
const artifact = "application/vnd.mirror-appliance.file.v1"

// Send puts the files of a medium into a run, and commits it. What is there already is not sent.
func (m *Medium) Send(ctx context.Context, to mirror.Destination, tell func(File)) error {
	tags := map[string]digest.Digest{}
	for _, f := range m.Files {
		tell(f)
		d, err := f.send(ctx, to)
		if err != nil {
			return err
		}
		tags[f.Name] = d
	}
	if err := to.Tag(ctx, map[string]map[string]digest.Digest{Repository: tags}); err != nil {
		return err
	}
	return to.Commit(ctx)
}

// Missing returns the bytes of the files that a destination lacks.
func (m *Medium) Missing(ctx context.Context, at mirror.Destination) (need int64, err error) {
	var all []digest.Digest
	for _, f := range m.Files {
		all = append(all, digest.NewDigestFromEncoded(digest.SHA256, f.SHA256))
	}
	have, _, _, err := at.Existing(ctx, map[string][]digest.Digest{Repository: all}, nil)
	if err != nil {
		return 0, err
	}
	for n, f := range m.Files {
		if !slices.Contains(have[Repository], all[n]) {
			need += f.Size
		}
	}
	return need, nil
}

func (f File) send(ctx context.Context, to mirror.Destination) (digest.Digest, error) {
	layer := ocispec.Descriptor{MediaType: "application/octet-stream", Digest: digest.NewDigestFromEncoded(digest.SHA256, f.SHA256), Size: f.Size,
		Annotations: map[string]string{ocispec.AnnotationTitle: f.Name}}
	empty := ocispec.DescriptorEmptyJSON
	have, _, _, err := to.Existing(ctx, map[string][]digest.Digest{Repository: {layer.Digest, empty.Digest}}, nil)
	if err != nil {
		return "", err
	}
	exists := map[digest.Digest]bool{}
	for _, d := range have[Repository] {
		exists[d] = true
	}
	if !exists[empty.Digest] {
		if err := to.PutBlob(ctx, Repository, empty, bytes.NewReader(empty.Data)); err != nil {
			return "", err
		}
	}
	if !exists[layer.Digest] {
		if err := f.put(ctx, to, layer); err != nil {
			return "", err
		}
	}
	empty.Data = nil
	body, err := json.Marshal(ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		ArtifactType: artifact, Config: empty, Layers: []ocispec.Descriptor{layer}})
	if err != nil {
		return "", err
	}
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(body), Size: int64(len(body))}
	return desc.Digest, to.PutManifest(ctx, Repository, desc, body)
}

// put sends the pieces as one blob.
func (f File) put(ctx context.Context, to mirror.Destination, layer ocispec.Descriptor) (err error) {
	var all []io.Reader
	for _, at := range f.Pieces {
		one, err := os.Open(at)
		if err != nil {
			return err
		}
		defer one.Close()
		all = append(all, one)
	}
	if len(all) == 0 {
		return errors.New(f.Name + " has no pieces")
	}
	return to.PutBlob(ctx, Repository, layer, io.MultiReader(all...))
}
