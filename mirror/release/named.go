package release

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/blang/semver/v4"

	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/mirror/plan"
)

// maxConfig bounds the configuration of a payload; a real one has some 10 KB.
const maxConfig = 4 << 20

// name gives a payload that is named by digest alone the name of its version, such as
// 4.18.2-x86_64, by which clusters and installers know it.
func (c *Collector) name(ctx context.Context, payload *plan.Image, found *unpacked) error {
	if payload.Reference.Tag != "" || payload.Tag != payload.Reference.Digest.Encoded() {
		return nil
	}
	var metadata struct {
		Version  semver.Version
		Metadata map[string]string
	}
	raw, ok := found.files[metadataName]
	if !ok { // of an archive without it
		return nil
	}
	if err := json.Unmarshal(raw, &metadata); err != nil {
		return fmt.Errorf("%s%s: %w", manifestsDirectory, metadataName, err)
	}
	arch := metadata.Metadata["release.openshift.io/architecture"]
	if arch == "" {
		var err error
		if arch, err = c.architecture(ctx, payload); err != nil {
			return fmt.Errorf("architecture of the release: %w", err)
		}
	}
	metadata.Version.Build = nil
	payload.Tag = metadata.Version.String() + "-" + Machine(arch)
	payload.Release = payload.Tag
	return image.CheckTag(payload.Tag)
}

// architecture returns that of a payload, multi for a list of several.
func (c *Collector) architecture(ctx context.Context, payload *plan.Image) (string, error) {
	if len(payload.Manifests) > 1 {
		return "multi", nil
	}
	for _, m := range payload.Manifests {
		parsed, err := image.Parse(m.Descriptor.MediaType, m.Body)
		if err != nil {
			return "", err
		}
		for _, r := range parsed.References {
			if r.Kind != image.Config {
				continue
			}
			body, err := c.Images.Blob(ctx, payload, r.Digest)
			if err != nil {
				return "", err
			}
			defer body.Close()
			var config struct{ Architecture string }
			if err := json.NewDecoder(io.LimitReader(body, maxConfig)).Decode(&config); err != nil {
				return "", fmt.Errorf("configuration %s: %w", r.Digest, err)
			}
			return config.Architecture, nil
		}
	}
	return "", errors.New("the payload has no configuration")
}
