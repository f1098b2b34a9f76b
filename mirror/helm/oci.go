package helm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/internal/plain"
	"github.com/mirror-appliance/appliance/mirror/imageset"
)

// Media types of the layer that has a chart's archive. The older one is of Helm before 3.7.
var chartLayers = []string{
	"application/vnd.cncf.helm.chart.content.v1.tar+gzip",
	"application/tar+gzip",
}

// pull reads a chart from a repository whose address begins with oci://.
func (s *session) pull(ctx context.Context, w wanted) ([]byte, error) {
	at, err := parseRepository(w.repository.URL)
	if err != nil {
		return nil, err
	}
	return s.pullFrom(ctx, path.Join(at.Host, at.Path, w.chart.Name), w.chart.Version)
}

// pullFrom reads a chart from a repository of a registry, which may be written with a tag. A
// version is a constraint, as in an index.
func (s *session) pullFrom(ctx context.Context, name, version string) ([]byte, error) {
	host, repository, _ := strings.Cut(name, "/")
	if repo, tag, ok := strings.Cut(repository, ":"); ok {
		repository, version = repo, tag
	}
	if !image.ValidRepository(repository) {
		return nil, fmt.Errorf("%s is not the name of a repository", name)
	}
	reference := imageset.Reference{Transport: "docker", Domain: host, Path: repository}
	registry, err := s.Open(reference)
	if err != nil {
		return nil, err
	}
	tag, err := chooseTag(ctx, registry, version)
	if err == nil {
		var data []byte
		if data, err = chartOf(ctx, registry, tag); err == nil {
			return data, nil
		}
	}
	return nil, fmt.Errorf("oci://%s: %w", reference.Name(), err)
}

// chooseTag returns the tag of a version. A tag cannot have a +, which Helm replaces by _.
func chooseTag(ctx context.Context, registry Registry, version string) (string, error) {
	if exact(version) {
		return strings.ReplaceAll(version, "+", "_"), nil
	}
	tags, err := registry.Tags(ctx)
	if err != nil {
		return "", err
	}
	versions := []string{}
	for _, tag := range tags {
		if v := strings.ReplaceAll(tag, "_", "+"); exact(v) {
			versions = append(versions, v)
		}
	}
	best, err := choose(versions, version)
	if err == nil && best == "" {
		err = hint.New(fmt.Errorf("no tag is version %q of the chart", version), "it has: "+plain.List(tags, listed))
	}
	return strings.ReplaceAll(best, "+", "_"), err
}

// chartOf reads the archive of the chart that a tag names.
func chartOf(ctx context.Context, registry Registry, tag string) ([]byte, error) {
	_, body, err := registry.Manifest(ctx, tag)
	if err != nil {
		return nil, err
	}
	var manifest ocispec.Manifest
	if err := json.Unmarshal(body, &manifest); err != nil {
		return nil, fmt.Errorf("manifest of tag %s: %w", tag, err)
	}
	for _, media := range chartLayers {
		for _, layer := range manifest.Layers {
			if layer.MediaType == media {
				return readBlob(ctx, registry, layer.Digest)
			}
		}
	}
	return nil, fmt.Errorf("tag %s is not a Helm chart: no layer of its manifest is of type %s", tag, chartLayers[0])
}

func readBlob(ctx context.Context, registry Registry, d digest.Digest) ([]byte, error) {
	body, _, err := registry.Blob(ctx, d)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	data, err := io.ReadAll(io.LimitReader(body, maxChart+1))
	if err == nil && len(data) > maxChart {
		err = errors.New("the chart is too large")
	}
	return data, err
}
