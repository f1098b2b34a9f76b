package adopt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// mismatch reports whether the appliance has refused content, and would take other.
func mismatch(err error) bool {
	var m interface{ Mismatch() bool }
	return errors.As(err, &m) && m.Mismatch()
}

// has reports whether the source has the file of a blob.
func (im *importer) has(d digest.Digest) bool {
	_, err := im.source.Files().Lstat(im.source.BlobName(d))
	return err == nil
}

// bring stages blobs for a repository, and returns what is wrong with those that it cannot.
func (im *importer) bring(ctx context.Context, repository string, wanted map[digest.Digest]ocispec.Descriptor) (map[digest.Digest]string, error) {
	left, err := im.lacking(ctx, repository, wanted)
	if err != nil {
		return nil, err
	}
	bad := map[digest.Digest]string{}
	results := make([]string, len(left))
	indexes := make([]int, len(left))
	for i := range indexes {
		indexes[i] = i
	}
	err = each(ctx, indexes, func(ctx context.Context, i int) (err error) {
		results[i], err = im.blob(ctx, repository, left[i])
		return err
	})
	for i, desc := range left {
		if results[i] != "" {
			bad[desc.Digest] = results[i]
		}
		im.note(desc, results[i])
	}
	return bad, err
}

// note remembers a blob, and counts it the first time.
func (im *importer) note(desc ocispec.Descriptor, bad string) {
	im.count(func(r *Report) {
		if im.blobs[desc.Digest] == nil {
			im.blobs[desc.Digest] = &blob{bad: bad}
			if bad == "" {
				r.Blobs++
				r.BlobBytes += desc.Size
			}
		}
	})
}

// lacking stages the blobs that the appliance has, and returns the others.
func (im *importer) lacking(ctx context.Context, repository string, wanted map[digest.Digest]ocispec.Descriptor) (left []ocispec.Descriptor, err error) {
	have := map[digest.Digest]bool{}
	if im.o.Run != nil && len(wanted) > 0 {
		var ask []digest.Digest
		for d := range wanted {
			ask = append(ask, d)
		}
		there, _, elsewhere, err := im.o.Run.Existing(ctx, map[string][]digest.Digest{repository: ask}, nil)
		if err != nil {
			return nil, err
		}
		confirm := map[string][]ocispec.Descriptor{}
		for _, d := range elsewhere[repository] {
			confirm[repository] = append(confirm[repository], wanted[d])
		}
		if len(confirm) > 0 {
			staged, err := im.o.Run.Confirm(ctx, confirm)
			if err != nil {
				return nil, err
			}
			there[repository] = append(there[repository], staged[repository]...)
		}
		for _, d := range there[repository] {
			have[d] = true
		}
	}
	for d, desc := range wanted {
		if !have[d] {
			left = append(left, desc)
			continue
		}
		if im.blobs[d] == nil {
			im.count(func(r *Report) { r.Kept++ })
		}
		im.note(desc, "")
	}
	return left, nil
}

// blob brings one blob, or returns what is wrong with it.
func (im *importer) blob(ctx context.Context, repository string, desc ocispec.Descriptor) (bad string, err error) {
	f, info, err := openFile(im.source.Files(), im.source.BlobName(desc.Digest))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "is missing", nil
	case errors.Is(err, fs.ErrPermission): // so would be the others
		return "", hint.New(err, "run the command as a user who may read the files, such as root: sudo appliance adopt DIRECTORY")
	case err != nil:
		return "cannot be read: " + err.Error(), ctx.Err()
	}
	defer f.Close()
	if info.Size() != desc.Size {
		return otherSize(info.Size(), desc.Size), nil
	}
	if im.o.Run == nil {
		return "", nil
	}
	var how atomic.Int32
	placed, err := im.o.Run.PlaceBlob(ctx, repository, desc, func(path string) error {
		cloned, err := im.place(f, info, path)
		if cloned {
			how.Store(1)
		}
		return err
	})
	if err == nil && !placed {
		err = im.o.Run.PutBlob(ctx, repository, desc, f)
	}
	if mismatch(err) {
		return "has other content than its digest says", nil
	}
	if err != nil {
		return "", fmt.Errorf("blob %s: %w", desc.Digest, err)
	}
	im.count(func(r *Report) {
		switch {
		case placed && how.Load() == 1:
			r.Cloned++
		case placed:
			r.Linked++
		default:
			r.Copied++
		}
	})
	return "", nil
}

// place makes a clone or a link of a file at a path in the store. errors.ErrUnsupported when it
// cannot.
//
// The store's directories belong to the service, which could lead root elsewhere: the path is
// followed within the storage only, to a directory of the service's.
func (im *importer) place(f *os.File, info fs.FileInfo, path string) (cloned bool, err error) {
	rel, err := filepath.Rel(im.o.Storage, path)
	if err != nil || !filepath.IsLocal(rel) {
		return false, fmt.Errorf("%s is not in the storage %s", path, im.o.Storage)
	}
	storage, err := os.OpenRoot(im.o.Storage)
	if err != nil {
		return false, err
	}
	defer storage.Close()
	dir, err := storage.OpenRoot(filepath.Dir(rel))
	if err != nil {
		return false, err
	}
	defer dir.Close()
	if at, err := dir.Stat("."); err != nil {
		return false, err
	} else if int(at.Sys().(*syscall.Stat_t).Uid) != im.o.UID {
		return false, fmt.Errorf("%s does not belong to the appliance", filepath.Dir(path))
	}
	name := filepath.Base(rel)
	if err := dir.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if im.clone(f, dir, name) {
		return true, nil
	}
	if im.o.Way == Copy || !im.mayLink(info) {
		return false, errors.ErrUnsupported
	}
	return false, im.link(f, info, dir, name)
}

// clone shares the blocks of a file, where the file system can.
func (im *importer) clone(f *os.File, dir *os.Root, name string) bool {
	im.mu.Lock()
	no := im.noClone
	im.mu.Unlock()
	if no {
		return false
	}
	to, err := dir.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return false
	}
	defer to.Close()
	err = unix.IoctlFileClone(int(to.Fd()), int(f.Fd()))
	if err == nil && os.Geteuid() == 0 {
		err = to.Chown(im.o.UID, im.o.GID)
	}
	if err == nil {
		return true
	}
	im.mu.Lock()
	im.noClone = true // for any reason: the other ways are as good
	im.mu.Unlock()
	_ = dir.Remove(name) // PutBlob begins it again
	return false
}

// mayLink reports whether a file may become one of the store's, which gives it to the service. The
// other registry must still be able to read it; and a file that has other names already may be any
// user's, linked here to be given away.
func (im *importer) mayLink(info fs.FileInfo) bool {
	stat := info.Sys().(*syscall.Stat_t)
	if int(stat.Uid) == im.o.UID {
		return true // also what a killed import has linked
	}
	return os.Geteuid() == 0 && stat.Nlink == 1 && (stat.Uid == 0 || info.Mode()&0o004 != 0)
}

// link gives the file a second name. It links the open file: the name could be another's by now.
func (im *importer) link(f *os.File, info fs.FileInfo, dir *os.Root, name string) error {
	at, err := dir.Open(".")
	if err != nil {
		return err
	}
	defer at.Close()
	err = unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", f.Fd()), int(at.Fd()), name, unix.AT_SYMLINK_FOLLOW)
	if err != nil {
		return errors.ErrUnsupported // another file system, or one without links
	}
	mode := info.Mode().Perm()&0o644 | 0o600 // which no other user can write to
	if err = f.Chmod(mode); err == nil && os.Geteuid() == 0 {
		err = f.Chown(im.o.UID, im.o.GID)
	}
	if err != nil {
		return errors.Join(err, dir.Remove(name))
	}
	return nil
}
