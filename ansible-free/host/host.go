// Package host changes a host in small idempotent steps: what Ansible did, without Ansible.
//
// Each step (Dir, File, Attr, Binary, SystemUser, Own, Remove, RemoveTree, Prune, RemoveUser) says in String what it does,
// changes only what differs, reports from Apply whether it changed anything, and takes back in Undo what
// its Apply did: the created is removed, the replaced is restored. Nothing is written in place: a file is
// written beside its name, synced, renamed and its directory synced, so that after a power cut there is
// the old file or the new one. What undo needs is held by the running process, never left on the disk.
//
// Every step works through the few primitives of Host, so that the same steps can serve a host over SSH.
// There is no interface for them before there is a second host.
//
// Refused: running useradd, chown or install(1) where a system call does the same; commands are
// run only for what belongs to another program (systemd-sysusers, userdel), and never through a shell.
package host

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// Exec runs a program to its end and returns what it wrote to stdout.
type Exec func(ctx context.Context, name string, args ...string) ([]byte, error)

// Host is a host that steps change.
type Host struct {
	root string // what stands for "/"; empty: "/" itself
	exec Exec
}

// Local is this host.
func Local() *Host { return &Host{exec: execHere} }

// Under is a host whose "/" is dir, for tests and for images. Programs are run by exec, which must itself
// see to it that they work on dir.
func Under(dir string, exec Exec) *Host { return &Host{root: filepath.Clean(dir), exec: exec} }

// Path is where path of this host is found by this process.
func (h *Host) Path(path string) string {
	if h.root == "" {
		return filepath.Clean(path)
	}
	return filepath.Join(h.root, path)
}

// Owner is a user and a group. A negative number stands for "as it is".
type Owner struct{ UID, GID int }

// AsIs leaves the owner alone: new files belong to the calling process.
func AsIs() Owner { return Owner{-1, -1} }

// Info is what Stat says of a path.
type Info struct {
	Mode  fs.FileMode // type and permissions
	Owner Owner
	Size  int64
}

// Stat describes path, without following it when it is a symbolic link. errors.Is(err, fs.ErrNotExist).
func (h *Host) Stat(path string) (Info, error) {
	fi, err := os.Lstat(h.Path(path))
	return infoOf(fi), err
}

// StatTarget is Stat, but follows symbolic links.
func (h *Host) StatTarget(path string) (Info, error) {
	fi, err := os.Stat(h.Path(path))
	return infoOf(fi), err
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

// Exists reports whether path is there, be it a dangling symbolic link.
func (h *Host) Exists(path string) (bool, error) {
	_, err := h.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return false, nil
	}
	return err == nil, err
}

// ReadFile returns the content of a file.
func (h *Host) ReadFile(path string) ([]byte, error) { return os.ReadFile(h.Path(path)) }

// Names lists a directory, sorted.
func (h *Host) Names(dir string) ([]string, error) {
	entries, err := os.ReadDir(h.Path(dir))
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}

// Sum is the SHA-256 of a file's content.
func (h *Host) Sum(path string) ([sha256.Size]byte, error) {
	var sum [sha256.Size]byte
	f, err := os.Open(h.Path(path))
	if err != nil {
		return sum, err
	}
	defer f.Close()
	w := sha256.New()
	if _, err := io.Copy(w, f); err != nil {
		return sum, err
	}
	w.Sum(sum[:0])
	return sum, nil
}

// Mkdir makes one directory. Its parent must exist.
func (h *Host) Mkdir(path string, mode fs.FileMode, owner Owner) error {
	if err := os.Mkdir(h.Path(path), 0o700); err != nil {
		return err
	}
	if err := h.SetDirAttr(path, mode, owner); err != nil {
		return errors.Join(err, os.Remove(h.Path(path)))
	}
	return syncDir(filepath.Dir(h.Path(path)))
}

// SetAttr sets the permissions and the owner of a file. A link in its place is refused: the directory may be
// the service's, which would have us give it whatever it likes.
func (h *Host) SetAttr(path string, mode fs.FileMode, owner Owner) error {
	return h.setAttr(path, syscall.O_NOFOLLOW|syscall.O_NONBLOCK, mode, owner)
}

// SetDirAttr does the same for a directory, or for the one that a link at path leads to.
func (h *Host) SetDirAttr(path string, mode fs.FileMode, owner Owner) error {
	return h.setAttr(path, syscall.O_DIRECTORY, mode, owner)
}

func (h *Host) setAttr(path string, flags int, mode fs.FileMode, owner Owner) error {
	f, err := os.OpenFile(h.Path(path), os.O_RDONLY|flags, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return setAttr(f, mode, owner)
}

// setAttr gives the file away before it opens it up, and then sets the mode, which chown may have reduced.
func setAttr(f *os.File, mode fs.FileMode, owner Owner) error {
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	have := infoOf(fi)
	if !have.Owner.satisfies(owner) {
		if err := f.Chown(owner.UID, owner.GID); err != nil {
			return err
		}
	}
	if fi.Mode().Perm() == mode.Perm() && have.Owner.satisfies(owner) {
		return nil
	}
	return f.Chmod(mode.Perm())
}

// satisfies says whether o is what want asks for.
func (o Owner) satisfies(want Owner) bool {
	return (want.UID < 0 || want.UID == o.UID) && (want.GID < 0 || want.GID == o.GID)
}

// Remove removes a file, a symbolic link or an empty directory.
func (h *Host) Remove(path string) error {
	if err := os.Remove(h.Path(path)); err != nil {
		return err
	}
	return syncDir(filepath.Dir(h.Path(path)))
}

// Run runs a program of this host. Never pass a secret: arguments are visible to everyone.
func (h *Host) Run(ctx context.Context, name string, args ...string) ([]byte, error) {
	return h.exec(ctx, name, args...)
}

// execHere finds name also where the PATH of a user does not look.
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
	// A group of its own, which Ctrl-C on a terminal does not reach: whether it ends is for ctx to say.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("run %s: %w: %s", name, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out, err
}
