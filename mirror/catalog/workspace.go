package catalog

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/durable"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror/operator"
	"github.com/mirror-appliance/appliance/mirror/plan"
)

const (
	// root is where a workspace has catalogs: NAME/DIGEST below it, as in oc-mirror.
	root = "operator-catalogs"
	// indexFile is beside the files of a catalog.
	indexFile = "catalog-index"
	// usedFile is beside the catalogs of one name, and lists which of them the references of image
	// sets mean.
	usedFile = "catalogs.json"
	// ofArchive is before a reference there that was read from an archive.
	ofArchive = "archive "
)

// name is the directory of the catalogs with the name of the entry's.
func (e *entry) name() string { return path.Base(e.ref.Path) }

func (e *entry) path(names ...string) string {
	return filepath.Join(append([]string{e.Dir, root, e.name()}, names...)...)
}

// read extracts the catalog and reads its index, unless the workspace has them. Files that cannot be
// read are extracted anew.
func (e *entry) read(ctx context.Context, warnings *[]string) error {
	if e.plain {
		return nil
	}
	if text := e.catalog.tight(e.path()); text != "" {
		*warnings = append(*warnings, fmt.Sprintf("%s: catalog %s: %s", e.image.Reason, e.ask.Catalog, text))
	}
	at := e.path(e.catalog.Digest.Encoded(), filesDir)
	_, absent := os.Stat(at)
	if absent == nil {
		ok, err := intact(ctx, at, false)
		if err == nil && !ok {
			err = errors.New("files are missing, or have other sizes")
		}
		if err != nil && ctx.Err() == nil {
			e.damaged(warnings, err)
		}
	}
	dir, err := e.catalog.Extract(ctx, e.path())
	if err != nil {
		return e.denied(err)
	}
	err = e.readFiles(ctx, dir)
	if err != nil && absent == nil && ctx.Err() == nil {
		e.damaged(warnings, err)
		if err = discard(dir); err == nil {
			dir, err = e.catalog.Extract(ctx, e.path())
		}
		if err == nil {
			err = e.readFiles(ctx, dir)
		}
	}
	if err == nil {
		err = e.use()
	}
	return e.denied(e.catalog.full(e.path(), err))
}

// denied adds a hint to an error about files of another user.
func (e *entry) denied(err error) error {
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return hint.New(err, "another user's run wrote it: give the workspace to the user of this one, chown -R USER "+e.path())
}

// OpenFiles returns the files of a catalog in a directory of this host.
func OpenFiles(dir string) (fs.FS, error) {
	const remedy = "name the directory of a file-based catalog, dir:///PATH, as opm render or a checkout of one writes it"
	if dir == "" {
		return nil, hint.New(errors.New("catalog dir:// names no directory"), remedy)
	}
	info, err := os.Stat(dir)
	var of *fs.PathError
	switch {
	case errors.As(err, &of):
		return nil, hint.New(fmt.Errorf("directory %s of the catalog: %w", dir, of.Err), remedy)
	case err != nil:
		return nil, err
	case !info.IsDir():
		return nil, hint.New(fmt.Errorf("%s, which is to have the catalog, is not a directory", dir), remedy)
	}
	return os.DirFS(dir), nil
}

// findFiles reads a catalog that is a directory of files. Its digest is that of their names and
// bytes.
func (e *entry) findFiles(ctx context.Context) (err error) {
	if e.catalog, err = bare(); err != nil {
		return err
	}
	if e.content, err = OpenFiles(e.ref.Path); err != nil {
		return err
	}
	if e.index, err = operator.Scan(ctx, e.content); err != nil {
		return err
	}
	all := digest.Canonical.Digester()
	err = fs.WalkDir(e.content, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		f, err := e.content.Open(name)
		if err != nil {
			return err
		}
		of := digest.Canonical.Digester()
		_, err = io.Copy(of.Hash(), f)
		fmt.Fprintf(all.Hash(), "%q %s\n", name, of.Digest())
		return errors.Join(err, f.Close())
	})
	e.original = all.Digest()
	return err
}

func (e *entry) readFiles(ctx context.Context, dir string) (err error) {
	e.index, e.content, err = readFiles(ctx, dir)
	return err
}

// readFiles reads the catalog in a directory, whose index is beside it.
func readFiles(ctx context.Context, dir string) (*operator.Index, fs.FS, error) {
	content := os.DirFS(dir)
	kept := filepath.Join(filepath.Dir(dir), indexFile)
	if index := readIndex(kept); index != nil {
		return index, content, nil
	}
	index, err := operator.Scan(ctx, content)
	if err == nil {
		err = writeIndex(kept, index)
	}
	return index, content, err
}

// digest returns the digest that names what the workspace has of the catalog.
func (e *entry) digest() digest.Digest {
	if e.plain {
		return e.original
	}
	return e.catalog.Digest
}

// collectHeld adds what the entry means of a catalog that an earlier run has read.
func (e *entry) collectHeld(ctx context.Context, p *plan.Plan) error {
	d, err := e.findHeld(ctx)
	if err != nil {
		return err
	}
	if err := e.addImages(ctx, p); err != nil {
		return err
	}
	if e.whole() {
		e.image.Reference = e.ref
		e.place(d)
		p.Images = append(p.Images, e.image)
		return nil
	}
	p.Warnings = append(p.Warnings, fmt.Sprintf("%s: catalog %s stays and offers its bundles until it is mirrored without them", e.image.Reason, e.ask.Catalog))
	return nil
}

// findHeld reads what an earlier run has read of the catalog, and returns the digest that names it. One
// that is plain files is not copied to the workspace: it is read as it is now.
func (e *entry) findHeld(ctx context.Context) (digest.Digest, error) {
	if e.plain {
		err := e.findFiles(ctx)
		if errors.Is(err, fs.ErrNotExist) {
			err = hint.New(fmt.Errorf("catalog %s is not there: %w", e.ask.Catalog, err),
				"the workspace has no copy of a directory: put it back as it was mirrored, and run the same command again")
		}
		return e.original, err
	}
	used := e.used()
	d, ok := used[e.ref.String()]
	for _, name := range []string{e.ref.String(), e.ask.UniqueName()} { // the second is of version 1
		if !ok {
			d, ok = used[ofArchive+name]
		}
	}
	if !ok && e.ref.Digest != "" { // of a pinned configuration, perhaps: a run read it by its tag
		_, err := os.Stat(e.path(e.ref.Digest.Encoded(), filesDir))
		d, ok = e.ref.Digest, err == nil
	}
	if !ok {
		return "", hint.New(fmt.Errorf("no run of this workspace has mirrored catalog %s", e.ask.Catalog),
			"name the catalog as the image set configuration of that run does, and its workspace with --workspace")
	}
	return d, e.readFiles(ctx, e.path(d.Encoded(), filesDir))
}

// readIndex returns the index in a file, nil if there is none that can be read.
func readIndex(name string) *operator.Index {
	f, err := os.Open(name)
	if err != nil {
		return nil
	}
	defer f.Close()
	index, err := operator.ReadIndex(f)
	if err != nil {
		return nil
	}
	return index
}

// newFile makes a file that is to take the place of another. Each user may read it, as the rest of a
// workspace: root and another user may run in it.
func newFile(path string) (*os.File, error) {
	return os.OpenFile(path+"."+rand.Text()+".tmp", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
}

func writeIndex(name string, index *operator.Index) error {
	tmp, err := newFile(name)
	if err != nil {
		return err
	}
	_, err = index.WriteTo(tmp)
	if err = durable.Finish(tmp, err); err == nil {
		err = os.Rename(tmp.Name(), name)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("keep the index of a catalog: %w", err), os.Remove(tmp.Name()))
	}
	return nil
}

// used lists catalogs of the workspace by the references that mean them.
func (e *entry) used() map[string]digest.Digest {
	used := map[string]digest.Digest{}
	raw, err := os.ReadFile(e.path(usedFile))
	if err == nil && json.Unmarshal(raw, &used) != nil {
		return map[string]digest.Digest{}
	}
	return used
}

// discardDamaged removes what the workspace has of the catalog's files if they are damaged, so that the
// next run reads them anew.
func (e *entry) discardDamaged(ctx context.Context) {
	if e.catalog != nil && !e.plain {
		_ = discardDamaged(ctx, e.path(e.digest().Encoded(), filesDir)) // an error of its own has been reported
	}
}

// use notes that the reference of the entry means its catalog, and removes those that none means
// any more.
func (e *entry) use() error {
	used, at := e.used(), e.ref.String()
	if e.Archive != nil {
		at = ofArchive + at
	}
	same := used[at] == e.digest()
	used[at] = e.digest()
	if !e.usePinned(used) && same {
		return nil
	}
	raw, err := json.Marshal(used)
	if err != nil {
		return err
	}
	tmp, err := newFile(e.path(usedFile))
	if err != nil {
		return err
	}
	if err := durable.Replace(e.path(usedFile), tmp, append(raw, '\n')); err != nil {
		return err
	}
	return e.prune(append(slices.Collect(maps.Values(used)), e.pinned()...))
}

func (e *entry) pinned() []digest.Digest {
	if e.Pinned == nil {
		return nil
	}
	return e.Pinned()
}

// usePinned notes that the name with the digest of the original means what an archive has of it, as a
// pinned configuration has it, and forgets originals that none has. It reports whether that is new.
func (e *entry) usePinned(used map[string]digest.Digest) bool {
	if e.Archive == nil || e.local() || e.original == "" {
		return false
	}
	name := ofArchive + e.ref.Name() + "@"
	at := name + e.original.String()
	if used[at] == e.digest() {
		return false
	}
	pinned := e.pinned()
	maps.DeleteFunc(used, func(key string, _ digest.Digest) bool {
		original, ok := strings.CutPrefix(key, name)
		return ok && !slices.Contains(pinned, digest.Digest(original))
	})
	used[at] = e.digest()
	return true
}

// prune removes the files of other catalogs. What oc-mirror has put there stays.
func (e *entry) prune(used []digest.Digest) error {
	dirs, err := os.ReadDir(e.path())
	if err != nil {
		return err
	}
	for _, d := range dirs {
		if !d.IsDir() || slices.ContainsFunc(used, func(u digest.Digest) bool { return u.Encoded() == d.Name() }) {
			continue
		}
		if _, err := os.Stat(e.path(d.Name(), indexFile)); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := os.RemoveAll(e.path(d.Name())); err != nil && !errors.Is(err, fs.ErrPermission) { // another user's run removes it
			return fmt.Errorf("remove an old catalog: %w", err)
		}
	}
	return nil
}
