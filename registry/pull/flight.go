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

// Repositories do not share flights: that one of them may read a blob upstream
// says nothing of another.
type flightKey struct {
	repo   string
	digest digest.Digest
}

// A flight is a blob on its way into the store, and those who read it meanwhile.
// Locks are taken in the order Puller.mu, flight.mu.
type flight struct {
	key    flightKey
	place  *place
	cancel context.CancelFunc

	// Guarded by Puller.mu, as a reader may only come while the flight is listed there.
	readers   int
	landed    bool
	lingering *time.Timer

	mu      sync.Mutex // guards what follows
	changed chan struct{}
	started bool
	file    *os.File
	size    int64 // -1: not known
	written int64
	done    bool
	err     error
}

func newFlight(key flightKey, in *places, cancel context.CancelFunc) *flight {
	return &flight{key: key, place: in.place(cancel), cancel: cancel, changed: make(chan struct{}), size: -1}
}

func (f *flight) lingerFor(d time.Duration, then func()) { f.lingering = time.AfterFunc(d, then) }

func (f *flight) stopLingering() {
	if f.lingering != nil {
		f.lingering.Stop()
	}
}

// change changes the state and wakes all who wait for that.
func (f *flight) change(fn func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fn()
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *flight) start(file *os.File, size int64) {
	f.change(func() { f.started, f.file, f.size = true, file, size })
}

func (f *flight) arrived(n int) { f.change(func() { f.written += int64(n) }) }

func (f *flight) finish(err error) { f.change(func() { f.done, f.err = true, err }) }

func (f *flight) closeFile() {
	f.mu.Lock()
	defer f.mu.Unlock()
	closeQuietly(f.file)
	f.file = nil
}

// await waits until ready, which is called with mu held, says so.
func (f *flight) await(ctx context.Context, ready func() bool) error {
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

// sized waits until the size is known, or -1 with the blob held, or the flight failed.
func (f *flight) sized(ctx context.Context) (size int64, err error) {
	waitErr := f.await(ctx, func() bool {
		size, err = f.size, f.err
		return f.done || f.started && f.size >= 0
	})
	return size, errors.Join(waitErr, err)
}

// known returns the size if it is known already, or -1.
func (f *flight) known() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.size
}

// readable waits until there is something to read at pos and says up to where.
func (f *flight) readable(ctx context.Context, pos int64) (file *os.File, limit int64, err error) {
	waitErr := f.await(ctx, func() bool {
		file, limit, err = f.file, f.written, f.err
		if !f.done {
			limit = min(limit, f.size-1) // the last byte says that the whole is right
		}
		return f.done || limit > pos
	})
	return file, limit, errors.Join(waitErr, err)
}

// A reader follows a flight.
type reader struct {
	ctx    context.Context
	flight *flight
	size   int64
	leave  func()
	pos    int64
	closed bool
}

func (r *reader) Read(p []byte) (int, error) {
	if r.closed {
		return 0, os.ErrClosed
	}
	if len(p) == 0 {
		return 0, nil
	}
	file, limit, err := r.flight.readable(r.ctx, r.pos)
	if err != nil {
		return 0, err
	}
	if r.pos >= limit {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), limit-r.pos)]
	n, err := file.ReadAt(p, r.pos)
	r.pos += int64(n)
	if n > 0 {
		err = nil // an end of file here is that of what has arrived
	}
	return n, err
}

func (r *reader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		offset += r.pos
	case io.SeekEnd:
		offset += r.size
	default:
		return 0, errors.New("seek: no such whence")
	}
	if offset < 0 {
		return 0, errors.New("seek: before the start")
	}
	r.pos = offset
	return offset, nil
}

func (r *reader) Close() error {
	if r.closed {
		return nil
	}
	r.closed = true
	r.leave()
	return nil
}
