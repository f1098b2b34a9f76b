// Package medium is a directory that carries everything to the far side of a gap: the programs, an
// image set and its archive, documentation, and files such as an installer or an ISO.
//
// SHA256SUMS at its top lists all of it, in the form that sha256sum -c reads, and is written last:
// a medium without it is not whole. Large files are cut into pieces, which may be on several media,
// each with the same SHA256SUMS. Nothing is ever written to a medium that is read.
package medium

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// Sums is the name of the list of checksums, and ImageSet that of the image set.
const (
	Sums     = "SHA256SUMS"
	ImageSet = "imageset.yaml"
)

// filesDir has the files, and their pieces.
const filesDir = "files"

// maxSums bounds the list of checksums.
const maxSums = 16 << 20

// Medium is a medium, in one directory or several, whose content is verified.
type Medium struct {
	Dirs  []string
	Files []File
	Bytes int64
}

// File is a file for the far side, in one piece or several.
type File struct {
	Name   string
	Size   int64
	SHA256 string
	Pieces []string // paths, in order
}

// piece matches what ends the name of a piece: its number, and how many there are.
var piece = regexp.MustCompile(`^(.+)\.part-([0-9]{4})-of-([0-9]{4})$`)

// entry is a line of the list.
type entry struct{ sum, name string }

// Open verifies the medium in some directories, and returns an error that names what is damaged,
// missing or not of it. tell is called with each name before it is read.
func Open(ctx context.Context, tell func(name string), dirs ...string) (*Medium, error) {
	entries, err := readSums(dirs)
	if err != nil {
		return nil, err
	}
	m := &Medium{Dirs: dirs}
	var problems []error
	whole, place := map[string]hash.Hash{}, map[string]int{}
	for _, e := range entries {
		at := find(dirs, e.name)
		if at == "" {
			problems = append(problems, fmt.Errorf("missing: %s", e.name))
			continue
		}
		tell(e.name)
		var more []io.Writer
		name, isFile := strings.CutPrefix(e.name, filesDir+"/")
		if match := piece.FindStringSubmatch(name); match != nil {
			name = match[1]
		}
		if isFile {
			if whole[name] == nil {
				whole[name], place[name] = sha256.New(), len(m.Files)
				m.Files = append(m.Files, File{Name: name})
			}
			more = append(more, whole[name])
		}
		size, err := check(ctx, at, e.sum, more...)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			problems = append(problems, err)
			continue
		}
		m.Bytes += size
		if isFile {
			last := &m.Files[place[name]]
			last.Pieces, last.Size = append(last.Pieces, at), last.Size+size
			last.SHA256 = hex.EncodeToString(whole[name].Sum(nil))
		}
	}
	problems = append(problems, foreign(dirs, entries)...)
	if len(problems) > 0 {
		return nil, hint.New(errors.Join(problems...),
			"copy what is damaged again, and name the directory of each medium; nothing was changed")
	}
	return m, nil
}

// readSums reads the list, which each directory that has one must have alike.
func readSums(dirs []string) ([]entry, error) {
	var first []byte
	from := ""
	for _, dir := range dirs {
		f, err := os.Open(filepath.Join(dir, Sums))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		text, err := io.ReadAll(io.LimitReader(f, maxSums))
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, err
		}
		if from != "" && !bytes.Equal(first, text) {
			return nil, hint.New(fmt.Errorf("%s and %s are of different media", from, f.Name()), "name the directories of one medium")
		}
		first, from = text, f.Name()
	}
	if from == "" {
		return nil, hint.New(fmt.Errorf("there is no %s in %s", Sums, strings.Join(dirs, ", ")),
			"name the directory that appliance bundle has written; without that file it is not whole")
	}
	return parseSums(from, first)
}

func parseSums(file string, text []byte) (all []entry, err error) {
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		sum, name, ok := strings.Cut(lines.Text(), "  ")
		if _, err := hex.DecodeString(sum); !ok || err != nil || len(sum) != 2*sha256.Size || !fs.ValidPath(name) || name == "." {
			return nil, hint.New(fmt.Errorf("%s: line %d is not a checksum and a name", file, n), "copy the file again from where it was written")
		}
		all = append(all, entry{sum, name})
	}
	slices.SortFunc(all, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	return all, nil
}

// find returns the path of a file of the medium, "" if no directory has it.
func find(dirs []string, name string) string {
	for _, dir := range dirs {
		at := filepath.Join(dir, filepath.FromSlash(name))
		if info, err := os.Stat(at); err == nil && info.Mode().IsRegular() {
			return at
		}
	}
	return ""
}

// check reads a file and compares its checksum. What is read goes to the writers as well.
func check(ctx context.Context, at, sum string, more ...io.Writer) (size int64, err error) {
	f, err := os.Open(at)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	h := sha256.New()
	size, err = io.Copy(io.MultiWriter(append(more, h)...), &reader{ctx, f})
	if err != nil {
		return 0, fmt.Errorf("damaged: %s cannot be read: %w", at, err)
	}
	if hex.EncodeToString(h.Sum(nil)) != sum {
		return 0, fmt.Errorf("damaged: %s, whose checksum is another", at)
	}
	return size, nil
}

// reader ends with its context.
type reader struct {
	ctx context.Context
	r   io.Reader
}

func (r *reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// foreign returns what a medium has where its content is, and does not list.
func foreign(dirs []string, entries []entry) (problems []error) {
	listed := map[string]bool{}
	for _, e := range entries {
		listed[e.name] = true
	}
	for _, dir := range dirs {
		for _, pattern := range []string{"mirror_*.tar", filesDir + "/*", "appliance*"} {
			found, _ := filepath.Glob(filepath.Join(dir, pattern)) // the pattern is right
			for _, at := range found {
				name, err := filepath.Rel(dir, at)
				if err == nil && !listed[path.Clean(filepath.ToSlash(name))] {
					problems = append(problems, fmt.Errorf("not of this medium: %s", at))
				}
			}
		}
	}
	return problems
}
