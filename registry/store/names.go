package store

import (
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/image"
)

// InvalidError reports a malformed name, manifest or option.
type InvalidError = image.InvalidError

func checkRepositoryAndDigest(repo string, d digest.Digest) error {
	if err := image.CheckRepository(repo); err != nil {
		return err
	}
	return image.CheckDigest(d)
}

func invalidManifest(format string, args ...any) error {
	return &InvalidError{What: "manifest", Reason: fmt.Sprintf(format, args...)}
}
