package archive

import (
	"bytes"
	"fmt"
	"hash"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// placed is a blob in a chunk, or the place for one.
type placed struct {
	*region
	header []byte
	size   int64
	beginning
}

// beginning is what has come of a blob that is not whole.
type beginning struct {
	came int64     // bytes
	hash hash.Hash // of these
}

// Write notes bytes that have come.
func (b *beginning) Write(p []byte) (int, error) {
	b.came += int64(len(p))
	return b.hash.Write(p)
}

// forget makes the next fill begin again: the bytes may be others.
func (b *beginning) forget() { *b = beginning{} }

// content is where the content begins in the chunk.
func (p *placed) content() int64 { return p.offset + int64(len(p.header)) }

// resume prepares the place and its content for the bytes that are missing.
func (p *placed) resume(desc ocispec.Descriptor, r io.Reader) error {
	s, ok := r.(io.Seeker)
	if p.hash == nil || !ok {
		p.beginning = beginning{hash: desc.Digest.Algorithm().Hash()}
		return nil
	}
	if _, err := s.Seek(p.came, io.SeekStart); err != nil {
		return fmt.Errorf("continue blob %s at byte %d: %w", desc.Digest, p.came, err)
	}
	return nil
}

// examine reports whether the blob is where it is said to be, with its header. If it is not, its
// beginning is what comes before the zeros at its end, which are holes that were not written.
func (p *placed) examine(d digest.Digest) bool {
	p.beginning = beginning{hash: d.Algorithm().Hash()}
	content := io.NewSectionReader(p.file, p.content(), p.size)
	zeros, buffer, err := int64(0), make([]byte, bufferSize), error(nil)
	for err == nil {
		var n int
		n, err = io.ReadFull(content, buffer)
		written := int64(len(bytes.TrimRight(buffer[:n], "\x00")))
		if written > 0 {
			writeZeros(&p.beginning, zeros)
			_, _ = p.Write(buffer[:written]) // a hash returns no error
			zeros = 0
		}
		zeros += int64(n) - written
	}
	if p.came+zeros != p.size { // the file ends before
		return false
	}
	whole, err := p.hash.(hash.Cloner).Clone()
	if err != nil {
		return false
	}
	writeZeros(whole, zeros)
	same := digest.NewDigest(d.Algorithm(), whole) == d
	if !same && zeros == 0 {
		p.forget() // it came whole, or other content was there before
	}
	return same && p.hasHeader()
}

func (p *placed) hasHeader() bool {
	head := make([]byte, len(p.header))
	_, err := p.file.ReadAt(head, p.offset)
	return err == nil && bytes.Equal(head, p.header)
}

func writeZeros(w io.Writer, n int64) {
	for zeros := make([]byte, min(n, bufferSize)); n > 0; n -= int64(len(zeros)) {
		_, _ = w.Write(zeros[:min(n, int64(len(zeros)))])
	}
}
