package host

import (
	"os"
	"path/filepath"
	"strings"
)

// Ways returns the names by which path is reached: path itself, then the name after each symbolic link on the way, at last
// the one without links. It trusts all links, so that its answer is for messages and units only.
func (h *Host) Ways(path string) []string {
	ways := []string{filepath.Clean(path)}
	for range maxLinks {
		next, ok := h.firstLink(ways[len(ways)-1])
		if !ok {
			break
		}
		ways = append(ways, next)
	}
	return ways
}

// Real returns the last of Ways.
func (h *Host) Real(path string) string {
	ways := h.Ways(path)
	return ways[len(ways)-1]
}

// firstLink replaces the first link in path by its target.
func (h *Host) firstLink(path string) (string, bool) {
	at := "/"
	names := strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
	for i, name := range names {
		at = filepath.Join(at, name)
		target, err := os.Readlink(h.Path(at))
		if err != nil {
			continue // no link, or not there
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(at), target)
		}
		return filepath.Join(append([]string{target}, names[i+1:]...)...), true
	}
	return "", false
}
