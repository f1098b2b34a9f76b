package graphdata

import (
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Files are the files of graph data by their names, such as channels/stable-4.18.yaml. A name that ends
// in a slash is a directory, which may be empty.
type Files map[string][]byte

// directory is where an image has graph data first of all.
const directory = "var/lib/cincinnati-graph-data"

// fileName matches the files of graph data, below whatever directory. The reference takes the same, and
// by its operator's configuration signatures.
var fileName = regexp.MustCompile(`^(?:(.+)/)?(LICENSE|version|raw/metadata\.json|(?:channels|blocked-edges)/[^/]*|signatures/sha(?:256)?/[0-9a-f]+/signature-[0-9]+)$`)

// IsFile reports whether a name in an image or an archive may be that of a file of graph data.
func IsFile(name string) bool { return fileName.MatchString(name) }

// Select returns the files of graph data among those of an image or an archive: the ones in the
// directory of the vendor's images, or else in the first by name that has raw metadata, or else a version.
func (f Files) Select() Files {
	dir := directory
	if _, ok := f[path.Join(dir, "version")]; !ok {
		names := slices.Sorted(maps.Keys(f))
		for _, file := range []string{"version", "raw/metadata.json"} { // the last decides
			for _, name := range slices.Backward(names) {
				if m := fileName.FindStringSubmatch(name); m != nil && m[2] == file {
					dir = m[1]
				}
			}
		}
	}
	found := Files{}
	for name, text := range f {
		rest, ok := name, dir == ""
		if !ok {
			rest, ok = strings.CutPrefix(name, dir+"/")
		}
		if m := fileName.FindStringSubmatch(rest); ok && m != nil && m[1] == "" {
			found[rest] = text
		}
	}
	return found
}
