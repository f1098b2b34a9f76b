package pull

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
)

// A downloadKey includes the repository, because access to a blob at the upstream is a
// repository's.
type downloadKey struct {
	repo   string
	digest digest.Digest
}

// content is what came of a blob.
type content interface {
	io.ReaderAt
	io.Closer
}

// A download is a blob on its way into the store, and its readers. Lock order: lifetime.mu, mu.
type download struct {
	key    downloadKey
	place  *place
	cancel context.CancelFunc

	// Guarded by lifetime.mu: readers join only while the download is listed.
	readers   int
	ended     bool
	lingering *time.Timer

	mu      sync.Mutex // guards what follows
	changed chan struct{}
	started bool
	file    content // nil before start and after closeFile
	size    int64   // -1: unknown
	written int64
	done    bool
	err     error
}

func newDownload(key downloadKey, in *places, cancel context.CancelFunc) *download {
	return &download{key: key, place: in.place(cancel), cancel: cancel, changed: make(chan struct{}), size: -1}
}

func (f *download) stopLingering() {
	if f.lingering != nil {
		f.lingering.Stop()
	}
}

// change changes the state and wakes all waiters.
func (f *download) change(fn func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fn()
	close(f.changed)
	f.changed = make(chan struct{})
}

// start has readers follow a file of which written bytes are there.
func (f *download) start(file content, size, written int64) {
	f.change(func() { f.started, f.file, f.size, f.written = true, file, size, written })
}

func (f *download) arrived(n int) { f.change(func() { f.written += int64(n) }) }

func (f *download) finish(err error) { f.change(func() { f.done, f.err = true, err }) }

func (f *download) closeFile() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.file != nil {
		_ = f.file.Close()
	}
	f.file = nil
}

// await waits until ready returns true. ready is called with mu held.
func (f *download) await(ctx context.Context, ready func() bool) error {
	for {
		f.mu.Lock()
		ok, changed := ready(), f.changed
		f.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// sized waits for the size, and for the end of an empty blob: -1 with a nil error if the blob was
// stored without one.
func (f *download) sized(ctx context.Context) (size int64, err error) {
	waitErr := f.await(ctx, func() bool {
		size, err = f.size, f.err
		return f.done || f.started && f.size > 0
	})
	return size, errors.Join(waitErr, err)
}

// wait waits for the end. It calls arrived with the number of new bytes.
func (f *download) wait(ctx context.Context, arrived func(n int64)) (err error) {
	var seen int64
	waitErr := f.await(ctx, func() bool {
		arrived(f.written - seen)
		seen, err = f.written, f.err
		return f.done
	})
	return errors.Join(waitErr, err)
}

// begun reports whether the upstream has answered.
func (f *download) begun() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.started
}

// known returns the size, or -1 while it is unknown.
func (f *download) known() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.size
}

// readable waits for content at pos and returns the offset of its end.
func (f *download) readable(ctx context.Context, pos int64) (file content, limit int64, err error) {
	waitErr := f.await(ctx, func() bool {
		file, limit, err = f.file, f.written, f.err
		if !f.done {
			limit = min(limit, f.size-1) // the last byte means that the blob is verified
		}
		return f.done || limit > pos
	})
	return file, limit, errors.Join(waitErr, err)
}

// A reader follows a download. Its SectionReader reads from the download.
type reader struct {
	*io.SectionReader
	leave  func()
	closed bool
}

// newReader returns a reader of a blob of size bytes.
func newReader(ctx context.Context, f *download, size int64, leave func()) *reader {
	r := &reader{leave: leave}
	r.SectionReader = io.NewSectionReader(arriving{ctx, f}, 0, size)
	return r
}

func (r *reader) Read(p []byte) (int, error) {
	if r.closed {
		return 0, os.ErrClosed
	}
	return r.SectionReader.Read(p)
}

func (r *reader) Close() error {
	if !r.closed {
		r.closed = true
		r.leave()
	}
	return nil
}

// arriving reads a download. It returns fewer bytes than are asked for while the others arrive.
type arriving struct {
	ctx context.Context
	*download
}

func (a arriving) ReadAt(p []byte, pos int64) (int, error) {
	file, limit, err := a.readable(a.ctx, pos)
	switch {
	case err != nil:
		return 0, err
	case pos >= limit:
		return 0, io.EOF
	case file == nil:
		return 0, os.ErrClosed
	}
	n, err := file.ReadAt(p[:min(int64(len(p)), limit-pos)], pos)
	if n > 0 {
		err = nil // an end of the file is not the end of the blob
	}
	return n, err
}
