package signature

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
)

// parseDocument returns the reference in a signed document about d, see
// containers-signature(5). All kinds of signatures sign this form of document.
func parseDocument(text []byte, kind string, d digest.Digest) (reference string, err error) {
	var signed struct {
		Critical struct {
			Type  string
			Image struct {
				Digest string `json:"docker-manifest-digest"`
			}
			Identity struct {
				Reference string `json:"docker-reference"`
			}
		}
	}
	if err := json.Unmarshal(text, &signed); err != nil {
		return "", fmt.Errorf("read the signed document: %w", err)
	}
	c := signed.Critical
	switch {
	case c.Type != kind:
		return "", fmt.Errorf("the signed document is of type %q", c.Type)
	case c.Image.Digest != d.String():
		return "", fmt.Errorf("it is the signature of %s", c.Image.Digest)
	case c.Identity.Reference == "":
		return "", errors.New("the signed document names no image")
	}
	return c.Identity.Reference, nil
}
