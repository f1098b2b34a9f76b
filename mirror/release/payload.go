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

// unpacked is what is read of a payload.
type unpacked struct {
	components []component
	// files are those of release-manifests that are needed, by their names there.
	files map[string][]byte
}

const (
	manifestsDirectory = "release-manifests/"
	referencesName     = "image-references"
	referencesFile     = manifestsDirectory + referencesName
	metadataName       = "release-metadata"
	bootImagesName     = "0000_50_installer_coreos-bootimages.yaml"
	// maxFile bounds a file; the largest real one is image-references with some 200 KB.
	maxFile = 16 << 20
	// maxFiles bounds the files of one payload.
	maxFiles = 32
	// maxLayer bounds the unpacked size of a layer, against one that unpacks without end.
	maxLayer = 16 << 30
)

// needed reports whether a file of release-manifests is read: the list of components, the version,
// the boot images, and the cluster's rules about signatures.
func needed(name string) bool {
	return isPolicy(name) || name == referencesName || name == metadataName || name == bootImagesName
}

func isPolicy(name string) bool {
	policy, _ := path.Match("*cluster-image-policy*.yaml", name)
	return policy
}

// errNoReferences says that a layer does not have the file.
var errNoReferences = errors.New("no " + referencesFile + " in it")

// errWhiteout says that a layer removes the file from those below it.
var errWhiteout = errors.New(referencesFile + " is removed by a layer above it")

// readLayer looks for release-manifests in one layer, a tar that may be gzipped. Layers are read
// from the top down, and the first with image-references is the right one. readLayer reads to the
// end of r, since that is where a reader verifies a digest.
func readLayer(r io.Reader) (*unpacked, error) {
	found, err := scanLayer(r)
	if err != nil && !errors.Is(err, errNoReferences) && !errors.Is(err, errWhiteout) {
		return nil, err
	}
	if _, rest := io.Copy(io.Discard, r); rest != nil {
		return nil, rest
	}
	return found, err
}

func scanLayer(r io.Reader) (*unpacked, error) {
	body, err := decompress(r)
	if err != nil {
		return nil, err
	}
	whiteouts := []string{manifestsDirectory + ".wh." + referencesName,
		manifestsDirectory + ".wh..wh..opq", ".wh.release-manifests", ".wh..wh..opq"}
	none := errNoReferences
	files := map[string][]byte{}
	t := tar.NewReader(io.LimitReader(body, maxLayer))
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read the layer: %w", err)
		}
		name := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
		if slices.Contains(whiteouts, name) {
			none = errWhiteout // unless this layer has another one
		}
		file, ok := strings.CutPrefix(name, manifestsDirectory)
		if !ok || !needed(file) {
			continue
		}
		if h.Typeflag != tar.TypeReg {
			return nil, fmt.Errorf("%s is not a regular file", name)
		}
		if files[file], err = readFile(t, name); err != nil {
			return nil, err
		}
		if len(files) > maxFiles {
			return nil, fmt.Errorf("%s has more than %d files that are read", manifestsDirectory, maxFiles)
		}
	}
	if files[referencesName] == nil {
		return nil, none
	}
	return unpack(files)
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

func readFile(r io.Reader, name string) ([]byte, error) {
	raw, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(raw) > maxFile {
		return nil, fmt.Errorf("%s has more than %d bytes", name, maxFile)
	}
	return raw, nil
}

// unpack reads the files of a payload.
func unpack(files map[string][]byte) (*unpacked, error) {
	components, err := parseReferences(files[referencesName])
	return &unpacked{components, files}, err
}

// parseReferences reads an image-references file, an ImageStream.
func parseReferences(raw []byte) ([]component, error) {
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
	var all []component
	for _, tag := range stream.Spec.Tags {
		if tag.Name == "" || tag.From.Name == "" || tag.From.Kind != "DockerImage" {
			return nil, fmt.Errorf("%s: component %q does not name an image", referencesFile, tag.Name)
		}
		all = append(all, component{name: tag.Name, image: tag.From.Name})
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s names no component", referencesFile)
	}
	return all, nil
}
