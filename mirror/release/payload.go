package release

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/mirror/layers"
	"github.com/mirror-appliance/appliance/mirror/signature"
)

// Component is one image of a release.
type Component struct {
	Name  string // such as "etcd"
	Image string // reference by digest
}

// Payload is what a release payload says of itself.
type Payload struct {
	Version    string // such as 4.18.2; "" if it does not say
	Components []Component
	// Policies are the rules that its nodes have about signatures.
	Policies []*signature.Policy
	// Unread are the reasons for which other rules of it are not known.
	Unread []error
}

// Open opens a blob.
type Open func(d digest.Digest) (io.ReadCloser, error)

// ReadLayers reads a payload from the layers of its image, the lowest first. An image without a list of
// components is an error for which errors.Is(err, fs.ErrNotExist) holds, as one whose layer is absent is.
func ReadLayers(all []digest.Digest, open Open) (Payload, error) {
	last := fmt.Errorf("it has no layer: it is no release payload: %w", fs.ErrNotExist)
	for _, d := range slices.Backward(all) {
		body, err := open(d)
		if err != nil {
			return Payload{}, err
		}
		found, err := Read(body)
		_ = body.Close()
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return found, within(d, err)
		}
		last = fmt.Errorf("it is no release payload: %w", err)
	}
	return Payload{}, last
}

func within(d digest.Digest, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("layer %s: %w", d, err)
}

// Read reads a layer of a payload. It returns an error for which errors.Is(err, fs.ErrNotExist) holds
// if the list of components is not in it: it is in one of the upper layers.
func Read(layer io.Reader) (Payload, error) {
	found, err := readLayer(layer)
	if errors.Is(err, errNoReferences) || errors.Is(err, errWhiteout) {
		return Payload{}, fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	if err != nil {
		return Payload{}, err
	}
	var metadata struct{ Version string }
	if raw, ok := found.files[metadataName]; ok {
		if err := json.Unmarshal(raw, &metadata); err != nil {
			return Payload{}, fmt.Errorf("%s%s: %w", manifestsDirectory, metadataName, err)
		}
	}
	p := Payload{Version: metadata.Version, Components: found.components}
	p.Policies, p.Unread = found.policies()
	return p, nil
}

// unpacked is what is read of a payload.
type unpacked struct {
	components []Component
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

// readLayer looks for release-manifests in one layer. Layers are read from the top down, and the
// first with image-references is the right one.
func readLayer(r io.Reader) (*unpacked, error) {
	none := errNoReferences
	files := map[string][]byte{}
	err := layers.Read(r, func(e layers.Entry, content io.Reader) (err error) {
		if removes(e) {
			none = errWhiteout // unless this layer has another one
			return nil
		}
		file, ok := strings.CutPrefix(e.Name, manifestsDirectory)
		if !ok || !needed(file) || e.Kind == layers.Whiteout {
			return nil
		}
		if e.Kind != layers.File {
			return errors.New("it is not a regular file")
		}
		if len(files) >= maxFiles {
			return fmt.Errorf("%s has more than %d files that are read", manifestsDirectory, maxFiles)
		}
		files[file], err = readFile(content)
		return err
	})
	if err != nil {
		return nil, err
	}
	if files[referencesName] == nil {
		return nil, none
	}
	return unpack(files)
}

// removes reports whether an entry removes the list of components from the layers below.
func removes(e layers.Entry) bool {
	return (e.Kind == layers.Whiteout || e.Kind == layers.Opaque) && layers.Entry{Name: referencesFile}.In(e.Name)
}

func readFile(r io.Reader) ([]byte, error) {
	raw, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err == nil && len(raw) > maxFile {
		err = fmt.Errorf("it has more than %d bytes", maxFile)
	}
	return raw, err
}

// unpack reads the files of a payload.
func unpack(files map[string][]byte) (*unpacked, error) {
	components, err := parseReferences(files[referencesName])
	return &unpacked{components, files}, err
}

// parseReferences reads an image-references file, an ImageStream.
func parseReferences(raw []byte) ([]Component, error) {
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
	var all []Component
	for _, tag := range stream.Spec.Tags {
		if tag.Name == "" || tag.From.Name == "" || tag.From.Kind != "DockerImage" {
			return nil, fmt.Errorf("%s: component %q does not name an image", referencesFile, tag.Name)
		}
		all = append(all, Component{Name: tag.Name, Image: tag.From.Name})
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s names no component", referencesFile)
	}
	return all, nil
}
