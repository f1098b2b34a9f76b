package release

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
)

// component is one image of a release.
type component struct {
	name  string // such as "etcd"
	image string // reference by digest
}

// references is the content of a payload's release-manifests/image-references.
type references struct {
	components []component
	raw        []byte
}

const (
	referencesFile = "release-manifests/image-references"
	// maxReferences bounds that file; a real one has some 200 KB.
	maxReferences = 16 << 20
	// maxLayer bounds the unpacked size of a layer, against one that unpacks without end.
	maxLayer = 16 << 30
)

// errNoReferences says that a layer does not have the file.
var errNoReferences = errors.New("no " + referencesFile + " in it")

// errWhiteout says that a layer removes the file from those below it.
var errWhiteout = errors.New(referencesFile + " is removed by a layer above it")

// readLayer looks for image-references in one layer, a tar that may be gzipped. Layers are read from the top down, and the
// first file found is the right one. readLayer reads to the end of r, since that is where a reader verifies a digest.
func readLayer(r io.Reader) (*references, error) {
	found, err := scanLayer(r)
	if err != nil && !errors.Is(err, errNoReferences) && !errors.Is(err, errWhiteout) {
		return nil, err
	}
	if _, rest := io.Copy(io.Discard, r); rest != nil {
		return nil, rest
	}
	return found, err
}

func scanLayer(r io.Reader) (*references, error) {
	body, err := decompress(r)
	if err != nil {
		return nil, err
	}
	dir, file := path.Split(referencesFile)
	whiteouts := []string{dir + ".wh." + file, dir + ".wh..wh..opq", ".wh." + strings.TrimSuffix(dir, "/"), ".wh..wh..opq"}
	result := errNoReferences
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
			result = errWhiteout // unless this layer has another one
		}
	}
}

// decompress recognises gzip by its magic number, since media types are not always right about it.
func decompress(r io.Reader) (io.Reader, error) {
	buffered := bufio.NewReader(r)
	if magic, _ := buffered.Peek(2); string(magic) != "\x1f\x8b" { // a read repeats Peek's error
		return buffered, nil
	}
	z, err := gzip.NewReader(buffered)
	if err != nil {
		return nil, fmt.Errorf("decompress the layer: %w", err)
	}
	return z, nil
}

func readReferences(r io.Reader) (*references, error) {
	raw, err := io.ReadAll(io.LimitReader(r, maxReferences+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", referencesFile, err)
	}
	if len(raw) > maxReferences {
		return nil, fmt.Errorf("%s has more than %d bytes", referencesFile, maxReferences)
	}
	return parseReferences(raw)
}

// parseReferences reads an image-references file, an ImageStream.
func parseReferences(raw []byte) (*references, error) {
	var stream struct {
		Kind string
		Spec struct {
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
	refs := &references{raw: raw}
	for _, tag := range stream.Spec.Tags {
		if tag.Name == "" || tag.From.Name == "" || tag.From.Kind != "DockerImage" {
			return nil, fmt.Errorf("%s: component %q does not name an image", referencesFile, tag.Name)
		}
		refs.components = append(refs.components, component{name: tag.Name, image: tag.From.Name})
	}
	if len(refs.components) == 0 {
		return nil, fmt.Errorf("%s names no component", referencesFile)
	}
	return refs, nil
}
