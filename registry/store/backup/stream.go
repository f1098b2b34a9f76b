package backup

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/internal/throttle"
	"github.com/mirror-appliance/appliance/registry/store/blobfile"
)

// Opened is a backup that is read for a Restore in another process, whose user may not read it.
type Opened struct {
	source   source
	database io.ReadCloser // of a directory
}

// Open opens a backup: a directory or a .tar. *Error.
func Open(path string) (*Opened, error) {
	source, err := openBackup(path)
	if err != nil {
		return nil, err
	}
	b := &Opened{source: source}
	if dir, ok := source.(*dirSource); ok {
		if b.database, err = dir.database(); err != nil {
			return nil, errors.Join(err, source.Close())
		}
	}
	return b, nil
}

// Close closes it.
func (b *Opened) Close() error { return b.source.Close() }

// WriteTo writes the backup as a .tar. Damaged blobs stay damaged: Restore hashes them.
func (b *Opened) WriteTo(ctx context.Context, w io.Writer) error {
	if t, ok := b.source.(*tarSource); ok {
		_, err := throttle.Copy(ctx, w, t.file, throttle.New(0))
		return err
	}
	s := &tarStream{ctx: ctx, root: b.source.(*dirSource).root, tar: tar.NewWriter(w)}
	if err := s.file(databaseName, b.database.(*os.File)); err != nil {
		return err
	}
	for _, a := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
		if err := s.blobs(a); err != nil {
			return err
		}
	}
	return s.tar.Close()
}

// tarStream writes a directory as a tar.
type tarStream struct {
	ctx  context.Context
	root *os.Root
	tar  *tar.Writer
}

// blobs writes the blobs of an algorithm in the order of their digests, which is that of their names.
func (s *tarStream) blobs(a digest.Algorithm) error {
	return fs.WalkDir(s.root.FS(), a.String(), func(name string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || err == nil && e.IsDir() {
			return nil
		}
		d := digest.NewDigestFromEncoded(a, path.Base(name))
		if err != nil || image.CheckDigest(d) != nil || blobfile.Name(d) != name {
			return err
		}
		f, _, err := openRegular(s.root, name)
		if errors.Is(err, blobfile.ErrNotFile) || blobfile.IsDamage(err) {
			return nil // Restore reports that it is missing
		}
		if err != nil {
			return err
		}
		return s.file(name, f)
	})
}

func (s *tarStream) file(name string, f *os.File) error {
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := s.tar.WriteHeader(&tar.Header{Format: tar.FormatPAX, Typeflag: tar.TypeReg, Name: name, Size: info.Size(), Mode: 0o600}); err != nil {
		return err
	}
	var read readError
	n, err := throttle.Copy(s.ctx, s.tar, read.of(io.LimitReader(f, info.Size())), throttle.New(0))
	if err != nil && !blobfile.IsDamage(read.err) {
		return err
	}
	_, err = io.CopyN(s.tar, throttle.ReaderFunc(zeros), info.Size()-n) // which the header has promised
	return err
}
