package operator

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"github.com/go-git/go-git/v5/plumbing/format/gitignore"
)

// ignoreFile lists files that are no part of a catalog, as .gitignore does for git.
const ignoreFile = ".indexignore"

const maxIgnoreFile = 1 << 20

// ignores are the patterns of the .indexignore files that have been read so far.
type ignores struct{ patterns []gitignore.Pattern }

// read adds the patterns of a directory, if it has any.
func (i *ignores) read(files fs.FS, dir string) error {
	name := path.Join(dir, ignoreFile)
	f, err := files.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxIgnoreFile+1))
	if err == nil && len(text) > maxIgnoreFile {
		err = fmt.Errorf("it has more than %d bytes", maxIgnoreFile)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		if line := strings.TrimSpace(lines.Text()); line != "" && !strings.HasPrefix(line, "#") {
			i.patterns = append(i.patterns, gitignore.ParsePattern(line, elements(dir)))
		}
	}
	return nil
}

// match reports whether a file is ignored. Only files are asked about, as opm does: a file of an
// ignored directory can be taken in again by a pattern that begins with !.
func (i *ignores) match(name string) bool {
	return len(i.patterns) > 0 && gitignore.NewMatcher(i.patterns).Match(elements(name), false)
}

func elements(name string) []string {
	if name == "." {
		return nil
	}
	return strings.Split(name, "/")
}
