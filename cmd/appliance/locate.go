package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"

	"github.com/spf13/pflag"

	"github.com/mirror-appliance/appliance/installer"
	"github.com/mirror-appliance/appliance/internal/home"
	"github.com/mirror-appliance/appliance/registry/config"
)

// locateOptions say which appliance of this host a command is about.
type locateOptions struct {
	config   string
	quayRoot string
}

func (o *locateOptions) addFlags(f *pflag.FlagSet) {
	pathVar(f, &o.config, "config", "", "its config.yaml (default: that of the installed service)")
	o.addRootFlag(f)
}

func (o *locateOptions) addRootFlag(f *pflag.FlagSet) {
	pathVar(f, &o.quayRoot, "quayRoot", "r", "its install directory (default: that of the installed service)")
}

// path is the config.yaml to use: the one named, the one in the directory named, the installed service's, or the
// one where install puts it by default.
func (o *locateOptions) path() (string, error) {
	if o.config != "" {
		return o.config, nil
	}
	if o.quayRoot != "" {
		root, err := filepath.Abs(o.quayRoot)
		if err != nil {
			return "", err
		}
		return config.Path(root), nil
	}
	if found, err := installer.Find(installerDeps(), os.Geteuid() != 0); err == nil {
		return found.Config, nil
	}
	dir, err := home.Dir()
	if err != nil {
		return "", &hintedError{err: err, hint: "name the appliance's directory with --quayRoot, or set HOME"}
	}
	return config.Path(filepath.Join(dir, "quay-install")), nil
}

// load reads that file, and returns its path as well.
func (o *locateOptions) load() (path string, cfg *config.Config, err error) {
	path, err = o.path()
	if err != nil {
		return "", nil, err
	}
	cfg, err = config.Load(path)
	if errors.Is(err, fs.ErrNotExist) {
		hint := "name its directory with --quayRoot, or put one on this host with: appliance install --quayHostname HOST"
		if os.Geteuid() != 0 && o.config == "" && o.quayRoot == "" {
			hint = "run the command as root if root installed it; else " + hint
		}
		return "", nil, &hintedError{err: fmt.Errorf("no appliance found: there is no %s", path), hint: hint}
	}
	return path, cfg, err
}

// capDACReadSearch lets a process go through directories that it may not read (capabilities(7)).
const capDACReadSearch = 2

// asOwner runs this very command again as the owner of the store when root has called it, and reports whether it
// did.
func asOwner(ctx context.Context, path string, cfg *config.Config, std stdio) (done bool, err error) {
	c, err := ownerCommand(ctx, path, cfg, os.Args[1:]...)
	if c == nil || err != nil {
		return false, err
	}
	c.Stdin, c.Stdout, c.Stderr = std.in, std.out, std.err
	// However this process ends, the other does not go on without it. The kernel takes the death of a thread for that.
	c.SysProcAttr.Pdeathsig = syscall.SIGTERM
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err = c.Run()
	if errors.Is(err, context.Canceled) && c.ProcessState.Success() {
		return true, nil // it was told of the signal, and ended as it should
	}
	return true, said(err)
}

// ownerCommand is a command of this program that is to run as the owner of the store, nil if this process is the owner
// already, or cannot become it. Opening the store as root would leave files behind that the daemon cannot open; and
// the owner, an unprivileged user, may have no way through /root to its own directory, so it keeps the one
// capability that finds it.
func ownerCommand(ctx context.Context, path string, cfg *config.Config, args ...string) (*exec.Cmd, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	info, err := os.Stat(cfg.Storage)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &hintedError{
			err:  fmt.Errorf("the directory of the blobs is not there: %s does not exist", cfg.Storage),
			hint: "mount the file system that has it; if it is lost, make it and give it to the service's user, and restore a backup: appliance restore",
		}
	}
	if err != nil {
		return nil, fmt.Errorf("find the owner of the store: %w", err)
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || owner.Uid == 0 {
		return nil, nil
	}
	// By this name the owner reaches the program also in /root. It would look for the service of its own, so the one
	// meant is named.
	c := exec.CommandContext(ctx, "/proc/self/exe", append(args, "--config", path)...)
	c.Args[0] = os.Args[0]
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
	c.SysProcAttr = &syscall.SysProcAttr{
		Credential:  &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid},
		AmbientCaps: []uintptr{capDACReadSearch},
	}
	return c, nil
}

// said passes the exit code on of a command that has said what was wrong.
func said(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return &saidError{code: exit.ExitCode()}
	}
	return err
}
