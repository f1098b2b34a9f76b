package release

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
)

// Component is one image that a release is made of.
type Component struct {
	Name  string // such as "etcd"
	Image string // reference by digest
}

// References is what a payload's release-manifests/image-references says.
type References struct {
	Version    string // metadata.name: the release's version
	Components []Component
	Raw        []byte
}

const (
	referencesFile = "release-manifests/image-references"
	// maxReferences bounds that file, which has some 200 KB.
	maxReferences = 16 << 20
	// maxLayer bounds what one layer unpacks to, against one that unpacks for ever.
	maxLayer = 16 << 30
)

// ErrNoReferences says that a layer has no such file.
var ErrNoReferences = errors.New("no " + referencesFile + " in it")

// ErrWhiteout says that a layer removes the file from those below it.
var ErrWhiteout = errors.New(referencesFile + " is removed by a layer above it")

// ReadLayer looks for image-references in one layer, a tar that may be gzipped. Layers are to be read from the top
// down; the first that has it is right. It reads to the end of r, so that a reader that verifies a digest at its
// end has had its say.
func ReadLayer(r io.Reader) (*References, error) {
	found, err := scanLayer(r)
	if err != nil && !errors.Is(err, ErrNoReferences) && !errors.Is(err, ErrWhiteout) {
		return nil, err
	}
	if _, rest := io.Copy(io.Discard, r); rest != nil {
		return nil, rest
	}
	return found, err
}

func scanLayer(r io.Reader) (*References, error) {
	body, err := decompress(r)
	if err != nil {
		return nil, err
	}
	dir, file := path.Split(referencesFile)
	whiteouts := []string{dir + ".wh." + file, dir + ".wh..wh..opq", ".wh." + strings.TrimSuffix(dir, "/"), ".wh..wh..opq"}
	result := ErrNoReferences
	t := tar.NewReader(io.LimitReader(body, maxLayer))
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil, result
		}
		if err != nil {
			return nil, fmt.Errorf("read the layer: %w", err)
		}
		switch name := strings.TrimPrefix(path.Clean("/"+h.Name), "/"); {
		case name == referencesFile && h.Typeflag == tar.TypeReg:
			return readReferences(t)
		case name == referencesFile:
			return nil, fmt.Errorf("%s is not a regular file", referencesFile)
		case slices.Contains(whiteouts, name):
			result = ErrWhiteout // unless this very layer brings another one
		}
	}
}

// decompress tells gzip by its magic, since media types are not always right about it.
func decompress(r io.Reader) (io.Reader, error) {
	magic := make([]byte, 2)
	n, err := io.ReadFull(r, magic)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return nil, err
	}
	whole := io.MultiReader(strings.NewReader(string(magic[:n])), r)
	if n < 2 || magic[0] != 0x1f || magic[1] != 0x8b {
		return whole, nil
	}
	z, err := gzip.NewReader(whole)
	if err != nil {
		return nil, fmt.Errorf("decompress the layer: %w", err)
	}
	return z, nil
}

func readReferences(r io.Reader) (*References, error) {
	raw, err := io.ReadAll(io.LimitReader(r, maxReferences+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", referencesFile, err)
	}
	if len(raw) > maxReferences {
		return nil, fmt.Errorf("%s has more than %d bytes", referencesFile, maxReferences)
	}
	return ParseReferences(raw)
}

// ParseReferences reads an image-references file, an ImageStream.
func ParseReferences(raw []byte) (*References, error) {
	var stream struct {
		Kind     string
		Metadata struct{ Name string }
		Spec     struct {
			Tags []struct {
				Name string
				From struct{ Kind, Name string }
			}
		}
	}
	if err := json.Unmarshal(raw, &stream); err != nil {
		return nil, fmt.Errorf("%s: %w", referencesFile, err)
	}
	if stream.Kind != "ImageStream" {
		return nil, fmt.Errorf("%s is of kind %q and not ImageStream", referencesFile, stream.Kind)
	}
	refs := &References{Version: stream.Metadata.Name, Raw: raw}
	for _, tag := range stream.Spec.Tags {
		if tag.Name == "" || tag.From.Name == "" || tag.From.Kind != "DockerImage" {
			return nil, fmt.Errorf("%s: component %q does not name an image", referencesFile, tag.Name)
		}
		refs.Components = append(refs.Components, Component{Name: tag.Name, Image: tag.From.Name})
	}
	if len(refs.Components) == 0 {
		return nil, fmt.Errorf("%s names no component", referencesFile)
	}
	return refs, nil
}
