package console

import (
	"io/fs"
	"os"
	"testing"
)

// sources are the files of the package.
func sources(t *testing.T) fs.FS {
	t.Helper()
	return goFiles{os.DirFS(".")}
}

// goFiles has no directories: what npm has put beside the sources is not ours.
type goFiles struct{ fs.FS }

func (g goFiles) ReadDir(name string) (files []fs.DirEntry, err error) {
	all, err := fs.ReadDir(g.FS, name)
	for _, f := range all {
		if !f.IsDir() {
			files = append(files, f)
		}
	}
	return files, err
}
