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
	"path/filepath"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/durable"
	"github.com/mirror-appliance/appliance/internal/hint"
)

// sumsFile is beside the files of a catalog, and lists them. It is written before them.
const sumsFile = "catalog-sums"

// ErrDamaged is in the chain of the error for a catalog whose extracted files are not those of its
// image. They are removed, so that the next attempt extracts them again.
var ErrDamaged = hint.New(errors.New("the extracted files of the catalog are damaged"), "run it again: they are removed, and extracted again")

// sums are the files of a catalog by their names.
type sums map[string]sum

// sum is the size of a file, and the digest of its bytes.
type sum struct {
	Size   int64
	Digest digest.Digest `json:",omitempty"`
}

// sumUp lists the regular files below the root of a file system. Without digests no file is read.
func sumUp(ctx context.Context, files fs.FS, digests bool) (sums, error) {
	all := sums{}
	err := fs.WalkDir(files, ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		one := sum{Size: info.Size()}
		if digests {
			one.Digest, err = digestOf(ctx, files, name)
		}
		all[name] = one
		return err
	})
	return all, err
}

func digestOf(ctx context.Context, files fs.FS, name string) (digest.Digest, error) {
	f, err := files.Open(name)
	if err != nil {
		return "", err
	}
	of := digest.Canonical.Digester()
	_, err = io.Copy(of.Hash(), f)
	return of.Digest(), errors.Join(err, f.Close(), ctx.Err())
}

// keepSums writes the list of the files below root, which are to be renamed to dir.
func keepSums(all sums, dir string) error {
	text, err := json.Marshal(all)
	if err != nil {
		return err
	}
	name := filepath.Join(filepath.Dir(dir), sumsFile)
	tmp, err := newFile(name)
	if err == nil {
		err = durable.Replace(name, tmp, text)
	}
	if err != nil {
		return fmt.Errorf("keep the list of a catalog's files: %w", err)
	}
	return nil
}

// intact reports whether the files in dir are those that were listed when they were extracted: by
// their names and sizes, or by their bytes too. If there is no list, only the names and sizes are
// taken as right. What another user has made may be unreadable: fs.ErrPermission then.
func intact(ctx context.Context, dir string, bytes bool) (bool, error) {
	text, err := os.ReadFile(filepath.Join(filepath.Dir(dir), sumsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return !bytes, nil // of an earlier version
	}
	var want sums
	if errors.Is(err, fs.ErrPermission) {
		return false, err
	}
	if err != nil || json.Unmarshal(text, &want) != nil {
		return false, nil
	}
	got, err := sumUp(ctx, os.DirFS(dir), bytes)
	if errors.Is(err, fs.ErrPermission) {
		return false, err
	}
	if err != nil {
		return false, ctx.Err()
	}
	return maps.EqualFunc(got, want, func(g, w sum) bool { return g.Size == w.Size && (!bytes || g.Digest == w.Digest) }), nil
}

// discardDamaged removes the files in dir, and what was read of them, if they are not those of the
// catalog. It returns ErrDamaged then.
func discardDamaged(ctx context.Context, dir string) error {
	if ok, err := intact(ctx, dir, true); ok || err != nil {
		return err
	}
	return errors.Join(ErrDamaged, discard(dir))
}

// aside is in the name of what another user's run has left of a catalog, after its digest.
const aside = ".aside-"

// discard removes the files in dir, and what was read of them. What another user has made cannot be
// removed, and is moved aside: that user's next run removes it.
func discard(dir string) error {
	var err error
	for _, name := range []string{indexFile, imagesFile, filepath.Base(dir)} {
		err = errors.Join(err, os.RemoveAll(filepath.Join(filepath.Dir(dir), name)))
	}
	if of := filepath.Dir(dir); errors.Is(err, fs.ErrPermission) && os.Rename(of, of+aside+rand.Text()) == nil {
		return nil
	}
	return err
}
