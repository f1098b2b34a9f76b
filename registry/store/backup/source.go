package backup

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/durable"
	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/internal/throttle"
	"github.com/mirror-appliance/appliance/registry/store/blobfile"
)

// source is what is restored from: a directory or a tar.
type source interface {
	database() (io.ReadCloser, error)            // is called first, and once
	blob(d digest.Digest) (io.ReadCloser, error) // in the order of digests; fs.ErrNotExist when it is not there
	Close() error
}

const whichBackup = "give the directory or the .tar that `appliance backup` wrote"

func (o RestoreOptions) open(path string) (source, error) {
	if o.From != nil {
		return &tarSource{path: path, file: io.NopCloser(o.From), tar: tar.NewReader(o.From)}, nil
	}
	return openBackup(path)
}

func openBackup(path string) (source, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &Error{Path: path, Reason: "is not there", hint: whichBackup}
	}
	if err != nil {
		return nil, fmt.Errorf("open backup: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if !info.IsDir() {
		return &tarSource{path: path, file: f, tar: tar.NewReader(f)}, nil
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, fmt.Errorf("open backup: %w", err)
	}
	lock, err := lockBackup(root, durable.Shared)
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return &dirSource{path: path, root: root, lock: lock}, nil
}

// dirSource reads below its directory only: a user who may write there must not choose what else is
// read with the rights of the one who restores.
type dirSource struct {
	path string
	root *os.Root
	lock *os.File
}

func (s *dirSource) database() (io.ReadCloser, error) {
	f, _, err := openRegular(s.root, databaseName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &Error{Path: s.path, Reason: "has no " + databaseName + " in it: it is no backup, or one whose first run was interrupted", hint: whichBackup}
	}
	return f, err
}

func (s *dirSource) blob(d digest.Digest) (io.ReadCloser, error) {
	f, _, err := openRegular(s.root, blobfile.Name(d))
	if err != nil {
		// A program that finds duplicates may have replaced it by a link, which
		// leads out of the backup.
		if info, statErr := s.root.Lstat(blobfile.Name(d)); statErr == nil && info.Mode()&fs.ModeSymlink != 0 {
			return nil, &fs.PathError{Op: "open", Path: blobfile.Name(d), Err: blobfile.ErrNotFile}
		}
		return nil, err
	}
	return f, nil
}

func (s *dirSource) Close() error { return errors.Join(s.lock.Close(), s.root.Close()) }

// tarSource reads a tar once, from front to end, as its blobs are asked for.
type tarSource struct {
	path string
	file io.ReadCloser
	tar  *tar.Reader
	last digest.Digest // that the reader has reached
	next digest.Digest // the blob that the reader stands before; "" once it is returned
	end  bool
}

func (s *tarSource) database() (io.ReadCloser, error) {
	header, err := s.tar.Next()
	if err != nil || header.Name != databaseName || header.Typeflag != tar.TypeReg {
		return nil, &Error{Path: s.path, Reason: "does not begin with " + databaseName + ": it is no backup", hint: whichBackup}
	}
	return io.NopCloser(s.tar), nil
}

func (s *tarSource) blob(d digest.Digest) (io.ReadCloser, error) {
	for !s.end && (s.next == "" || s.next < d) {
		if err := s.advance(); err != nil {
			return nil, err
		}
	}
	if s.end || s.next != d {
		return nil, fs.ErrNotExist
	}
	s.next = ""
	return io.NopCloser(s.tar), nil
}

// advance goes to the next blob. A tar that is cut off has come to its end: the missing blobs are
// reported one by one, and a partial restore has the others.
func (s *tarSource) advance() error {
	header, err := s.tar.Next()
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, tar.ErrHeader) {
		s.end = true
		return nil
	}
	if err != nil {
		return err
	}
	algorithm, rest, _ := strings.Cut(header.Name, "/")
	d := digest.NewDigestFromEncoded(digest.Algorithm(algorithm), path.Base(rest))
	if image.CheckDigest(d) != nil || filepath.ToSlash(blobfile.Name(d)) != header.Name ||
		header.Typeflag != tar.TypeReg || d <= s.last {
		return &Error{Path: s.path, Reason: "has the entry " + image.Quote(header.Name) + ", which does not belong there: `appliance backup` did not write it like this",
			hint: "unpack it and restore from the directory"}
	}
	s.last, s.next = d, d
	return nil
}

func (s *tarSource) Close() error { return s.file.Close() }

// Stream calls restore with a pipe that has the backup at path, a directory or a .tar, as a .tar:
// for a Restore in another process, whose user may not read the backup. *Error for the path.
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

// blobs writes the blobs of an algorithm in the order of their digests, which is
// that of their names.
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
	if err := s.tar.WriteHeader(&tar.Header{Format: tar.FormatPAX, Typeflag: tar.TypeReg,
		Name: name, Size: info.Size(), Mode: 0o600}); err != nil {
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
