package archive

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/internal/durable"
)

// journalName is the file that lists what the chunks have while an archive is written. It is a line
// of JSON for each thing, and the last may be torn: content is hashed again before it is relied on.
const journalName = ".mirror_journal"

// line is one line of the journal; one of the fields is set.
type line struct {
	Begin  *begun     `json:"begin,omitempty"`
	Chunk  *chunkLine `json:"chunk,omitempty"`
	Blob   *place     `json:"blob,omitempty"`
	Commit *committed `json:"commit,omitempty"`
}

// begun is the archive that the journal is of.
type begun struct {
	Format  int       `json:"format"`
	Archive string    `json:"archive"`
	Created time.Time `json:"created"`
}

type chunkLine struct {
	Number int  `json:"number"`
	Alone  bool `json:"alone,omitempty"`
}

// place is where a blob is, or is to be.
type place struct {
	Digest digest.Digest `json:"digest"`
	Size   int64         `json:"size"`
	Chunk  int           `json:"chunk"`
	Offset int64         `json:"offset"` // of its header
}

// committed says that the chunks are whole: from here on an interrupted commit is continued and not
// taken back.
type committed struct {
	Chunks   int    `json:"chunks"`
	History  string `json:"history"`            // the name of the history file
	Replaces string `json:"replaces,omitempty"` // the history file of an archive whose content this one has too
	record   `json:"record"`
}

// journal is written while a run lasts.
type journal struct{ file *os.File }

func (j *journal) write(l line) error {
	data, err := json.Marshal(l)
	if err != nil {
		return err
	}
	if _, err := j.file.Write(append(data, '\n')); err != nil {
		return writeError(err)
	}
	return nil
}

// left is what an interrupted run has left in a directory.
type left struct {
	begun
	chunks []chunkLine
	blobs  []place
	commit *committed
}

// readJournal returns nil if there is none that can be used.
func readJournal(dir string) (*left, error) {
	data, err := os.ReadFile(filepath.Join(dir, journalName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the journal of the archive: %w", err)
	}
	var all left
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var l line
		if json.Unmarshal(lines.Bytes(), &l) != nil {
			continue
		}
		switch {
		case l.Begin != nil:
			all.begun = *l.Begin
		case l.Chunk != nil && l.Chunk.Number == len(all.chunks)+1:
			all.chunks = append(all.chunks, *l.Chunk)
		case l.Chunk != nil && l.Chunk.Number > 0 && l.Chunk.Number <= len(all.chunks): // it was taken back and begun again
			all.chunks[l.Chunk.Number-1] = *l.Chunk
		case l.Blob != nil:
			all.blobs = append(all.blobs, *l.Blob)
		case l.Commit != nil:
			all.commit = l.Commit
		}
	}
	if all.Format != format || all.Archive == "" || lines.Err() != nil {
		return nil, nil
	}
	return &all, nil
}

// writable reports whether the files of an interrupted run can be continued: it may have been another
// user's.
func (l *left) writable(dir string) bool {
	names := []string{journalName}
	for _, c := range l.chunks {
		names = append(names, partialName(c.Number))
	}
	return !slices.ContainsFunc(names, func(name string) bool {
		return errors.Is(unix.Access(filepath.Join(dir, name), unix.W_OK), fs.ErrPermission)
	})
}

// open opens the chunks that an interrupted run has left, up to one that is not there, with their
// blobs as they are listed.
func (l *layout) open(old *left) (blobs map[digest.Digest]*placed, err error) {
	for _, c := range old.chunks {
		file, err := os.OpenFile(filepath.Join(l.dir, partialName(c.Number)), os.O_RDWR, 0)
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("continue the archive: %w", err), l.close())
		}
		l.chunks = append(l.chunks, &chunk{number: c.Number, alone: c.Alone, file: file, end: infoLength})
	}
	blobs = map[digest.Digest]*placed{}
	for _, p := range old.blobs {
		if p.Chunk < 1 || p.Chunk > len(l.chunks) || p.Digest.Validate() != nil || p.Size < 0 ||
			p.Size > largest || p.Offset < infoLength {
			continue
		}
		head, err := header(blobName(p.Digest), p.Size, l.created)
		if err != nil {
			return nil, errors.Join(err, l.close())
		}
		blobs[p.Digest] = &placed{
			region: &region{l.chunks[p.Chunk-1], gap{p.Offset, int64(len(head)) + padded(p.Size)}},
			header: head, size: p.Size,
		}
	}
	return blobs, nil
}

// hashers is how many blobs are hashed at once when a run continues.
const hashers = 4

// takeTorn hashes the blobs, and takes those that are damaged or torn out.
func takeTorn(ctx context.Context, blobs map[digest.Digest]*placed) (torn map[digest.Digest]*placed, err error) {
	g, within := errgroup.WithContext(ctx)
	g.SetLimit(hashers)
	damaged := make(chan digest.Digest, len(blobs))
	for d, p := range blobs {
		g.Go(func() error {
			if err := within.Err(); err != nil {
				return err
			}
			if !p.examine(d) {
				damaged <- d
			}
			return nil
		})
	}
	err = g.Wait()
	close(damaged)
	torn = map[digest.Digest]*placed{}
	for d := range damaged {
		torn[d] = blobs[d]
		delete(blobs, d)
	}
	return torn, err
}

// take makes the parts of the chunks that are not those of blobs gaps. Of blobs that overlap, one
// that is whole is kept.
func (l *layout) take(whole, torn map[digest.Digest]*placed) {
	for d, p := range torn {
		overlaps := func(o *placed) bool {
			return o != p && o.chunk == p.chunk && o.offset < p.gap.end() && p.offset < o.gap.end()
		}
		for _, o := range whole {
			if overlaps(o) {
				delete(torn, d)
			}
		}
	}
	type at struct {
		of map[digest.Digest]*placed
		d  digest.Digest
		*placed
	}
	byChunk := map[*chunk][]at{}
	for _, of := range []map[digest.Digest]*placed{whole, torn} {
		for d, p := range of {
			byChunk[p.chunk] = append(byChunk[p.chunk], at{of, d, p})
		}
	}
	for c, all := range byChunk {
		slices.SortFunc(all, func(a, b at) int { return cmp.Compare(a.offset, b.offset) })
		for _, p := range all {
			if p.offset < c.end || p.offset%block != 0 {
				delete(p.of, p.d)
				continue
			}
			if p.offset > c.end {
				c.gaps = append(c.gaps, gap{c.end, p.offset - c.end})
			}
			c.end = p.gap.end()
		}
	}
}

// discard removes what an interrupted run has left.
func discard(dir string) error {
	partial, err := filepath.Glob(filepath.Join(dir, ".mirror_[0-9][0-9][0-9][0-9][0-9][0-9].partial"))
	if err != nil {
		return err
	}
	for _, name := range append(partial, filepath.Join(dir, journalName), filepath.Join(dir, pendingHistory)) {
		err = errors.Join(err, durable.IgnoreMissing(os.Remove(name)))
	}
	return err
}
