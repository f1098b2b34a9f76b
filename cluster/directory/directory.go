// Package directory writes the files of package cluster as a directory that is there whole or not
// at all.
//
// Use Check before the work, and Write. A directory that is there already is replaced if Write has
// made it and nothing in it was changed since: a user fills files in, and installations leave
// logins beside them. Refused: writing file by file into it, which an interruption leaves half old
// and half new.
package directory

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/cluster"
	"github.com/mirror-appliance/appliance/internal/durable"
	"github.com/mirror-appliance/appliance/internal/hint"
)

// record is the file that lists the others as they were written.
const record = ".cluster-config.json"

// changed are at most how many names an error lists.
const changed = 5

// Check returns an error if a directory may not be replaced.
func Check(dir string) error {
	_, err := inspect(dir)
	return err
}

// inspect returns whether there is a directory with something in it, and an error unless it may go.
func inspect(dir string) (there bool, err error) {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case errors.Is(err, unix.ENOTDIR):
		return false, hint.New(fmt.Errorf("%s is not a directory", dir), "name another one with --dir")
	case errors.Is(err, fs.ErrPermission):
		return false, hint.New(err, "run it as the owner of "+dir+", or name another directory with --dir")
	case err != nil:
		return false, err
	case len(entries) == 0:
		return true, nil
	}
	var made map[string]digest.Digest
	text, err := os.ReadFile(filepath.Join(dir, record))
	if err != nil || json.Unmarshal(text, &made) != nil {
		return true, hint.New(fmt.Errorf("%s has files, and was not made by this command", dir),
			"name another directory with --dir; with --force it is moved aside")
	}
	other, err := differences(dir, made)
	if err != nil {
		return true, err
	}
	if len(other) > 0 {
		return true, hint.New(fmt.Errorf("%s was changed since it was made: %s", dir, strings.Join(other, ", ")),
			"copy what you changed (an install-config.yaml is completed with --install-config FILE) and name another directory; with --force this one is moved aside")
	}
	return true, nil
}

// differences lists files that are not as they were written, or that were not.
func differences(dir string, made map[string]digest.Digest) (names []string, err error) {
	err = fs.WalkDir(os.DirFS(dir), ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || name == record {
			return err
		}
		if len(names) == changed {
			names = append(names, "…")
			return fs.SkipAll
		}
		text := []byte{}
		if made[name] != "" && e.Type().IsRegular() {
			if text, err = os.ReadFile(filepath.Join(dir, name)); err != nil {
				return err
			}
		}
		if made[name] != digest.FromBytes(text) {
			names = append(names, name)
		}
		return nil
	})
	return names, err
}

// Write makes a directory of files. With force, one that may not be replaced is moved aside, and
// its new name returned.
func Write(dir string, files []cluster.File, force bool) (aside string, err error) {
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return "", err
	}
	there, refused := inspect(dir)
	if refused != nil && !(force && there) {
		return "", refused
	}
	parent, err := openParent(filepath.Dir(dir))
	if err != nil {
		return "", err
	}
	defer parent.Close()
	tmp, err := os.MkdirTemp(filepath.Dir(dir), "."+filepath.Base(dir)+".*") // with mode 0700
	if err != nil {
		return "", fmt.Errorf("make a directory beside %s: %w", dir, err)
	}
	defer func() { _ = os.RemoveAll(tmp) }() // after an exchange it is what was there before
	if err := fill(parent, filepath.Base(tmp), files); err != nil {
		return "", fmt.Errorf("write %s: %w", dir, err)
	}
	if refused != nil {
		aside = free(dir)
		if err := os.Rename(dir, aside); err != nil {
			return "", err
		}
		there = false
	}
	if err := place(tmp, dir, there, exchange); err != nil {
		return aside, err
	}
	return aside, durable.SyncDir(filepath.Dir(dir))
}

// free returns a name for a directory that is moved aside.
func free(dir string) string {
	for n := 1; ; n++ {
		name := fmt.Sprintf("%s.before-%d", dir, n)
		if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) {
			return name
		}
	}
}

// exchange exchanges the names of two directories in one moment.
func exchange(a, b string) error {
	return unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
}

// place gives a directory its name. One that has the name gets the other's, in one moment where the
// file system can do that.
func place(tmp, dir string, there bool, exchange func(a, b string) error) error {
	if !there {
		return os.Rename(tmp, dir)
	}
	err := exchange(tmp, dir)
	if err == nil || !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSYS) {
		return err
	}
	old := tmp + ".old"
	if err := os.Rename(dir, old); err != nil {
		return err
	}
	if err := os.Rename(tmp, dir); err != nil {
		return errors.Join(err, os.Rename(old, dir))
	}
	return os.RemoveAll(old)
}

// fill writes the files and their record into a directory, and gives it to the owner of parent.
func fill(parent *os.Root, name string, files []cluster.File) error {
	made := map[string]digest.Digest{}
	for _, f := range files {
		made[f.Name] = digest.FromBytes(f.Data)
	}
	list, err := json.MarshalIndent(made, "", "  ")
	if err != nil {
		return err
	}
	dir, err := parent.OpenRoot(name) // another user may have changed what has this name
	if err != nil {
		return err
	}
	defer dir.Close()
	g := giver{parent}
	for _, f := range append(slices.Clone(files), cluster.File{Name: record, Data: append(list, '\n')}) {
		if !filepath.IsLocal(f.Name) {
			return fmt.Errorf("%q is not a name for a file", f.Name)
		}
		if err := dir.MkdirAll(filepath.Dir(f.Name), 0o755); err != nil {
			return err
		}
		if err := g.create(dir, f); err != nil {
			return err
		}
	}
	return g.giveDirs(dir)
}

// Mode returns the permissions of a file.
func Mode(f cluster.File) fs.FileMode {
	switch {
	case f.Secret:
		return 0o600
	case f.Executable:
		return 0o755
	}
	return 0o644
}
