package catalog

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

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

// pruneKept removes the files of a directory that have the digests of catalogs which are not used any more.
func pruneKept(dir string, used func(d digest.Digest) (bool, error)) error {
	all, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, f := range all {
		name := f.Name()
		d := digest.NewDigestFromEncoded(digest.SHA256, name)
		is, failed := false, error(nil)
		if d.Validate() == nil { // else it is a part of a file, of a process that was killed
			is, failed = used(d)
		}
		if failed == nil && !is {
			failed = os.Remove(filepath.Join(dir, name))
		}
		err = errors.Join(err, failed)
	}
	return err
}
