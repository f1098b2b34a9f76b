package graphdata

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"

	"github.com/blang/semver/v4"
	"github.com/opencontainers/go-digest"
)

// MetadataFile is the file of a release image that the update service reads.
const MetadataFile = "release-manifests/release-metadata"

// prefix is that of the keys of metadata by which the update service is directed.
const prefix = "io.openshift.upgrades.graph."

// Keys of metadata.
const (
	channelsKey       = prefix + "release.channels"
	archKey           = prefix + "release.arch"
	manifestKey       = prefix + "release.manifestref"
	previousAdd       = prefix + "previous.add"
	previousRemove    = prefix + "previous.remove"
	previousRemoveAll = "*" // as the value of previousRemove
	previousRegex     = prefix + "previous.remove_regex"
	nextAdd           = prefix + "next.add"
	nextRemove        = prefix + "next.remove"
	// architectureKey is the metadata of each image of a release for several architectures.
	architectureKey = "release.openshift.io/architecture"
)

// Multi is the architecture of a release for several ones.
const Multi = "multi"

// Metadata is what a release image says of itself in release-metadata.
type Metadata struct {
	Version  semver.Version
	Previous []semver.Version  // that update to it
	Next     []semver.Version  // that it updates to
	Metadata map[string]string // such as the URL of its errata
}

// Release is a release image.
type Release struct {
	Metadata
	Arch    string        // such as amd64, or Multi
	Payload string        // how clusters pull it: a reference by digest
	Digest  digest.Digest // of its manifest, or of its list
	// Mirrored reports that a run has mirrored it, and not a client pushed it.
	Mirrored bool
}

// Shard reports whether an image of one architecture is a part of a release for several: the update
// service passes over it.
func (m Metadata) Shard() bool { return m.Metadata[architectureKey] == Multi }

// ParseMetadata reads a file release-metadata. With an error, the image is not a release.
func ParseMetadata(raw []byte) (Metadata, error) {
	// Names of keys are compared exactly, as the reference does it, and encoding/json for structs does not.
	var file map[string]json.RawMessage
	if err := json.Unmarshal(raw, &file); err != nil {
		return Metadata{}, fmt.Errorf("release-metadata: %w", err)
	}
	var kind, version string
	err := errors.Join(required(file, "kind", &kind), required(file, "version", &version))
	if err == nil && kind != "cincinnati-metadata-v0" {
		err = fmt.Errorf("its kind is %q", kind)
	}
	if err != nil {
		return Metadata{}, fmt.Errorf("release-metadata: %w", err)
	}
	m := Metadata{}
	if m.Version, err = semver.Parse(version); err != nil {
		return Metadata{}, fmt.Errorf("release-metadata: version %q: %w", version, err)
	}
	if m.Metadata, err = texts(file["metadata"]); err != nil {
		return Metadata{}, fmt.Errorf("release-metadata: metadata: %w", err)
	}
	if m.Previous, err = versions(file["previous"]); err == nil {
		m.Next, err = versions(file["next"])
	}
	if err != nil {
		return Metadata{}, fmt.Errorf("release-metadata: %w", err)
	}
	return m, nil
}

// required reads a text that must be there.
func required(file map[string]json.RawMessage, key string, to *string) error {
	var text *string
	if raw, ok := file[key]; ok {
		if err := json.Unmarshal(raw, &text); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	if text == nil {
		return fmt.Errorf("it has no %s", key)
	}
	*to = *text
	return nil
}

// refused returns why a cluster rejects an answer with the release, all of it, "" if it does not.
func (m Metadata) refused() string {
	if a, ok := m.Metadata[architectureKey]; ok && a != Multi {
		return fmt.Sprintf("its metadata %s is %q", architectureKey, a)
	}
	if _, err := url.Parse(m.Metadata["url"]); err != nil {
		return fmt.Sprintf("its metadata url: %v", err)
	}
	return ""
}

// texts reads a map of texts. The reference takes none of null, at the top or as a value.
func texts(raw json.RawMessage) (map[string]string, error) {
	all := map[string]string{}
	if raw == nil {
		return all, nil
	}
	var file map[string]*string
	if err := json.Unmarshal(raw, &file); err != nil {
		return nil, err
	}
	if file == nil {
		return nil, errors.New("it is null")
	}
	for key, value := range file {
		if value == nil {
			return nil, fmt.Errorf("%q is null", key)
		}
		all[key] = *value
	}
	return all, nil
}

// versions reads a list of versions, which may be absent, and must not be null.
func versions(raw json.RawMessage) ([]semver.Version, error) {
	if raw == nil {
		return nil, nil
	}
	var list []*string
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, err
	}
	if list == nil {
		return nil, errors.New("a list of versions is null")
	}
	var all []semver.Version
	for _, text := range list {
		if text == nil {
			return nil, errors.New("a version is null")
		}
		v, err := semver.Parse(*text)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", *text, err)
		}
		all = append(all, v)
	}
	return all, nil
}

// compareVersions orders versions as semver does, and those that only their builds tell apart by these.
func compareVersions(a, b semver.Version) int {
	if c := a.Compare(b); c != 0 {
		return c
	}
	return slices.Compare(a.Build, b.Build)
}
