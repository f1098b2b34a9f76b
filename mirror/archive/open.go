package archive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// Archive is one or several archives that are read: the chunks in some directories. What they have
// is known from their headers; nothing is extracted.
type Archive struct {
	files []*os.File
	parts []*part // by sequence, so that the newest is last

	blobs     map[digest.Digest]span
	documents map[string]document
	tags      map[string]digest.Digest // by repository:tag
	origins   map[string]digest.Digest // by the reference that an image was pulled by
	types     map[digest.Digest]string // media types of manifests
	referrers map[digest.Digest][]digest.Digest

	mu      sync.Mutex // guards the rest
	sizes   map[digest.Digest]int64
	aliases map[string]string
}

// document is a file of working-dir.
type document struct {
	span
	digest digest.Digest // "" in oc-mirror's archives
	made   []byte        // the content of one that is no entry, but made of one
}

// Open opens the archives in some directories. A chunk that is missing, damaged or of another
// archive is an error that names it, before anything is read of what they have.
func Open(ctx context.Context, dirs ...string) (*Archive, error) { return openWhole(ctx, dirs, false) }

// OpenPartial is Open for an archive of which some chunks come on other media. Those with manifests
// and documents, which are the last one or two, must be there; a blob of another one is an error
// that names the chunk when it is asked for.
func OpenPartial(ctx context.Context, dirs ...string) (*Archive, error) {
	return openWhole(ctx, dirs, true)
}

func openWhole(ctx context.Context, dirs []string, partial bool) (*Archive, error) {
	a, problems, err := open(ctx, dirs, partial)
	if err != nil {
		return nil, err
	}
	if len(problems) > 0 {
		err := errors.Join(problems...)
		return nil, errors.Join(hint.New(err,
			"copy the file again from where it was written, or name the directory of what is missing with one more --from; nothing has been imported"), a.Close())
	}
	return a, nil
}

// open returns what is wrong with the archives apart, so that they can be described.
func open(ctx context.Context, paths []string, partial bool) (_ *Archive, problems []error, err error) {
	a := &Archive{
		blobs: map[digest.Digest]span{}, documents: map[string]document{},
		tags: map[string]digest.Digest{}, origins: map[string]digest.Digest{},
		types: map[digest.Digest]string{}, referrers: map[digest.Digest][]digest.Digest{},
		sizes: map[digest.Digest]int64{}, aliases: map[string]string{},
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.Close())
		}
	}()
	for _, path := range paths {
		names, err := chunkFiles(path)
		if err != nil {
			return nil, nil, err
		}
		for _, name := range names {
			c, err := a.open(name)
			if err != nil {
				return nil, nil, err
			}
			if err := c.readHeader(); err != nil {
				problems = append(problems, err)
				continue
			}
			a.group(c, path).add(c)
		}
	}
	problems = append(problems, mixed(a.parts)...)
	slices.SortStableFunc(a.parts, func(x, y *part) int { return cmp.Compare(x.sequence(), y.sequence()) })
	problems = append(problems, inOrder(a.parts)...)
	for _, p := range a.parts {
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		problems = append(problems, p.index(ctx, partial)...)
		a.merge(p)
	}
	problems = append(problems, ofOneV1(a.parts)...)
	return a, problems, nil
}

// chunkFiles lists the chunks in a directory, or returns the one file that is named.
func chunkFiles(path string) (names []string, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, hint.New(fmt.Errorf("open the archive: %w", err), "name the directory that has mirror_000001.tar")
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, fmt.Errorf("open the archive: %w", err)
	}
	for _, e := range entries {
		if (chunkPattern.MatchString(e.Name()) || chunkPatternV1.MatchString(e.Name())) && !strings.HasPrefix(e.Name(), ".") {
			names = append(names, filepath.Join(path, e.Name()))
		}
	}
	if len(names) == 0 {
		return nil, hint.New(fmt.Errorf("no tar archives matching %q found in %q",
			`mirror_[0-9]{6}\.tar`, path), "name the directory that has mirror_000001.tar: --from file://DIR")
	}
	return names, nil
}

// open opens one chunk. It must be a file: opening a pipe would wait for a writer.
func (a *Archive) open(path string) (*chunkFile, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("open the archive: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("open the archive: %s is not a file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open the archive: %w", err)
	}
	a.files = append(a.files, f)
	c := &chunkFile{path: path, reader: f, length: info.Size()}
	c.named()
	return c, nil
}

// group returns the archive that a chunk is of. Chunks of oc-mirror do not say; those of one
// directory are one archive.
func (a *Archive) group(c *chunkFile, dir string) *part {
	id := "the archive in " + dir
	switch {
	case c.header != nil:
		id = c.header.Archive
	case c.sequence > 0:
		id = fmt.Sprintf("the image set mirror_seq%d in %s", c.sequence, dir)
	}
	for _, p := range a.parts {
		if p.id == id {
			return p
		}
	}
	p := newPart(id)
	a.parts = append(a.parts, p)
	return p
}

// mixed finds chunks of oc-mirror beside ours.
func mixed(parts []*part) (problems []error) {
	for _, p := range parts {
		for _, other := range parts {
			if p.header == nil && other.header != nil && filepath.Dir(p.any().path) == filepath.Dir(other.any().path) {
				problems = append(problems, fmt.Errorf("%s is of another archive than %s",
					p.any().path, other.any().path))
			}
		}
	}
	return problems
}

// inOrder checks that each archive builds on the one before it, if several are given.
func inOrder(parts []*part) (problems []error) {
	for i, p := range parts[:max(len(parts)-1, 0)] {
		next := parts[i+1]
		if p.v1() > 0 && next.v1() > 0 && next.v1() != p.v1()+1 {
			problems = append(problems, fmt.Errorf("%s: invalid mirror sequence order, want %d, got %d", next.any().path, p.v1()+1, next.v1()))
			continue
		}
		if p.header == nil || next.header == nil || next.header.Previous == p.id {
			continue
		}
		if next.header.Previous == "" && next.sequence() == 1 {
			problems = append(problems, fmt.Errorf("%s is of another archive than %s: they do not build on each other", next.any().path, p.any().path))
			continue
		}
		problems = append(problems, fmt.Errorf("%s is out of sequence: it is of archive number %d, which builds on number %d, and %s is of number %d of another row or before that",
			next.any().path, next.sequence(), next.sequence()-1, p.any().path, p.sequence()))
	}
	return problems
}

// merge adds what an archive has. What is newer replaces what is older.
func (a *Archive) merge(p *part) {
	for d, at := range p.blobs {
		a.blobs[d] = at
	}
	for name, at := range p.documents {
		a.documents[name] = document{span: at, digest: p.digests[name]}
	}
	for name, data := range p.made {
		a.documents[name] = document{made: data}
	}
	for name, d := range p.tags {
		a.tags[name] = d
		if _, tag, _ := strings.Cut(name, ":"); strings.HasPrefix(tag, "sha256-") && strings.Contains(tag, ".") {
			a.tags[":"+tag] = d // of a signature: it names the image by itself
		}
	}
	maps.Copy(a.origins, p.origins)
	if p.contents == nil {
		return
	}
	for _, i := range p.contents.Images {
		a.origins[i.Reference] = i.Digest
	}
	for _, e := range p.contents.Entries {
		if e.Type != "" {
			a.types[e.Digest] = e.Type
		}
		if e.Subject != "" && !slices.Contains(a.referrers[e.Subject], e.Digest) {
			a.referrers[e.Subject] = append(a.referrers[e.Subject], e.Digest)
		}
	}
}

// Close closes the files.
func (a *Archive) Close() (err error) {
	for _, f := range a.files {
		err = errors.Join(err, f.Close())
	}
	a.files = nil
	return err
}
