package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/internal/durable"
	"github.com/mirror-appliance/appliance/registry/admin/api"
)

const (
	// leastInFile is the size of the smallest blob that is written into a file of the store: two
	// requests more cost as much as sending a smaller one.
	leastInFile = 1 << 20
	// settleEvery is after how many bytes the daemon is told what is written. It hashes them then,
	// and checks that there is space for the rest.
	settleEvery = 64 << 20
	writeAtOnce = 256 << 10
	openFlags   = os.O_WRONLY | syscall.O_NOFOLLOW
)

// errNoFile says that a blob cannot be written into a file, and that nothing has been read of it.
var errNoFile = errors.New("the file of the blob cannot be written from here")

// files are those of the store, if this process may write into them.
type files struct {
	owner uint32      // the user that the daemon runs as
	off   atomic.Bool // it may not, after all
}

// takes reports whether a blob is to be written into a file. f may be nil.
func (f *files) takes(desc ocispec.Descriptor) bool {
	return f != nil && desc.Size >= leastInFile && !f.off.Load()
}

// open opens the file that the daemon names, if it is its own: another's would be changed with the
// rights of this process.
func (f *files) open(path string) (*os.File, error) {
	file, err := os.OpenFile(path, openFlags, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoFile, err)
	}
	info, err := file.Stat()
	if err == nil && (!info.Mode().IsRegular() || info.Sys().(*syscall.Stat_t).Uid != f.owner) {
		err = fmt.Errorf("%w: %s is not the daemon's", errNoFile, path)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// writeFile writes a blob from byte offset into its file in the store. What was written before an
// error is kept there. errNoFile when it has read nothing of body.
func (r *Run) writeFile(ctx context.Context, desc ocispec.Descriptor, offset int64, body io.Reader) (err error) {
	path, err := r.settle(ctx, desc, offset)
	var refused *Refused
	if errors.As(err, &refused) && !refused.Refused() {
		return fmt.Errorf("%w: %w", errNoFile, err) // something else puts the blob, or the file is gone
	}
	if err != nil {
		return err
	}
	file, err := r.client.files.open(path)
	if err != nil {
		r.client.files.off.Store(true)
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	w := &fileWriter{run: r, desc: desc, file: file, at: offset, settled: offset}
	w.disk.Told = offset
	return w.copy(ctx, body)
}

// PlaceBlob puts a large blob whose file place makes at a path in the store, as a link or a clone of
// another file. The daemon verifies it and takes it over; after an error the path is gone or left to
// collection. placed is false, without an error, if the blob is small or put by something else, or if
// place returns errors.ErrUnsupported: then PutBlob puts it. The daemon is on this host.
func (r *Run) PlaceBlob(ctx context.Context, repo string, desc ocispec.Descriptor, place func(path string) error) (placed bool, err error) {
	if desc.Size < leastInFile {
		return false, nil
	}
	path, err := r.settle(ctx, desc, 0)
	r.ended(desc.Digest, nil) // what an upload that broke off has left is gone
	var refused *Refused
	if errors.As(err, &refused) && !refused.Refused() {
		return false, nil // something else puts the blob
	}
	if err == nil {
		err = place(path)
	}
	if errors.Is(err, errors.ErrUnsupported) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, r.putRest(ctx, repo, desc, desc.Size, strings.NewReader(""))
}

// settle tells the daemon what is written, and returns the name of the file.
func (r *Run) settle(ctx context.Context, desc ocispec.Descriptor, written int64) (string, error) {
	a, err := call(ctx, r.client, api.WriteBlob, api.Written{Size: desc.Size, Written: written}, r.id, desc.Digest.String())
	return a.File, err
}

// fileWriter writes one blob.
type fileWriter struct {
	run     *Run
	desc    ocispec.Descriptor
	file    *os.File
	disk    durable.Behind
	at      int64
	settled int64 // what the daemon was told
}

func (w *fileWriter) copy(ctx context.Context, body io.Reader) error {
	buffer := make([]byte, writeAtOnce)
	for {
		n, readErr := io.ReadFull(body, buffer)
		if int64(n) > w.desc.Size-w.at {
			return readError(w.desc.Digest, errLonger)
		}
		if err := w.write(ctx, buffer[:n]); err != nil {
			return err
		}
		switch {
		case readErr == io.EOF, readErr == io.ErrUnexpectedEOF:
			if w.at < w.desc.Size {
				return readError(w.desc.Digest, io.ErrUnexpectedEOF)
			}
			return nil
		case readErr != nil:
			return readError(w.desc.Digest, readErr)
		}
	}
}

func (w *fileWriter) write(ctx context.Context, p []byte) error {
	n, err := w.file.WriteAt(p, w.at)
	w.at += int64(n)
	if err != nil {
		w.run.client.files.off.Store(true) // the daemon says why when it is sent the rest
		return fmt.Errorf("write blob %s: %w", w.desc.Digest, err)
	}
	w.disk.Wrote(w.file, w.at)
	if w.at-w.settled < settleEvery || w.at == w.desc.Size {
		return nil
	}
	w.settled = w.at
	_, err = w.run.settle(ctx, w.desc, w.at)
	return err
}

func readError(d digest.Digest, err error) error { return fmt.Errorf("read blob %s: %w", d, err) }
