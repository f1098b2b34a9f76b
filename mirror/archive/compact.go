package archive

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// worth is how many bytes may be moved for one that a chunk gets shorter. Beyond it, what did not come
// stays as an entry without a meaning.
const worth = 16

// compact moves blobs over the places of those that did not come, which a medium would carry as zeros.
// A run that is interrupted meanwhile is continued: the journal has the place before a blob is moved to
// it, and what is there is hashed.
func (w *Writer) compact(ctx context.Context) error {
	for _, c := range w.layout.chunks {
		if err := w.compactChunk(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

func (w *Writer) compactChunk(ctx context.Context, c *chunk) error {
	type at struct {
		digest.Digest
		*placed
	}
	var all []at
	for d, p := range w.blobs {
		if p.chunk == c {
			all = append(all, at{d, p})
		}
	}
	slices.SortFunc(all, func(a, b at) int { return cmp.Compare(a.offset, b.offset) })
	var unused, moved int64
	for _, g := range c.gaps {
		unused += g.length
	}
	for _, p := range all {
		if len(c.gaps) > 0 && p.offset > c.gaps[0].offset {
			moved += p.length
		}
	}
	if unused == 0 || moved > worth*unused {
		return nil
	}
	end := int64(infoLength)
	for _, p := range all {
		if err := ctx.Err(); err != nil {
			return err
		}
		if p.offset > end {
			if err := w.journal.write(line{Blob: &place{p.Digest, p.size, c.number, end}}); err != nil {
				return err
			}
			if err := p.move(ctx, end); err != nil {
				w.broken = &refusedError{hint.New(fmt.Errorf("move blob %s: %w", p.Digest, err), "run the same command again: this blob is fetched again, the others are kept")}
				return w.broken
			}
		}
		end = p.gap.end()
	}
	c.end, c.gaps = end, nil
	return nil
}

// move moves a blob to a place before its own, which may overlap.
func (p *placed) move(ctx context.Context, to int64) error {
	buffer := make([]byte, bufferSize)
	for done := int64(0); done < p.length; {
		if err := ctx.Err(); err != nil {
			return err
		}
		some := buffer[:min(p.length-done, bufferSize)]
		if _, err := p.file.ReadAt(some, p.offset+done); err != nil {
			return fmt.Errorf("read the archive: %w", err)
		}
		if _, err := p.file.WriteAt(some, to+done); err != nil {
			return writeError(err)
		}
		done += int64(len(some))
	}
	p.region = &region{p.chunk, gap{to, p.length}}
	return nil
}
