// Package layers reads the layers of images: tar files that are plain, gzipped or compressed with
// zstd, whose whiteouts remove files of the layers below them.
//
// Use Read for the entries of one layer, and Extract for a directory as an image has it, in files.
// Both stream: a layer of any size takes the memory of a few buffers. A layer is never trusted: its
// entries, bytes and names have limits, and no file is written outside the directory that the
// caller gives.
//
// Refused: go-containerregistry's mutate.Extract, which holds the name of every file of an image
// and knows no limits, and containerd's archive.Apply, which needs root for owners and devices.
package layers

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// Kind is the kind of an entry.
type Kind int

// Kinds of entries. A whiteout removes the file or directory with its name from the layers below,
// an opaque entry all that is in the directory with its name. Devices, pipes and sockets are Other.
const (
	File Kind = iota
	Directory
	Symlink
	Hardlink
	Whiteout
	Opaque
	Other
)

// Entry is one entry of a layer.
type Entry struct {
	Kind   Kind
	Name   string // without a slash at either end, "." for the root
	Target string // of a hard link, as Name; of a symbolic link, as the layer has it
	Header *tar.Header
}

// In reports whether an entry is a directory, or concerns what is below it.
func (e Entry) In(dir string) bool {
	return dir == "." || e.Name == dir || strings.HasPrefix(e.Name, dir+"/")
}

const (
	whiteout = ".wh."
	opaque   = ".wh..wh..opq"
)

// limits bound one layer, and the files of a directory that is extracted. A real layer has up to
// some 100,000 entries and 5 GB; a catalog has 1 GB. The bytes of a directory are few, since a layer of
// some megabytes can unpack to thousands of times as many.
var limits = struct {
	entries, name, files int
	bytes, extracted     int64
}{entries: 2_000_000, name: 4096, files: 500_000, bytes: 64 << 30, extracted: 4 << 30}

// errLimit is in the chain of the error of a layer that is larger than a real one.
var errLimit = errors.New("no layer of a real image has that much")

// Read calls visit for each entry of a layer, with the content of a file. It reads r to its end,
// since that is where a reader verifies a digest, unless it returns an error. Of whiteouts of union
// file systems other than those of OCI (.wh..wh.plnk and such) visit sees none.
func Read(r io.Reader, visit func(Entry, io.Reader) error) error {
	body, end, err := decompress(r)
	if err != nil {
		return err
	}
	defer end()
	t := tar.NewReader(&limited{body, limits.bytes})
	var size int64 // of a sparse file more than the tar has
	for n := 0; ; n++ {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil && n >= limits.entries {
			err = fmt.Errorf("it has more than %d entries: %w", limits.entries, errLimit)
		}
		if err == nil && h.Size > limits.bytes-size {
			err = fmt.Errorf("its files have more than %d bytes: %w", limits.bytes, errLimit)
		}
		if err != nil {
			return fmt.Errorf("read the tar: %w", err)
		}
		size += h.Size
		entry, known, err := entryOf(h)
		if err == nil && known {
			err = visit(entry, t)
		}
		if err != nil {
			return fmt.Errorf("entry %q: %w", h.Name, err)
		}
	}
	_, err = io.Copy(io.Discard, r)
	return err
}

// decompress tells the compression by its magic number, since media types are not always right
// about it.
func decompress(r io.Reader) (body io.Reader, end func(), err error) {
	buffered := bufio.NewReaderSize(r, 64<<10)
	magic, _ := buffered.Peek(4) // a read repeats Peek's error
	switch {
	case strings.HasPrefix(string(magic), "\x1f\x8b"):
		z, err := gzip.NewReader(buffered)
		if err != nil {
			return nil, nil, fmt.Errorf("decompress the layer: %w", err)
		}
		return z, func() {}, nil
	case string(magic) == "\x28\xb5\x2f\xfd", len(magic) == 4 && magic[0]&0xf0 == 0x50 && string(magic[1:]) == "\x2a\x4d\x18":
		z, err := zstd.NewReader(buffered, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(128<<20), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, nil, fmt.Errorf("decompress the layer: %w", err)
		}
		return z, z.Close, nil
	}
	return buffered, func() {}, nil
}

// limited returns an error after n bytes, where io.LimitReader says that the file ends.
type limited struct {
	io.Reader
	n int64
}

func (l *limited) Read(p []byte) (int, error) {
	if l.n < 0 {
		return 0, fmt.Errorf("it unpacks to more than %d bytes: %w", limits.bytes, errLimit)
	}
	n, err := l.Reader.Read(p)
	l.n -= int64(n)
	return n, err
}

// entryOf reads a header. known is false for a header of another kind, such as a comment.
func entryOf(h *tar.Header) (e Entry, known bool, err error) {
	e = Entry{Header: h}
	if e.Name, err = clean(h.Name); err != nil {
		return e, false, err
	}
	dir, base := path.Split(e.Name)
	switch {
	case base == opaque:
		e.Kind, e.Name = Opaque, path.Clean("./"+dir)
		return e, true, nil
	case strings.HasPrefix(base, whiteout+whiteout):
		return e, false, nil
	case strings.HasPrefix(base, whiteout):
		if base = strings.TrimPrefix(base, whiteout); base == "" || base == "." || base == ".." {
			return e, false, errors.New("a whiteout of no file")
		}
		e.Kind, e.Name = Whiteout, path.Join(dir, base)
		return e, true, nil
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse:
		e.Kind = File
	case tar.TypeDir:
		e.Kind = Directory
	case tar.TypeSymlink:
		e.Kind, e.Target = Symlink, h.Linkname
	case tar.TypeLink:
		e.Kind = Hardlink
		e.Target, err = clean(h.Linkname)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		e.Kind = Other
	default: // global headers and such
		return e, false, nil
	}
	return e, true, err
}

// clean returns a name below the root. Engines write them with "./" or "/" in front, or neither.
func clean(name string) (string, error) {
	if len(name) > limits.name {
		return "", fmt.Errorf("the name has %d bytes: %w", len(name), errLimit)
	}
	if strings.Contains(name, "\x00") || slices.Contains(strings.Split(name, "/"), "..") {
		return "", hint.New(errors.New("the name leads out of its directory"), "tell the publisher of the image, or build it again: a name in a layer must not have ..")
	}
	return path.Clean("./" + strings.TrimLeft(name, "/")), nil
}
