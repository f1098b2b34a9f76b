// Package host changes a host in small idempotent steps: what Ansible did, without Ansible.
//
// Use a Journal to apply steps (Dir, File, Attr, Remove, Link, Own, Take, SystemUser): a step compares the host with its own
// values, changes what differs and reports whether it changed anything. What Undo needs is on disk before the change is
// made, so that a run that was killed can be undone. No file is written in place: after a power cut there is the old file
// or the new one.
//
// Steps work through the methods of Host, which open paths by descriptors (see walk.go), since an unprivileged service can
// write to directories in which root acts.
//
// Refused: useradd, chown or install(1) where a system call does the same; programs are run only for what belongs to another
// program (systemd-sysusers, userdel), and not through a shell.
package host

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/internal/durable"
)

// Exec runs a program to its end and returns what it wrote to stdout.
type Exec func(ctx context.Context, name string, args ...string) ([]byte, error)

// Host is a host that steps change.
type Host struct {
	root string // what stands for "/"; empty: "/" itself
	exec Exec
}

// Local returns this host.
func Local() *Host { return &Host{exec: execHere} }

// Under returns a host whose "/" is dir, for tests. exec runs programs, so that they work on dir.
func Under(dir string, exec Exec) *Host { return &Host{root: filepath.Clean(dir), exec: exec} }

// Path returns the path by which this process reaches a path of the host.
func (h *Host) Path(path string) string {
	if h.root == "" {
		return filepath.Clean(path)
	}
	return filepath.Join(h.root, path)
}

// Owner is a user and a group. A negative number stands for "as it is".
type Owner struct {
	UID int `json:"uid"`
	GID int `json:"gid"`
}

// AsIs leaves the owner alone: new files belong to this process.
func AsIs() Owner { return Owner{-1, -1} }

// Info describes a path.
type Info struct {
	Mode  fs.FileMode // type and permissions
	Owner Owner
	Size  int64
}

// Stat describes path, without following it when it is a symbolic link. absent(err).
func (h *Host) Stat(path string) (Info, error) { return h.stat(path, false) }

// StatTarget is Stat, but follows symbolic links.
func (h *Host) StatTarget(path string) (Info, error) { return h.stat(path, true) }

func (h *Host) stat(path string, follow bool) (info Info, err error) {
	err = h.withFile(path, follow, func(_ *os.File, fi fs.FileInfo) error { info = infoOf(fi); return nil })
	return info, err
}

func infoOf(fi fs.FileInfo) Info {
	if fi == nil {
		return Info{}
	}
	info := Info{Mode: fi.Mode(), Size: fi.Size(), Owner: AsIs()}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		info.Owner = Owner{int(st.Uid), int(st.Gid)}
	}
	return info
}

// Exists reports whether path exists, also as a dangling symbolic link.
func (h *Host) Exists(path string) (bool, error) {
	_, err := h.Stat(path)
	if absent(err) {
		return false, nil
	}
	return err == nil, err
}

// readLimit is far above the size of a file that an install reads as a whole.
const readLimit = 16 << 20

// ReadFile returns the content of a regular file.
func (h *Host) ReadFile(path string) ([]byte, error) {
	f, err := h.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, readLimit+1))
	if err == nil && len(content) > readLimit {
		err = fmt.Errorf("read %s: it has more than %d MiB", path, readLimit>>20)
	}
	return content, err
}

// Names lists a directory, sorted.
func (h *Host) Names(dir string) ([]string, error) {
	root, err := h.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	entries, err := fs.ReadDir(root.FS(), ".")
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}

// Sum returns the SHA-256 of a file's content, in hexadecimal digits.
func (h *Host) Sum(path string) (string, error) {
	f, err := h.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// Mkdir makes one directory. Its parent must exist.
func (h *Host) Mkdir(path string, mode fs.FileMode, owner Owner) error {
	dir, name, err := h.dir(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := dir.Mkdir(name, 0o700); err != nil {
		return err
	}
	made, err := h.walk(path, false, ours)
	if err == nil {
		err = errors.Join(setAttr(made, mode, owner), made.Close())
	}
	if err != nil {
		return errors.Join(err, dir.Remove(name))
	}
	return durable.SyncRoot(dir)
}

// SetAttr sets the permissions and the owner of a file. It rejects a link in its place, and a file of another owner that has
// more names than this one: in a directory of the service's, it may be any file of the host.
func (h *Host) SetAttr(path string, mode fs.FileMode, owner Owner) error {
	return h.withFile(path, false, func(f *os.File, fi fs.FileInfo) error {
		if !fi.Mode().IsRegular() {
			return notRegular(path, "not a regular file")
		}
		if !infoOf(fi).Owner.satisfies(owner) {
			if err := oneName(path, fi); err != nil {
				return err
			}
		}
		return setAttr(f, mode, owner)
	})
}

// SetDirAttr is SetAttr for a directory, or for the one that a link at path leads to.
func (h *Host) SetDirAttr(path string, mode fs.FileMode, owner Owner) error {
	return h.withFile(path, true, func(f *os.File, fi fs.FileInfo) error {
		if !fi.IsDir() {
			return &fs.PathError{Op: "open", Path: path, Err: syscall.ENOTDIR}
		}
		return setAttr(f, mode, owner)
	})
}

// withFile calls do with a descriptor of O_PATH.
func (h *Host) withFile(path string, follow bool, do func(*os.File, fs.FileInfo) error) error {
	f, err := h.walk(path, follow, ours)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	return do(f, fi)
}

// setAttr changes the owner and then the mode, which chown may have reduced. It works on a descriptor of O_PATH.
func setAttr(f *os.File, mode fs.FileMode, owner Owner) error {
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	have := infoOf(fi)
	if !have.Owner.satisfies(owner) {
		if err := chown(f, owner); err != nil {
			return err
		}
	}
	if fi.Mode().Perm() == mode.Perm() && have.Owner.satisfies(owner) {
		return nil
	}
	return os.Chmod(reopen(f), mode.Perm())
}

func chown(f *os.File, owner Owner) error {
	if err := unix.Fchownat(int(f.Fd()), "", owner.UID, owner.GID, unix.AT_EMPTY_PATH|unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &fs.PathError{Op: "chown", Path: f.Name(), Err: err}
	}
	return nil
}

// oneName rejects a file with more names than one: the others may be in directories of root's.
func oneName(path string, fi fs.FileInfo) error {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok && !fi.IsDir() && st.Nlink > 1 {
		return &HardLinkError{Path: path}
	}
	return nil
}

// HardLinkError says that the owner of a file is not changed, since the file has other names.
type HardLinkError struct{ Path string }

func (e *HardLinkError) Error() string {
	return e.Path + " has other names (hard links), and its owner is not changed"
}

func (e *HardLinkError) Hint() string {
	return "find them: find / -samefile " + e.Path + "; put a copy in its place if it belongs there"
}

// satisfies reports whether o is what want demands.
func (o Owner) satisfies(want Owner) bool {
	return (want.UID < 0 || want.UID == o.UID) && (want.GID < 0 || want.GID == o.GID)
}

// Readlink returns the target of the symbolic link at path.
func (h *Host) Readlink(path string) (string, error) {
	dir, name, err := h.dir(path)
	if err != nil {
		return "", err
	}
	defer dir.Close()
	return dir.Readlink(name)
}

// Run runs a program of this host. Arguments are visible to all users: do not pass a secret.
func (h *Host) Run(ctx context.Context, name string, args ...string) ([]byte, error) {
	return h.exec(ctx, name, args...)
}

// execHere finds name also in directories that the PATH of a user lacks.
func execHere(ctx context.Context, name string, args ...string) ([]byte, error) {
	path, err := exec.LookPath(name)
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/bin", "/bin"} {
		if err == nil {
			break
		}
		path, err = exec.LookPath(filepath.Join(dir, name))
	}
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", name, exec.ErrNotFound)
	}
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, path, args...)
	// A process group of its own: ctx ends the program, and Ctrl-C on a terminal does not.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("run %s: %w: %s", name, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out, err
}
