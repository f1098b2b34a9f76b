package release

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/mirror/plan"
)

// unpack returns what is read of a payload, from the workspace if it has it. There it is where oc-
// mirror unpacks payloads, with a note of which payload it is of.
func (c *Collector) unpack(ctx context.Context, payload *plan.Image) (*unpacked, error) {
	dir := directory(payload)
	if files := c.kept(dir, payload.Digest); files != nil {
		return unpack(files)
	}
	found, err := c.fetch(ctx, payload)
	if c.Offline && errors.Is(err, fs.ErrNotExist) { // the archive leaves out a payload that the far side has
		if raw, kept := c.Files.Read(path.Join(dir, referencesFile)); kept == nil {
			return unpack(map[string][]byte{referencesName: raw})
		}
	}
	if err != nil {
		return nil, err
	}
	for name, data := range found.files {
		if err := c.Files.Write(path.Join(dir, manifestsDirectory, name), data); err != nil {
			return nil, err
		}
	}
	return found, c.Files.Write(path.Join(dir, noteFile), noteOf(payload.Digest, found.files))
}

// noteFile is the note that files belong to a payload. The version changes with the files that are
// needed.
const (
	noteFile    = "payload-digest"
	noteVersion = "2"
)

// kept returns the files of a payload that the workspace has as its note says, else nil.
func (c *Collector) kept(dir string, payload digest.Digest) map[string][]byte {
	note, err := c.Files.Read(path.Join(dir, noteFile))
	if err != nil {
		return nil
	}
	files := map[string][]byte{}
	for line := range strings.Lines(string(note)) {
		name, _, _ := strings.Cut(line, " ")
		if !needed(name) {
			continue
		}
		if files[name], err = c.Files.Read(path.Join(dir, manifestsDirectory, name)); err != nil {
			return nil
		}
	}
	if !bytes.Equal(note, noteOf(payload, files)) {
		return nil
	}
	return files
}

// directory returns the directory of a payload's files: its repository's last name, and its tag.
func directory(payload *plan.Image) string {
	repo := path.Base(payload.Reference.Path)
	if payload.Reference.Tag == "" && payload.Tag == payload.Reference.Digest.Encoded() {
		repo += "@" + payload.Reference.Digest.Algorithm().String() // oc-mirror's name for a release without a tag
	}
	return "hold-release/" + repo + "/" + payload.Tag
}

// noteOf returns the note that files belong to a payload and have this content.
func noteOf(payload digest.Digest, files map[string][]byte) []byte {
	note := payload.String() + " " + noteVersion + "\n"
	for _, name := range slices.Sorted(maps.Keys(files)) {
		note += name + " " + digest.FromBytes(files[name]).String() + "\n"
	}
	return []byte(note)
}

// fetch finds release-manifests in the payload. All architectures name the same components.
func (c *Collector) fetch(ctx context.Context, payload *plan.Image) (*unpacked, error) {
	last := fmt.Errorf("manifest %s names no image: %w", payload.Digest, errNoReferences)
	for _, m := range payload.Manifests {
		for _, layer := range slices.Backward(layersOf(m)) {
			found, err := c.readLayer(ctx, payload, layer.Digest)
			if err == nil {
				return found, nil
			}
			if !errors.Is(err, errNoReferences) && !errors.Is(err, errWhiteout) {
				return nil, err
			}
			last = hint.New(fmt.Errorf("layer %s: %w: it is no release payload", layer.Digest, err),
				"name a payload in platform.release, such as quay.io/openshift-release-dev/ocp-release:4.18.1-x86_64, and other images in additionalImages")
			if errors.Is(err, errWhiteout) {
				break
			}
		}
	}
	return nil, last
}

func (c *Collector) readLayer(ctx context.Context, payload *plan.Image, d digest.Digest) (*unpacked, error) {
	layer, err := c.Images.Blob(ctx, payload, d)
	if err != nil {
		return nil, err
	}
	defer layer.Close()
	found, err := readLayer(layer)
	if err != nil && !errors.Is(err, errNoReferences) && !errors.Is(err, errWhiteout) {
		err = fmt.Errorf("layer %s: %w", d, err)
	}
	return found, err
}

// layersOf returns the layers of a manifest that has been parsed before.
func layersOf(m plan.Manifest) []image.Reference {
	p, _ := image.Parse(m.Descriptor.MediaType, m.Body)
	return slices.DeleteFunc(p.References, func(r image.Reference) bool { return r.Kind != image.Layer })
}
