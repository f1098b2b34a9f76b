package catalog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/internal/diskspace"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror/layers"
	"github.com/mirror-appliance/appliance/mirror/operator"
	"github.com/mirror-appliance/appliance/mirror/rebuild"
)

// filesDir is the name of the directory of a catalog's files.
const filesDir = "catalog-files"

// Extract writes the files of the catalog to a directory below parent that has its digest in its
// name, and returns that. Files that are there were written whole: if none is missing and none has
// another size, nothing is read.
//
// The name is not the one that oc-mirror has, which leaves half of a catalog there when it is
// interrupted, and takes it for whole afterwards.
func (c *Catalog) Extract(ctx context.Context, parent string) (dir string, err error) {
	dir = filepath.Join(parent, c.Digest.Encoded(), filesDir)
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		if ok, err := intact(ctx, dir, false); ok || err != nil && !errors.Is(err, fs.ErrPermission) {
			return dir, err
		}
	}
	next := dir + ".next"
	if err := errors.Join(c.room(), discard(dir), os.RemoveAll(next)); err != nil {
		return "", err
	}
	if err := os.MkdirAll(next, 0o755); err != nil {
		return "", err
	}
	defer os.RemoveAll(next)
	root, err := os.OpenRoot(next)
	if err != nil {
		return "", err
	}
	err = layers.Extract(ctx, c.source, c.layers, c.Directory, root, c.room)
	if err == nil {
		err = c.whole(ctx, root, dir)
	}
	if err = errors.Join(err, root.Close()); err != nil {
		return "", c.full(parent, fmt.Errorf("extract the catalog of image %s: %w", c.Digest, err))
	}
	return dir, os.Rename(next, dir)
}

// unpacked is how many times its compressed layers the files of a catalog take, about: they are JSON, and
// the layers have other files too.
const unpacked = 5

// needs returns about how many bytes the files of the catalog take.
func (c *Catalog) needs() int64 { return c.size * unpacked }

// tight returns a warning where the files of the catalog may not fit below parent, "" if they do or are
// there.
func (c *Catalog) tight(parent string) string {
	if _, err := os.Stat(filepath.Join(parent, c.Digest.Encoded(), filesDir)); err == nil {
		return ""
	}
	dir := parent
	free, _, err := diskspace.Bytes(dir)
	for errors.Is(err, fs.ErrNotExist) && dir != filepath.Dir(dir) { // it is to be made
		dir = filepath.Dir(dir)
		free, _, err = diskspace.Bytes(dir)
	}
	if err != nil || c.needs() <= free {
		return ""
	}
	return fmt.Sprintf("its files need about %s below %s, where %s are free", humanize.IBytes(uint64(c.needs())), parent, humanize.IBytes(uint64(free)))
}

// full adds a hint to the error of a write to a full disk. Other errors are returned as they are.
func (c *Catalog) full(parent string, err error) error {
	if !errors.As(diskspace.Full(parent, 0, err), new(*diskspace.FullError)) {
		return err
	}
	remedy := fmt.Sprintf("free space and inodes there (df -h %s; df -i %[1]s), and run the same command again", parent)
	if c.size > 0 {
		remedy = fmt.Sprintf("the files of the catalog need about %s: %s", humanize.IBytes(uint64(c.needs())), remedy)
	}
	return hint.New(err, remedy)
}

// again calls f, which reads the files that Extract has put below parent. Where they are damaged it
// extracts them anew and calls f once more; warn is called before.
func (c *Catalog) again(ctx context.Context, parent string, warn func(damage error), f func() error) error {
	err := f()
	if !errors.Is(err, operator.ErrChanged) || ctx.Err() != nil {
		return err
	}
	warn(err)
	if err := discard(filepath.Join(parent, c.Digest.Encoded(), filesDir)); err != nil {
		return err
	}
	if _, err := c.Extract(ctx, parent); err != nil {
		return err
	}
	return f()
}

// whole returns an error if there are no files, lists those that there are for dir, and syncs them.
func (c *Catalog) whole(ctx context.Context, root *os.Root, dir string) error {
	all, err := sumUp(ctx, root.FS(), true)
	if err == nil && len(all) == 0 {
		err = hint.New(fmt.Errorf("its directory %s has no files", c.Directory),
			"tell the publisher of the catalog; opm render IMAGE shows what it has")
	}
	if err == nil {
		err = keepSums(all, dir)
	}
	if err != nil {
		return err
	}
	f, err := root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(f.Fd())), f.Close())
}

// rebuild makes an image in dir that has, in the place of the catalog's files and its cache, those
// that write writes as a tar, for each platform of the image. rebuild.Open opens it again. opm makes
// its cache when it starts: one with other files would stop it.
func (c *Catalog) rebuild(ctx context.Context, dir, tag string, write func(io.Writer) error) (*rebuild.Image, error) {
	without := []string{c.Directory}
	for _, cache := range c.caches {
		if filepath.Dir(cache) == "/" {
			cache += "/" // such as /tmp, which opm needs
		}
		without = append(without, cache)
	}
	return rebuild.Make(ctx, c.source, c.Digest.String(), dir, rebuild.Change{
		Without: without, Layer: write, Cmd: []string{"serve", c.Directory},
		Labels: map[string]string{labelConfigs: c.Directory}, Reason: "filtered operator catalog", Tag: tag,
	})
}
