package catalog

import (
	"encoding/json"
	"os"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/durable"
)

// kept is a file with what takes long to find out. A file that is damaged, or of another version, is not
// relied on: it is made again.
type kept struct {
	Version string
	Digest  digest.Digest // of Content
	Content json.RawMessage
}

// readKept returns the content of a file, and the zero value if there is none that can be relied on.
func readKept[T any](name, version string) (content T) {
	var file kept
	var none T
	text, err := os.ReadFile(name)
	if err != nil || json.Unmarshal(text, &file) != nil || file.Version != version || digest.FromBytes(file.Content) != file.Digest ||
		json.Unmarshal(file.Content, &content) != nil {
		return none
	}
	return content
}

func writeKept(name, version string, content any) error {
	raw, err := json.Marshal(content)
	if err != nil {
		return err
	}
	text, err := json.Marshal(kept{version, digest.FromBytes(raw), raw})
	if err != nil {
		return err
	}
	tmp, err := newFile(name)
	if err != nil {
		return err
	}
	return durable.Replace(name, tmp, text)
}
