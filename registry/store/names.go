package store

import (
	"fmt"

	"github.com/google/uuid"
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

// isID reports whether id was made by this package: it becomes part of a path, so nothing else may.
func isID(id string) bool {
	u, err := uuid.Parse(id)
	return err == nil && u.String() == id
}

func invalidManifest(format string, args ...any) error {
	return &InvalidError{What: "manifest", Why: fmt.Sprintf(format, args...)}
}
