package updates

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/mirror/graphdata"
	"github.com/mirror-appliance/appliance/mirror/layers"
	"github.com/mirror-appliance/appliance/registry/stored"
)

// Bounds of what is read of an image: of its configuration, and of a file in it.
const (
	maxConfig   = 8 << 20
	maxMetadata = 1 << 20
)

// readImage reads an image, or any image of a list, as far as the update service wants to know it. It
// returns fs.ErrNotExist if a part is not here.
func readImage(ctx context.Context, repo stored.Repository, d digest.Digest) (*known, error) {
	desc, body, err := repo.Manifest(ctx, d.String())
	if err != nil {
		return nil, err
	}
	m, err := image.Parse(desc.MediaType, body)
	if err != nil {
		return &known{Reason: err.Error()}, nil
	}
	if !image.IsIndex(desc.MediaType) {
		k, err := readOne(ctx, repo, m)
		if err == nil && k.Reason == "" && shard(k) {
			k = &known{Reason: "it is the part for one architecture of a release for several"}
		}
		return k, err
	}
	return readList(ctx, repo, m)
}

func shard(k *known) bool {
	m, err := graphdata.ParseMetadata(k.Raw)
	return err == nil && m.Shard()
}

// readList reads a list by one of its images that is here. A list of one is a release for that
// architecture.
func readList(ctx context.Context, repo stored.Repository, m image.Manifest) (*known, error) {
	var absent error
	for _, r := range m.References {
		if r.Kind != image.Child || strings.HasPrefix(r.Platform, "unknown/") {
			continue
		}
		desc, body, err := repo.Manifest(ctx, r.Digest.String())
		var child image.Manifest
		if err == nil {
			child, err = image.Parse(desc.MediaType, body)
		}
		var k *known
		if err == nil {
			k, err = readOne(ctx, repo, child)
		}
		switch {
		case errors.Is(err, fs.ErrNotExist): // the list was mirrored with some of its platforms
			absent = err
		case err != nil || k.Reason != "":
			return k, err
		default:
			if len(m.References) > 1 {
				k.Arch = graphdata.Multi
			}
			return k, nil
		}
	}
	if absent != nil {
		return nil, absent
	}
	return &known{Reason: "it is a list without images"}, nil
}

// readOne reads an image of one architecture.
func readOne(ctx context.Context, repo stored.Repository, m image.Manifest) (*known, error) {
	var config struct{ Architecture string }
	var all []digest.Digest
	for _, r := range m.References {
		switch {
		case r.Kind == image.Layer:
			all = append(all, r.Digest)
		case r.MediaType != ocispec.MediaTypeImageConfig && r.MediaType != "application/vnd.docker.container.image.v1+json":
			return &known{Reason: "it is not an image: its configuration is of type " + r.MediaType}, nil
		default:
			text, err := readBlob(ctx, repo, r.Digest, maxConfig)
			if err != nil {
				return nil, err
			}
			if err := json.Unmarshal(text, &config); err != nil || config.Architecture == "" {
				return &known{Reason: "its configuration has no architecture"}, nil
			}
		}
	}
	slices.Reverse(all) // a layer is read before those below it
	for _, d := range all {
		k, err := readLayer(ctx, repo, d)
		if err != nil || k != nil {
			if k != nil {
				k.Arch = config.Architecture
			}
			return k, err
		}
	}
	return &known{Reason: "no layer has a file " + graphdata.MetadataFile}, nil
}

// readBlob reads a small blob.
func readBlob(ctx context.Context, repo stored.Repository, d digest.Digest, most int64) ([]byte, error) {
	body, size, err := repo.Blob(ctx, d)
	if err != nil {
		return nil, err
	}
	if size > most {
		return nil, errors.Join(fmt.Errorf("blob %s has %d bytes, more than the %d that are read", d, size, most), body.Close())
	}
	text, err := io.ReadAll(body)
	return text, errors.Join(err, body.Close())
}

// readLayer looks for the metadata of a release in a layer; nil: there is none. As the reference does
// it, a file that is not valid sends the search to the next layer, and whiteouts do not count.
func readLayer(ctx context.Context, repo stored.Repository, d digest.Digest) (*known, error) {
	body, _, err := repo.Blob(ctx, d)
	if err != nil {
		return nil, err
	}
	var found *known
	var references []byte
	err = layers.Read(&reader{ctx, body}, func(e layers.Entry, content io.Reader) error {
		if e.Kind != layers.File || e.Header.Size > maxMetadata {
			return nil
		}
		switch e.Name {
		case graphdata.MetadataFile:
			text, err := io.ReadAll(content)
			k := &known{Raw: bytes.TrimSpace(text)}
			if err == nil && k.parse() == nil && found == nil {
				found = k
			}
			return err
		case referencesFile:
			var err error
			references, err = io.ReadAll(content)
			return err
		}
		return nil
	})
	if err = errors.Join(err, body.Close()); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("layer %s: %w", d, err)
	}
	if found != nil {
		found.Components = componentsOf(references)
	}
	return found, nil
}

// referencesFile lists the components of a release.
const referencesFile = "release-manifests/image-references"

// componentsOf returns the repository of most components of a release, "" if it is not known.
func componentsOf(text []byte) string {
	var stream struct {
		Spec struct {
			Tags []struct{ From struct{ Name string } }
		}
	}
	if json.Unmarshal(text, &stream) != nil {
		return ""
	}
	counts, most := map[string]int{}, ""
	for _, t := range stream.Spec.Tags {
		name, _, ok := strings.Cut(t.From.Name, "@")
		if !ok {
			continue
		}
		if counts[name]++; counts[name] > counts[most] {
			most = name
		}
	}
	return most
}

// reader ends with its context.
type reader struct {
	ctx context.Context
	io.Reader
}

func (r *reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}
