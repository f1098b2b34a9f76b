package mirror

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror/graphdata"
	"github.com/mirror-appliance/appliance/mirror/updategraph"
)

// Where an archive of graph data is put. It is not the name of the graph image that a run makes: that
// one is started by the operator of OpenShift's update service, and this one has no program.
const (
	loadedGraphRepository = "openshift/graph-data"
	loadedGraphTag        = "loaded"
)

// LoadedGraph is graph data that was put at a destination.
type LoadedGraph struct {
	Image    string              `json:"image"` // repository:tag
	Digest   digest.Digest       `json:"digest"`
	Version  string              `json:"version"` // of its schema
	Channels int                 `json:"channels"`
	Problems []graphdata.Problem `json:"problems"`
}

// LoadGraphData puts an archive of graph data, as update services and the repository of the vendor hand
// it out, at a destination, as an image with nothing else. An archive that an update service could
// not use is refused before begin is called, and so is one of which a part has no effect, unless it is
// forced: an update that it blocks would be offered. The same archive makes the same image. Without
// begin, nothing is put anywhere.
func LoadGraphData(ctx context.Context, archive []byte, force bool, begin func(ctx context.Context, name string) (Destination, error)) (*LoadedGraph, error) {
	files, err := updategraph.ReadData(archive)
	if err != nil {
		return nil, hint.New(err, "an archive is wanted as https://api.openshift.com/api/upgrades_info/graph-data gives it, a .tar.gz")
	}
	data, err := graphdata.Read(graphdata.Files(files).Select())
	if err != nil {
		return nil, hint.New(fmt.Errorf("graph data: %w", err), "an archive is wanted as https://api.openshift.com/api/upgrades_info/graph-data gives it")
	}
	if n := len(data.Problems); n > 0 && !force {
		first := data.Problems[0]
		return nil, hint.New(fmt.Errorf("graph data: parts without effect: %d, the first is %s: %s", n, first.Where, first.What),
			"fetch it again; --force loads it without them: updates that they block are offered then, and channels that they are do not exist")
	}
	image, err := graphImageOf(archive)
	if err != nil {
		return nil, err
	}
	loaded := &LoadedGraph{loadedGraphRepository + ":" + loadedGraphTag, image.manifest.Digest, data.Version, data.Channels(), data.Problems}
	if loaded.Problems == nil {
		loaded.Problems = []graphdata.Problem{}
	}
	if begin == nil {
		return loaded, nil
	}
	dst, err := begin(ctx, "graph data")
	if err != nil {
		return nil, err
	}
	if err := image.put(ctx, dst); err != nil {
		return nil, errors.Join(err, dst.Abort(context.WithoutCancel(ctx)))
	}
	return loaded, nil
}

// smallImage is an image in memory.
type smallImage struct {
	manifest ocispec.Descriptor
	body     []byte
	blobs    []ocispec.Descriptor // with Data
}

// graphImageOf makes an image with graph data in one layer.
func graphImageOf(archive []byte) (*smallImage, error) {
	layer, err := updategraph.DataLayer(archive)
	if err != nil {
		return nil, err
	}
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, err = z.Write(layer)
	if err = errors.Join(err, z.Close()); err != nil {
		return nil, err
	}
	config, err := json.Marshal(ocispec.Image{
		Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"},
		RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromBytes(layer)}},
	})
	if err != nil {
		return nil, err
	}
	describe := func(mediaType string, data []byte) ocispec.Descriptor {
		return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data)), Data: data}
	}
	i := &smallImage{blobs: []ocispec.Descriptor{describe(ocispec.MediaTypeImageConfig, config), describe(ocispec.MediaTypeImageLayerGzip, zipped.Bytes())}}
	named := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: i.blobs[0], Layers: i.blobs[1:2]}
	named.Config.Data, named.Layers = nil, []ocispec.Descriptor{{MediaType: i.blobs[1].MediaType, Digest: i.blobs[1].Digest, Size: i.blobs[1].Size}}
	i.body, err = json.Marshal(named)
	i.manifest = ocispec.Descriptor{MediaType: named.MediaType, Digest: digest.FromBytes(i.body), Size: int64(len(i.body))}
	return i, err
}

func (i *smallImage) put(ctx context.Context, dst Destination) error {
	for _, b := range i.blobs {
		if err := dst.PutBlob(ctx, loadedGraphRepository, b, bytes.NewReader(b.Data)); err != nil {
			return err
		}
	}
	if err := dst.PutManifest(ctx, loadedGraphRepository, i.manifest, i.body); err != nil {
		return err
	}
	if err := dst.Tag(ctx, map[string]map[string]digest.Digest{loadedGraphRepository: {loadedGraphTag: i.manifest.Digest}}); err != nil {
		return err
	}
	return dst.Commit(ctx)
}
