package backup

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/internal/throttle"
	"github.com/mirror-appliance/appliance/registry/store/blobfile"
)

// Stream calls restore with a pipe that has the backup at path, a directory or a .tar, as a .tar: for
// a Restore in another process, whose user may not read the backup. *Error for the path.
func Stream(ctx context.Context, path string, restore func(in *os.File) error) error {
	source, err := openBackup(path)
	if err != nil {
		return err
	}
	defer source.Close()
	var database io.ReadCloser
	if dir, ok := source.(*dirSource); ok {
		if database, err = dir.database(); err != nil {
			return err
		}
		defer database.Close()
	}
	in, out, err := os.Pipe()
	if err != nil {
		return err
	}
	written := make(chan error, 1)
	go func() { written <- errors.Join(writeTar(ctx, source, database, out), out.Close()) }()
	err = restore(in)
	_ = in.Close() // which ends the writing, if restore has ended early
	if failed := <-written; err == nil && !errors.Is(failed, syscall.EPIPE) {
		return failed
	}
	return err
}

// writeTar writes a backup as a .tar. Damaged blobs stay damaged: Restore hashes them.
func writeTar(ctx context.Context, source source, database io.Reader, w io.Writer) error {
	if t, ok := source.(*tarSource); ok {
		_, err := throttle.Copy(ctx, w, t.file, throttle.New(0))
		return err
	}
	s := &tarStream{ctx: ctx, root: source.(*dirSource).root, tar: tar.NewWriter(w)}
	if err := s.file(databaseName, database.(*os.File)); err != nil {
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
