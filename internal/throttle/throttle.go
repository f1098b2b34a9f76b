// Package throttle bounds how fast long work reads, so that pulls and pushes have the disk.
//
// Use Copy where all of a reader goes to one writer, and a Pace where a loop does its own reading.
// Both end with their context, also without a bound.
//
// Refused: a larger buffer (16 to 64 KiB were measured to be equally fast, and 1 MiB doubled the
// CPU time), and a burst of more than one buffer, since pulls would wait for all of it.
package throttle

import (
	"context"
	"io"

	"golang.org/x/time/rate"
)

// Buffer is how many bytes are read at a time.
const Buffer = 32 << 10

// Pace waits until n more bytes may be read. n is at most Buffer.
type Pace func(ctx context.Context, n int) error

// New returns a Pace of so many bytes a second, 0 for no bound.
func New(bytesPerSecond int64) Pace {
	if bytesPerSecond <= 0 {
		return func(ctx context.Context, _ int) error { return ctx.Err() }
	}
	return rate.NewLimiter(rate.Limit(bytesPerSecond), Buffer).WaitN
}

// Copy copies r to w, Buffer bytes at a time. It uses neither w's ReadFrom nor r's WriteTo.
func Copy(ctx context.Context, w io.Writer, r io.Reader, p Pace) (int64, error) {
	return io.CopyBuffer(onlyWriter{w}, Reader(ctx, r, p), make([]byte, Buffer))
}

type onlyWriter struct{ io.Writer }

// Reader returns a reader of r that is bounded by p and ends with ctx.
func Reader(ctx context.Context, r io.Reader, p Pace) io.Reader {
	return ReaderFunc(func(buffer []byte) (int, error) {
		n, err := r.Read(buffer[:min(len(buffer), Buffer)])
		if wait := p(ctx, n); wait != nil {
			return n, wait
		}
		return n, err
	})
}

// ReaderFunc is a function that reads.
type ReaderFunc func(p []byte) (int, error)

// Read calls f.
func (f ReaderFunc) Read(p []byte) (int, error) { return f(p) }
