package archive

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/mirror/metadata"
)

// part is one of the archives that are read.
type part struct {
	id       string
	header   *chunkHeader // of any of its chunks; nil: oc-mirror's
	chunks   map[int]*chunkFile
	twice    []*chunkFile
	contents *contents // nil: oc-mirror's, or missing

	seen      map[key]located
	blobs     map[digest.Digest]span
	missing   map[digest.Digest]int // the chunk that has it, which is not here
	documents map[string]span
	digests   map[string]digest.Digest // of documents, by name
	tags      map[string]digest.Digest
	origins   map[string]digest.Digest // of version 1: by the name at the source

	// Of version 1.
	metadata []byte
	uid      uuid.UUID
	images   []metadata.Association // that it has
	past     []metadata.Association // that it has, or one before it
	catalogs map[string]*catalogV1  // by their directories
	made     map[string][]byte      // documents that are made of others
}

// key stands for the name of an entry: an archive can have millions.
type key [16]byte

// located is the chunk and the size of an entry.
type located struct {
	chunk int
	size  int64
}

func keyOf(name string) key {
	sum := sha256.Sum256([]byte(name))
	return key(sum[:16])
}

func newPart(id string) *part {
	return &part{
		id: id, chunks: map[int]*chunkFile{}, seen: map[key]located{}, blobs: map[digest.Digest]span{},
		missing: map[digest.Digest]int{}, documents: map[string]span{},
		digests: map[string]digest.Digest{}, tags: map[string]digest.Digest{}, origins: map[string]digest.Digest{},
		catalogs: map[string]*catalogV1{}, made: map[string][]byte{},
	}
}

// add adds a chunk. A copy of one that is there already is not read.
func (p *part) add(c *chunkFile) {
	if p.chunks[c.number] != nil {
		p.twice = append(p.twice, c)
		return
	}
	p.chunks[c.number] = c
	if p.header == nil {
		p.header = c.header
	}
}

func (p *part) sequence() int {
	if p.header == nil {
		return p.v1()
	}
	return p.header.Sequence
}

// any returns the lowest chunk that is there.
func (p *part) any() *chunkFile {
	for _, n := range p.numbers() {
		if c := p.chunks[n]; c != nil {
			return c
		}
	}
	return nil
}

// numbers returns the numbers of the chunks that there are to be.
func (p *part) numbers() (all []int) {
	last := 0
	if p.header != nil {
		last = p.header.Chunks
	}
	for n := range p.chunks {
		last = max(last, n)
	}
	for n := range last {
		all = append(all, n+1)
	}
	return all
}

// index reads the headers of all entries, and returns what is wrong. With partial, a chunk that has
// only blobs may be missing.
func (p *part) index(ctx context.Context, partial bool) (problems []error) {
	missing := []int{}
	for _, n := range p.numbers() {
		c := p.chunks[n]
		if c == nil {
			missing = append(missing, n)
			continue
		}
		if err := ctx.Err(); err != nil {
			return append(problems, err)
		}
		if c.sequence > 0 {
			c.link = func(name, target string) error { return p.linkV1(c, name, target) }
		}
		if err := p.agrees(c); err != nil {
			problems = append(problems, err)
		} else if err := c.scan(p.visit); err != nil {
			problems = append(problems, err)
		}
	}
	if partial && p.contents != nil {
		missing = slices.DeleteFunc(missing, func(n int) bool { return !p.needed(n) })
	}
	if len(missing) > 0 {
		problems = append(problems, p.lacks(missing))
	}
	for _, c := range p.catalogs {
		if err := c.open(p); err != nil {
			problems = append(problems, err)
		}
	}
	if p.header != nil && len(problems) == 0 {
		if err := p.compare(); err != nil {
			problems = append(problems, err)
		}
	}
	return problems
}

// needed reports whether a chunk has more than blobs: what an import begins with.
func (p *part) needed(chunk int) bool {
	return slices.ContainsFunc(p.contents.Entries,
		func(e entry) bool { return e.Chunk == chunk && e.Name+e.Type != "" })
}

// lacks is the error of chunks that are not there.
func (p *part) lacks(missing []int) error {
	names := []string{}
	for i, n := range missing {
		if i == 20 {
			names = append(names, fmt.Sprintf("and %d more", len(missing)-i))
			break
		}
		if sequence := p.v1(); sequence > 0 {
			names = append(names, chunkNameV1(sequence, n))
			continue
		}
		names = append(names, chunkName(n))
	}
	return fmt.Errorf("of the archive that %s is of, %d of %d chunks are missing: %s",
		p.any().path, len(missing), len(p.numbers()), strings.Join(names, ", "))
}

// agrees checks that a chunk says of its archive what the others say.
func (p *part) agrees(c *chunkFile) error {
	if p.header == nil {
		return nil
	}
	if c.header == nil || c.header.Chunks != p.header.Chunks ||
		c.header.Sequence != p.header.Sequence || c.header.Previous != p.header.Previous {
		return c.damaged("it says other things of its archive than %s", p.any().path)
	}
	return nil
}

// visit notes an entry.
func (p *part) visit(name string, at span) error {
	if name == chunkEntry {
		return nil
	}
	if _, twice := p.seen[keyOf(name)]; twice {
		return at.damaged("it has %s, which the archive has already", image.Quote(name))
	}
	if len(p.seen) > maxEntries {
		return fmt.Errorf("%s: the archive has more than %d entries", at.path, maxEntries)
	}
	p.seen[keyOf(name)] = located{at.number, at.size}
	if at.sequence > 0 {
		return p.visitV1(name, at)
	}
	if name == contentsEntry {
		return p.readContents(at)
	}
	if d, ok := parseBlobName(name); ok {
		p.blobs[d] = at
		return nil
	}
	if doc, ok := strings.CutPrefix(name, workingDir); ok {
		p.documents[doc] = at
		return nil
	}
	if repository, tag, ok := parseTagLink(name); ok {
		data, err := at.read(maxLink)
		if err != nil {
			return err
		}
		d := digest.Digest(strings.TrimSpace(string(data)))
		if err := image.CheckDigest(d); err != nil {
			return at.damaged("tag %s:%s: %w", repository, tag, err)
		}
		p.tags[repository+":"+tag] = d
	}
	return nil
}

func (p *part) readContents(at span) error {
	data, err := at.read(maxContents)
	if err != nil {
		return err
	}
	var list contents
	if err := json.Unmarshal(data, &list); err != nil {
		return at.damaged("%s: %w", contentsEntry, err)
	}
	p.contents = &list
	return nil
}

// compare compares what is there with the list of contents.
func (p *part) compare() error {
	list := p.contents
	if list == nil {
		return p.any().damaged("its archive has no %s", contentsEntry)
	}
	if list.Archive != p.id || list.Chunks != p.header.Chunks {
		return p.any().damaged("%s is of another archive", contentsEntry)
	}
	elsewhere := 0 // entries of chunks that are missing
	for _, e := range list.Entries {
		name := e.file()
		found, ok := p.seen[keyOf(name)]
		c := p.chunks[e.Chunk]
		switch {
		case c == nil && e.Chunk > 0 && e.Chunk <= list.Chunks:
			p.missing[e.Digest] = e.Chunk
			elsewhere++
			continue
		case c == nil:
			return p.any().damaged("%s names chunk %d", contentsEntry, e.Chunk)
		case !ok:
			return c.damaged("it lacks %s", image.Quote(name))
		case found.chunk != e.Chunk || found.size != e.Size:
			return c.damaged("%s has %d bytes and not %d", image.Quote(name), found.size, e.Size)
		}
		if doc, ok := strings.CutPrefix(name, workingDir); ok {
			p.digests[doc] = e.Digest
		}
		if repository, tag, ok := parseTagLink(name); ok &&
			digest.FromString(p.tags[repository+":"+tag].String()) != e.Digest {
			return c.damaged("tag %s:%s has another digest", repository, tag)
		}
	}
	if len(p.seen)+elsewhere != len(list.Entries)+1 { // and the list itself
		return p.any().damaged("its archive has entries that its list of contents does not name")
	}
	return nil
}
