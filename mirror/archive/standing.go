package archive

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/internal/diskspace"
	"github.com/mirror-appliance/appliance/internal/hint"
)

// standing is the archive that is in the directory of a new one, which replaces its files.
type standing struct {
	*part
	history string // the file that was written with it, "" if that is not known
	damaged bool
}

// readStanding returns the archive in a directory, nil if there is none.
func readStanding(ctx context.Context, dir string) (_ *standing, err error) {
	files, err := filepath.Glob(filepath.Join(dir, "mirror_[0-9][0-9][0-9][0-9][0-9][0-9].tar"))
	if err != nil || len(files) == 0 {
		return nil, err
	}
	a, problems, err := open(ctx, files, false)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(ctx.Err(), a.Close()); err != nil {
		return nil, err
	}
	if len(a.parts) == 0 {
		return &standing{part: newPart(""), damaged: true}, nil
	}
	s := &standing{part: a.parts[len(a.parts)-1], damaged: len(problems) > 0}
	records, err := readRecords(dir)
	for _, r := range records {
		if r.Archive == s.id {
			s.history = r.History
		}
	}
	return s, err
}

// kept reports whether what the archive has is to be in the one that replaces it too: it is without
// images that were asked for, so that it is likely made again before it is carried, or damaged.
func (s *standing) kept() bool {
	return s != nil && s.history != "" && (s.damaged || s.contents != nil && len(s.contents.Failures) > 0)
}

// under reports whether a new archive leaves out what this one has.
func (s *standing) under(b base) bool {
	return s != nil && b.Base != nil && b.Inventory == "" && (b.Archive == s.id || s.header == nil && b.Archive == "")
}

// files returns the names of its chunks' files.
func (s *standing) files() (all []string) {
	for _, n := range slices.Sorted(maps.Keys(s.chunks)) {
		all = append(all, s.chunks[n].path)
	}
	return all
}

// layers returns the blobs of the archive that are not manifests.
func (s *standing) layers() []entry {
	return slices.DeleteFunc(slices.Clone(s.contents.Entries), func(e entry) bool { return e.Name+e.Type != "" })
}

func (s *standing) String() string {
	if s.header == nil {
		return "the archive that is there"
	}
	text := fmt.Sprintf("archive number %d", s.header.Sequence)
	if s.contents != nil {
		text += " of " + s.contents.Created.Format("2006-01-02 15:04")
	}
	return text
}

// chooseBase decides what the archive leaves out. Without Since, that is not the content of an
// archive which would be replaced by this one and ended with failures.
func (w *Writer) chooseBase(ctx context.Context) (err error) {
	if w.here, err = readStanding(ctx, w.o.Dir); err != nil {
		return err
	}
	without := ""
	if w.here.kept() && w.o.Since.IsZero() {
		without = w.here.history
	}
	if w.base, err = readBase(w.o.Dir, w.o.Since, without); err != nil {
		return err
	}
	if w.o.Have != nil {
		w.base = base{w.o.Have.digests, &Base{Inventory: w.o.Have.checksum, Created: w.o.Have.created}}
	}
	switch {
	case w.here.under(w.base):
		w.o.Say("%s in %s has files of the same names, and this one leaves out what it has: have it carried before this run ends (--since DATE takes the content in again)", w.here, w.o.Dir)
	case w.here != nil && !w.takesOver() && !w.here.of(w.o.ImageSet):
		w.o.Say("%s in %s has files of the same names, and is not of this image set: have it carried before this run ends", w.here, w.o.Dir)
	}
	return nil
}

// takesOver reports whether the archive begins with the content of the one that is there.
func (w *Writer) takesOver() bool {
	return w.here.kept() && !w.here.damaged && !w.here.under(w.base)
}

// takeOver begins with the blobs of the archive that is there, if that ended with failures: the
// files are copied, and what follows is as after a run that was interrupted.
func (w *Writer) takeOver(ctx context.Context) error {
	if !w.takesOver() {
		return nil
	}
	if w.o.DryRun {
		for _, e := range w.here.layers() {
			w.blobs[e.Digest] = &placed{size: e.Size}
		}
		for _, c := range w.here.chunks {
			w.copies += c.length
		}
		return nil
	}
	w.o.Say("%s in %s is without some images: this one has its content too", w.here, w.o.Dir)
	if err := discard(w.o.Dir); err != nil {
		return writeError(err)
	}
	var journal bytes.Buffer
	lines := json.NewEncoder(&journal)
	err := lines.Encode(line{Begin: &begun{Format: format, Archive: w.id, Created: w.here.contents.Created}})
	for _, n := range slices.Sorted(maps.Keys(w.here.chunks)) {
		c := w.here.chunks[n]
		err = errors.Join(err, copyChunk(ctx, filepath.Join(w.o.Dir, partialName(n)), c),
			lines.Encode(line{Chunk: &chunkLine{n, c.length > w.o.ChunkSize}}))
		if err != nil {
			return err
		}
	}
	for _, e := range w.here.layers() {
		head, failed := header(e.file(), e.Size, w.here.contents.Created)
		err = errors.Join(err, failed, lines.Encode(line{Blob: &place{e.Digest, e.Size, e.Chunk, w.here.blobs[e.Digest].offset - int64(len(head))}}))
	}
	if err == nil {
		err = writeFile(filepath.Join(w.o.Dir, journalName), journal.Bytes())
	}
	if err != nil {
		return writeError(err)
	}
	return nil
}

// copyChunk copies a chunk, at once where the file system lets files share their content.
func copyChunk(ctx context.Context, to string, c *chunkFile) (err error) {
	from, err := os.Open(c.path)
	if err != nil {
		return fmt.Errorf("continue the archive: %w", err)
	}
	defer from.Close()
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return writeError(err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if unix.IoctlFileClone(int(f.Fd()), int(from.Fd())) == nil {
		return nil
	}
	free, _, err := diskspace.Bytes(filepath.Dir(to))
	if err != nil {
		return err
	}
	if free < c.length {
		return &refusedError{hint.New(fmt.Errorf("the archive needs %s for a copy of %s, and %s are free", humanize.IBytes(uint64(c.length)), c.path, humanize.IBytes(uint64(free))),
			"free space there; or move the archive away, if it is carried as it is: the next one has what is new since it")}
	}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := io.CopyN(f, from, 256<<20); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return writeError(err)
		}
	}
}

// keepStanding returns an error if the archive would be without an image that the one there has, and
// that is still asked for.
func (w *Writer) keepStanding() error {
	if !w.takesOver() || w.images.plan == nil {
		return nil
	}
	failed := map[[2]string]bool{}
	_, failures := w.images.list()
	for _, f := range failures {
		failed[[2]string{f.Type, f.Origin}] = true
	}
	for _, i := range w.here.contents.Images {
		if failed[[2]string{i.Type, i.Origin}] {
			return hint.New(fmt.Errorf("%s stays in %s: it has %s, which failed now", w.here, w.o.Dir, i.Origin),
				"run the same command again when that can be read, since what has arrived is kept; or carry the archive, move its mirror_*.tar away, and then run it")
		}
	}
	return nil
}

// nothingNew reports whether the archive would have nothing that the one there, on which it builds,
// does not have.
func (w *Writer) nothingNew() bool {
	if !w.here.under(w.base) || w.here.damaged || w.here.contents == nil || w.here.kept() {
		return false
	}
	for d := range w.blobs {
		if _, ok := w.here.blobs[d]; !ok {
			return false
		}
	}
	for repo, tags := range w.images.tags {
		for tag, d := range tags {
			if w.here.tags[repo+":"+tag] != d {
				return false
			}
		}
		for d := range w.images.tagged(repo).manifests {
			if _, ok := w.here.blobs[d]; !ok {
				return false
			}
		}
	}
	_, failures := w.images.list()
	return len(failures) == 0 && w.here.of(w.o.ImageSet)
}

// tell describes the archive that was written.
func (w *Writer) tell() {
	if b := w.base.Base; b != nil && b.Sequence > 0 {
		w.o.Say("this is archive number %d: the other side needs number %d before it", w.sequence(), b.Sequence)
	}
	if _, failures := w.images.list(); len(failures) > 0 {
		w.o.Say("it is without some images: the same command again makes it with them, from what is in it. Or carry it as it is, and move its files out of %s: the next one builds on it then", w.o.Dir)
	}
}
