package layers

import (
	"archive/tar"
	"cmp"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
)

// NewFile is a file that is written to a layer.
type NewFile struct {
	Name  string // below the root, such as configs/some-operator/catalog.json
	Size  int64
	Write func(io.Writer) error
}

var errTwice = errors.New("a layer cannot have a name twice")

// Write writes files and the directories above them as a tar, in the order of their names, with
// mode 0644 and 0755, of user 0 and without times: the same files give the same bytes. Nothing is
// held of a file.
func Write(w io.Writer, files []NewFile) error {
	files = slices.SortedFunc(slices.Values(files), func(a, b NewFile) int { return cmp.Compare(a.Name, b.Name) })
	t, made := tar.NewWriter(w), map[string]bool{".": true} // false: a file
	for _, f := range files {
		name, err := clean(f.Name)
		if _, ok := made[name]; ok && err == nil {
			err = errTwice
		}
		if err == nil {
			made[name] = false
			err = writeFile(t, name, f, made)
		}
		if err != nil {
			return fmt.Errorf("write %q to a layer: %w", f.Name, err)
		}
	}
	return t.Close()
}

func writeFile(t *tar.Writer, name string, f NewFile, made map[string]bool) error {
	parents := strings.Split(path.Dir(name), "/")
	for n := range parents {
		dir := path.Join(parents[:n+1]...)
		if isDir, ok := made[dir]; isDir {
			continue
		} else if ok {
			return errTwice
		}
		made[dir] = true
		if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755}); err != nil {
			return err
		}
	}
	if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: f.Size, Mode: 0o644}); err != nil {
		return err
	}
	return f.Write(t)
}
