package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// placeHint is for an error about a file or directory whose finder had no better hint; empty if there is none.
func placeHint(err error) string {
	path := pathOf(err)
	switch {
	case path == "":
		return ""
	case errors.Is(err, syscall.ENOTDIR):
		return fmt.Sprintf("%s is not a directory: move it away, or name another place", firstFile(path))
	case errors.Is(err, syscall.EISDIR):
		return path + " is a directory, and a file is wanted there: name a file, or move the directory away"
	case errors.Is(err, fs.ErrPermission):
		return deniedHint(err)
	}
	return ""
}

// pathOf is the file that an error is about.
func pathOf(err error) string {
	var path *fs.PathError
	var link *os.LinkError
	switch {
	case errors.As(err, &path) && filepath.IsAbs(path.Path):
		return path.Path
	case errors.As(err, &link) && filepath.IsAbs(link.New):
		return link.New
	}
	return ""
}

// firstFile is what is in the way of a path that leads through something other than a directory.
func firstFile(path string) string {
	for dir := path; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err == nil && !info.IsDir() {
			return dir
		}
	}
	return path
}

// calledByRoot is in the environment of a command that root has run as the store's owner.
const calledByRoot = "APPLIANCE_CALLED_BY_ROOT"

// deniedHint returns what to do about a permission error: which user was denied, and where. Root cannot run as another user.
func deniedHint(err error) string {
	path := pathOf(err)
	var hint string
	switch {
	case os.Getenv(calledByRoot) != "":
		hint = fmt.Sprintf("the command acts as user %d, whose store it is, and that user was refused", os.Geteuid())
		if path != "" {
			hint += fmt.Sprintf(": namei -l %s shows where; give it back with chown %d", path, os.Geteuid())
		}
	case os.Geteuid() == 0:
		hint = "even root was refused: see lsattr for an immutable file, a network share that squashes root, and the journal for SELinux"
	default:
		hint = "run the command as root, or as the user who installed the appliance"
	}
	if link, to := firstLink(path); link != "" {
		hint = fmt.Sprintf("%s is a link to %s; %s", link, to, hint)
	}
	return hint
}

// firstLink is the first symbolic link on the way of a path, and where it leads.
func firstLink(path string) (link, to string) {
	for i := 1; i <= len(path); i++ {
		if i < len(path) && path[i] != '/' {
			continue
		}
		if to, err := os.Readlink(path[:i]); err == nil {
			return path[:i], strings.TrimSuffix(to, "/")
		}
	}
	return "", ""
}
