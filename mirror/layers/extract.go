package layers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// Source has the layers of an image.
type Source interface {
	Blob(ctx context.Context, d digest.Digest) (io.ReadCloser, int64, error)
}

// Extract writes the directory dir of an image with these layers, from the bottom to the top, to
// root, which is empty. Directories get mode 0755 and files 0644, of the user that runs this.
// Devices are left out. An image without the directory leaves root empty. Extract ends with the error
// that room returns, which is called often while files are written.
func Extract(ctx context.Context, source Source, layers []digest.Digest, dir string, root *os.Root, room func() error) error {
	dir, err := clean(dir)
	if err != nil {
		return fmt.Errorf("directory %q: %w", dir, err)
	}
	x := &extraction{dir: dir, root: root, room: room}
	for _, d := range layers {
		body, _, err := source.Blob(ctx, d)
		if err != nil {
			return fmt.Errorf("layer %s: %w", d, err)
		}
		x.here = map[string]bool{}
		if err := errors.Join(Read(body, x.apply), body.Close()); err != nil {
			return fmt.Errorf("layer %s: %w", d, err)
		}
	}
	return x.linked()
}

// remedy is the hint for an image that is not built as Extract reads one.
const remedy = "tell the publisher of the image, or build it again with the directory itself, and its files, where its label says: copied, not linked"

// extraction applies layers to a directory, one after another.
type extraction struct {
	dir  string // in the image
	root *os.Root
	// here are the names that the current layer has brought. Whiteouts are for the layers below it.
	here map[string]bool
	// link is the symbolic link that the directory, or one above it, is.
	link Entry

	files int
	bytes int64
	room  func() error
	asked int64 // bytes and entries written when room was asked last
}

// Units of what is written between two calls of room: an entry takes a block at least.
const (
	roomStep  = 1 << 20
	blockSize = 4 << 10
)

// grow is called when bytes or an entry are about to be written.
func (x *extraction) grow() error {
	if written := x.bytes + int64(x.files)*blockSize; written-x.asked >= roomStep {
		x.asked = written
		return x.room()
	}
	return nil
}

// sized counts the bytes of an extraction, and ends it at its bounds.
type sized struct {
	*extraction
	to io.Writer
}

func (s sized) Write(p []byte) (int, error) {
	if s.bytes += int64(len(p)); s.bytes > limits.extracted {
		return 0, fmt.Errorf("%s has more than %d bytes: %w", s.dir, limits.extracted, errLimit)
	}
	if err := s.grow(); err != nil {
		return 0, err
	}
	return s.to.Write(p)
}

func (x *extraction) apply(e Entry, content io.Reader) error {
	if !e.In(x.dir) {
		return x.above(e)
	}
	name := "."
	if e.Name != x.dir {
		name = strings.TrimPrefix(e.Name, x.dir+"/")
	}
	if x.files++; x.files > limits.files {
		return fmt.Errorf("%s has more than %d entries: %w", x.dir, limits.files, errLimit)
	}
	if err := x.grow(); err != nil {
		return err
	}
	switch e.Kind {
	case Whiteout, Opaque:
		return x.remove(name, e.Kind == Opaque || name == ".")
	case Directory:
		if e.Name == x.link.Name {
			x.link = Entry{}
		}
		x.here[name] = true
		return x.directory(name)
	}
	if name == "." {
		return x.above(e)
	}
	if err := x.replace(name); err != nil {
		return err
	}
	x.here[name] = true
	switch e.Kind {
	case File:
		return x.file(name, content)
	case Hardlink:
		return x.hardlink(name, e)
	case Symlink:
		return x.symlink(name, e.Target)
	}
	return nil // a device
}

// above applies an entry that is the directory, or above it, and no directory.
func (x *extraction) above(e Entry) error {
	if !(Entry{Name: x.dir}).In(e.Name) {
		return nil
	}
	if e.Name == x.link.Name || e.Kind == Whiteout || e.Kind == Opaque {
		x.link = Entry{}
	}
	switch e.Kind {
	case Directory:
		return nil
	case Whiteout, Opaque:
		return x.remove(".", true)
	case Symlink:
		x.link = e
	}
	clear(x.here)
	return x.remove(".", true)
}

// linked returns an error for a directory that is not where its name says.
func (x *extraction) linked() error {
	if x.link.Name != "" {
		return hint.New(fmt.Errorf("directory %s: %s is a symbolic link to %s, which is not followed", x.dir, x.link.Name, x.link.Target), remedy)
	}
	return nil
}

// remove removes what lower layers have at a name, or only below it.
func (x *extraction) remove(name string, below bool) error {
	info, err := x.root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.IsDir() {
		entries, err := fs.ReadDir(x.root.FS(), name)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := x.remove(path.Join(name, e.Name()), false); err != nil {
				return err
			}
		}
	}
	if below || x.here[name] {
		return nil
	}
	if err := x.root.Remove(name); err != nil && !errors.Is(err, syscall.ENOTEMPTY) {
		return err
	}
	return nil
}

// directory makes a directory and those above it, in the place of files if there are any.
func (x *extraction) directory(name string) error {
	if info, err := x.root.Lstat(name); err == nil && info.IsDir() {
		return nil
	} else if err == nil {
		if err := x.root.Remove(name); err != nil {
			return err
		}
	}
	if err := x.directory(path.Dir(name)); err != nil {
		return err
	}
	return x.root.Mkdir(name, 0o755)
}

// replace makes room for an entry.
func (x *extraction) replace(name string) error {
	if err := x.directory(path.Dir(name)); err != nil {
		return err
	}
	return x.root.RemoveAll(name)
}

func (x *extraction) file(name string, content io.Reader) error {
	f, err := x.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(sized{x, f}, content)
	return errors.Join(err, f.Close())
}

// hardlink copies the file that a hard link names: not every file system has links.
func (x *extraction) hardlink(name string, e Entry) error {
	target, ok := strings.CutPrefix(e.Target, x.dir+"/")
	if x.dir == "." {
		target, ok = e.Target, true
	}
	if !ok {
		return hint.New(fmt.Errorf("a hard link to %s, which is outside of %s", e.Target, x.dir), remedy)
	}
	if info, err := x.root.Lstat(target); err != nil {
		return err
	} else if !info.Mode().IsRegular() {
		return hint.New(fmt.Errorf("a hard link to %s, which is not a file", e.Target), remedy)
	}
	f, err := x.root.Open(target)
	if err != nil {
		return err
	}
	defer f.Close()
	return x.file(name, f)
}

// symlink makes a symbolic link, one that leads to a file of the directory. Its target is cleaned,
// so that ".." follows no name, which may be a link itself.
func (x *extraction) symlink(name, target string) error {
	to := path.Join("/", x.dir, path.Dir(name), target)
	if path.IsAbs(target) {
		to = path.Clean(target)
	}
	to, ok := strings.CutPrefix(to+"/", strings.TrimSuffix("/"+x.dir, "/.")+"/")
	if !ok || path.Clean(target) != strings.TrimSuffix(target, "/") {
		return hint.New(fmt.Errorf("a symbolic link to %s, which leads out of %s", target, x.dir), remedy)
	}
	return x.root.Symlink(strings.Repeat("../", strings.Count(name, "/"))+path.Clean(to), name)
}
