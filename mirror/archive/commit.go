package archive

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/durable"
)

// Commit completes the chunks and puts them in the place of the archive before. It does nothing for
// a run without an image, or without anything new, so that an archive that is there stays.
func (w *Writer) Commit(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.broken != nil {
		return w.broken
	}
	if w.complete == nil {
		if len(w.images.tags) == 0 {
			return nil
		}
		if w.nothingNew() {
			w.o.Say("nothing is new since %s in %s, which stays", w.here, w.o.Dir)
			return discard(w.o.Dir)
		}
		if err := w.keepStanding(); err != nil {
			return err
		}
		if err := w.addOthers(); err != nil {
			return err
		}
		if err := w.begin(); err != nil {
			return err
		}
		w.drop(w.torn, func(digest.Digest) bool { return true })
		if err := w.compact(ctx); err != nil {
			return err
		}
		back := w.layout.mark()
		done, err := w.write(ctx)
		if err != nil {
			return errors.Join(err, back())
		}
		w.complete = done
	}
	if err := finish(w.o.Dir, w.complete); err != nil {
		return err
	}
	w.tell()
	return nil
}

// write writes what follows the blobs, and syncs the chunks. With its last line in the journal the
// archive is whole.
func (w *Writer) write(ctx context.Context) (*committed, error) {
	c := &committing{Writer: w, ctx: ctx, history: maps.Clone(w.base.digests)}
	for _, step := range []func() error{c.manifests, c.links, c.documents, c.imageSet, c.contents} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	if err := w.layout.seal(w.chunkHeader()); err != nil {
		return nil, err
	}
	if err := writeHistory(filepath.Join(w.o.Dir, pendingHistory), c.history); err != nil {
		return nil, writeError(err)
	}
	now := w.o.Now().UTC()
	name := historyPrefix + now.Format(time.RFC3339)
	done := &committed{Chunks: len(w.layout.chunks), History: name, record: record{w.id, w.sequence(), w.layout.created, name}}
	if w.here.kept() && !w.here.under(w.base) && w.here.history != name {
		done.Replaces = w.here.history
	}
	if err := w.journal.write(line{Commit: done}); err != nil {
		return nil, err
	}
	if err := w.journal.file.Sync(); err != nil {
		return nil, writeError(err)
	}
	return done, syncDir(w.o.Dir)
}

// sequence returns the archive's number among those that build on each other.
func (w *Writer) sequence() int {
	if w.base.Base == nil {
		return 1
	}
	return w.base.Sequence + 1
}

func (w *Writer) chunkHeader() chunkHeader {
	h := chunkHeader{Format: format, Archive: w.id, Sequence: w.sequence()}
	if w.base.Base != nil {
		h.Previous = w.base.Archive
	}
	return h
}

// committing writes the small entries of an archive.
type committing struct {
	*Writer
	ctx     context.Context // of the commit
	entries []entry
	history map[digest.Digest]bool
}

// add writes an entry.
func (c *committing) add(e entry, data []byte) error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	head, err := header(e.file(), int64(len(data)), c.layout.created)
	if err != nil {
		return err
	}
	r, _, err := c.layout.reserve(int64(len(head)) + padded(int64(len(data))))
	if err != nil {
		return err
	}
	all := append(append(head, data...), make([]byte, padded(int64(len(data)))-int64(len(data)))...)
	if _, err := r.file.WriteAt(all, r.offset); err != nil {
		return writeError(err)
	}
	if e.Size, e.Chunk = int64(len(data)), r.number; e.Digest == "" {
		e.Digest = digest.FromBytes(data)
	}
	c.entries = append(c.entries, e)
	return nil
}

// manifests lists the blobs and writes the manifests of the images that are tagged.
func (c *committing) manifests() error {
	wanted := map[digest.Digest]bool{}
	for repo := range c.images.tags {
		of := c.images.tagged(repo)
		maps.Copy(wanted, of.manifests)
		maps.Copy(c.history, of.blobs)
		maps.Copy(c.history, of.manifests)
	}
	for _, d := range slices.Sorted(maps.Keys(c.blobs)) {
		b := c.blobs[d]
		c.entries = append(c.entries, entry{Digest: d, Size: b.size, Chunk: b.number})
	}
	for _, d := range slices.Sorted(maps.Keys(wanted)) {
		if c.blobs[d] != nil { // an image may have it as a layer too
			continue
		}
		m := c.images.manifests[d]
		if err := c.add(entry{Digest: d, Type: m.mediaType, Subject: m.parsed.Subject}, m.body); err != nil {
			return err
		}
	}
	return nil
}

// links writes what each repository has, whether its content is in the archive or on the far side
// already.
func (c *committing) links() error {
	for _, repo := range slices.Sorted(maps.Keys(c.images.tags)) {
		of := c.images.tagged(repo)
		for dir, digests := range map[string]map[digest.Digest]bool{"_manifests/revisions": of.manifests, "_layers": of.blobs} {
			for _, d := range slices.Sorted(maps.Keys(digests)) {
				name, data := link(repo, dir, d)
				if err := c.add(entry{Name: name}, data); err != nil {
					return err
				}
			}
		}
		for _, tag := range slices.Sorted(maps.Keys(c.images.tags[repo])) {
			if err := c.add(entry{Name: tagLink(repo, tag)}, []byte(c.images.tags[repo][tag])); err != nil {
				return err
			}
		}
	}
	return nil
}

// imageSet writes the user's file under oc-mirror's name for it.
func (c *committing) imageSet() error {
	return c.add(entry{Name: "isc_" + c.layout.created.Format(time.RFC3339)}, c.o.ImageSet)
}

// contents writes the list of all other entries.
func (c *committing) contents() error {
	list := contents{
		Format: format, Archive: c.id, Sequence: c.sequence(), Chunks: len(c.layout.chunks),
		Created: c.layout.created, Version: c.o.Version,
		BuildsOn: c.base.Base, Entries: c.entries, Others: c.others.came,
	}
	list.Images, list.Failures = c.images.list()
	list.Images = append(list.Images, c.listedOthers()...)
	leftOut := map[digest.Digest]bool{}
	for repo := range c.images.tags {
		for d := range c.images.tagged(repo).blobs {
			if c.blobs[d] == nil {
				leftOut[d] = true
			}
		}
	}
	list.LeftOut = len(leftOut)
	data, err := c.layout.listed(&list)
	if err != nil {
		return err
	}
	return c.add(entry{Name: contentsEntry}, data)
}

// listed returns a list as text. It may need a chunk itself, which it counts.
func (l *layout) listed(list *contents) ([]byte, error) {
	for {
		data, err := json.Marshal(list)
		if err != nil {
			return nil, err
		}
		back := l.mark()
		_, _, err = l.reserve(block + padded(int64(len(data))))
		n := len(l.chunks)
		if err = errors.Join(err, back()); err != nil {
			return nil, err
		}
		if n == list.Chunks {
			return data, nil
		}
		list.Chunks = n
	}
}

// finish puts whole chunks in the place of the archive before, and notes what they have. It can be
// repeated after a crash at any point.
func finish(dir string, c *committed) error {
	old, err := filepath.Glob(filepath.Join(dir, "mirror_[0-9][0-9][0-9][0-9][0-9][0-9].tar"))
	if err != nil {
		return err
	}
	for n := range c.Chunks {
		err := os.Rename(filepath.Join(dir, partialName(n+1)), filepath.Join(dir, chunkName(n+1)))
		if durable.IgnoreMissing(err) != nil { // a chunk that is not there has its name already
			return writeError(err)
		}
	}
	for _, path := range old {
		var n int
		if _, err := fmt.Sscanf(filepath.Base(path), "mirror_%06d.tar", &n); err == nil && n > c.Chunks {
			if err := os.Remove(path); err != nil {
				return writeError(err)
			}
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, historyDir), 0o755); err != nil {
		return writeError(err)
	}
	err = os.Rename(filepath.Join(dir, pendingHistory), filepath.Join(dir, historyDir, c.History))
	if durable.IgnoreMissing(err) != nil {
		return writeError(err)
	}
	if c.Replaces != "" { // no archive has to build on what never was carried
		if err := durable.IgnoreMissing(os.Remove(filepath.Join(dir, historyDir, c.Replaces))); err != nil {
			return writeError(err)
		}
	}
	if err := addRecord(dir, c.record, c.Replaces); err != nil {
		return err
	}
	if err := syncDir(dir); err != nil {
		return err
	}
	return discard(dir)
}

// syncDir makes names durable, where the file system can: a medium that is plugged in may have one
// that cannot.
func syncDir(dir string) error {
	err := durable.SyncDir(dir)
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) {
		return nil
	}
	return err
}

// writeFile writes a file of the workspace, and the directory that it is in.
func writeFile(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	tmp, err := os.OpenFile(path+"."+rand.Text()+".tmp", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	return durable.Replace(path, tmp, data)
}
