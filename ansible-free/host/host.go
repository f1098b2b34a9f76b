// Package host changes a host in small idempotent steps, as Ansible does.
//
// Use a Journal to apply steps (Dir, File, Remove, Link, Own, Take, SystemUser): a step compares
// the host with its own values, changes what differs and reports whether it changed anything. What
// Undo needs is on disk before the change is made, so that a run that was killed can be undone. No
// file is written in place: after a power cut there is the old file or the new one.
//
// Steps work through the methods of Host, which open paths by descriptors (see walk.go), since an
// unprivileged service can write to directories in which root acts.
//
// Refused: useradd, chown or install(1) where a system call does the same. A program is run for
// files that are its own (systemd-sysusers, userdel), and not through a shell.
package host

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
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

// asIs leaves the owner alone: new files belong to this process.
func asIs() Owner { return Owner{-1, -1} }

// Info describes a path.
type Info struct {
	Mode  fs.FileMode // type and permissions
	Owner Owner
	Size  int64
	Time  time.Time // of the last change
}

// Stat describes path, without following it when it is a symbolic link.
func (h *Host) Stat(path string) (Info, error) { return h.stat(path, false) }

// StatTarget is Stat, but follows symbolic links.
func (h *Host) StatTarget(path string) (Info, error) { return h.stat(path, true) }

func (h *Host) stat(path string, follow bool) (info Info, err error) {
	err = h.withFile(path, follow, func(_ *os.File, fi fs.FileInfo) error {
		info = infoOf(fi)
		return nil
	})
	return info, err
}

func infoOf(fi fs.FileInfo) Info {
	info := Info{Mode: fi.Mode(), Size: fi.Size(), Time: fi.ModTime(), Owner: asIs()}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		info.Owner = Owner{int(st.Uid), int(st.Gid)}
	}
	return info
}

// modeBits are the permissions of a directory, with those that its entries inherit or are kept by.
const modeBits = fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky

func modeOf(info Info) fs.FileMode { return info.Mode & modeBits }

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

// Run runs a program of this host. Arguments are visible to all users: do not pass a secret.
func (h *Host) Run(ctx context.Context, name string, args ...string) ([]byte, error) {
	return h.exec(ctx, name, args...)
}

// execHere finds name also in directories that the PATH of a user lacks.
func execHere(ctx context.Context, name string, args ...string) ([]byte, error) {
	path, err := "", error(nil)
	for _, dir := range []string{"", "/usr/sbin", "/sbin", "/usr/bin", "/bin"} {
		if path, err = exec.LookPath(filepath.Join(dir, name)); err == nil {
			break
		}
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
