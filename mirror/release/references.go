package release

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/mirror/plan"
)

// references returns the components of a payload, from the workspace if it has them. There they are where oc-mirror unpacks
// payloads, with a note of which payload they are of.
func (c *Collector) references(ctx context.Context, payload *plan.Image) (*references, error) {
	file := path.Join(directory(payload), "release-manifests/image-references")
	note := path.Join(directory(payload), "payload-digest")
	raw, errRaw := c.Files.Read(file)
	noted, errNote := c.Files.Read(note)
	if errRaw == nil && errNote == nil && string(noted) == noteOf(payload.Digest, raw) {
		return parseReferences(raw)
	}
	refs, err := c.fetchReferences(ctx, payload)
	if c.Offline && errors.Is(err, fs.ErrNotExist) && errRaw == nil { // the archive leaves out a payload that the far side has
		return parseReferences(raw)
	}
	if err != nil {
		return nil, err
	}
	if err := c.Files.Write(file, refs.raw); err != nil {
		return nil, err
	}
	return refs, c.Files.Write(note, []byte(noteOf(payload.Digest, refs.raw)))
}

// directory returns the directory of a payload's files: its repository's last name, and its tag.
func directory(payload *plan.Image) string {
	repo := path.Base(payload.Reference.Path)
	if payload.Reference.Tag == "" && payload.Tag == payload.Reference.Digest.Encoded() {
		repo += "@" + payload.Reference.Digest.Algorithm().String() // oc-mirror's name for a release without a tag
	}
	return "hold-release/" + repo + "/" + payload.Tag
}

// noteOf returns the note that a file belongs to a payload and has this content.
func noteOf(payload digest.Digest, raw []byte) string {
	return payload.String() + " " + digest.FromBytes(raw).String() + "\n"
}

// fetchReferences finds image-references in the payload. All architectures name the same components.
func (c *Collector) fetchReferences(ctx context.Context, payload *plan.Image) (*references, error) {
	last := fmt.Errorf("manifest %s names no image: %w", payload.Digest, errNoReferences)
	for _, m := range payload.Manifests {
		layers := layersOf(m)
		for i := len(layers) - 1; i >= 0; i-- {
			refs, err := c.layerReferences(ctx, payload, layers[i].Digest)
			if err == nil {
				return refs, nil
			}
			if !errors.Is(err, errNoReferences) && !errors.Is(err, errWhiteout) {
				return nil, err
			}
			last = fmt.Errorf("layer %s: %w; is it a release payload?", layers[i].Digest, err)
			if errors.Is(err, errWhiteout) {
				break
			}
		}
	}
	return nil, last
}

func (c *Collector) layerReferences(ctx context.Context, payload *plan.Image, d digest.Digest) (*references, error) {
	layer, err := c.Images.Blob(ctx, payload, d)
	if err != nil {
		return nil, err
	}
	defer layer.Close()
	return readLayer(layer)
}

// layersOf returns the layers of a manifest that has been parsed before.
func layersOf(m plan.Manifest) []image.Reference {
	p, _ := image.Parse(m.Descriptor.MediaType, m.Body)
	return slices.DeleteFunc(p.References, func(r image.Reference) bool { return r.Kind != image.Layer })
}
