package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"

	"github.com/mirror-appliance/appliance/installer"
	"github.com/mirror-appliance/appliance/installer/remote"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/plain"
)

// saidError is a failure that has been reported already; only its code is left to pass on.
type saidError struct{ code int }

func (e *saidError) Error() string { return fmt.Sprintf("exit code %d", e.code) }
func (e *saidError) ExitCode() int { return e.code }

// report prints an error once, and below it what to do, if the error knows.
func report(w io.Writer, err error) {
	var said *saidError
	if errors.As(err, &said) {
		return
	}
	if errors.Is(err, context.Canceled) {
		fmt.Fprintln(w, "error: stopped by a signal")
		return
	}
	text := err.Error()
	if errors.As(err, new(*installer.PreflightError)) { // with what to type for each problem
		text = typed(text)
	}
	fmt.Fprintln(w, "error:", plain.Text(text))
	if next := hintOf(err); next != "" {
		fmt.Fprintln(w, "hint:", plain.Text(typed(next)))
	}
}

// hintOf returns what to type next, or "".
func hintOf(err error) string { return cmp.Or(hint.Of(err), placeHint(err)) }

// ownCommand is a command of ours as messages write it.
var ownCommand = regexp.MustCompile("(^|[\\s(:;\"'`])" + `((?:sudo )?)appliance (install|uninstall|user|status|gc|verify|scrub|backup|restore|mirror|serve|prepare)\b`)

// typed makes the commands in a message work when they are typed: where this program is not found by its name, as with
// sudo's secure_path of RHEL, which lacks /usr/local/bin, they name its whole path.
func typed(text string) string {
	path := wholePathOf()
	if path == "" {
		return text
	}
	return ownCommand.ReplaceAllString(text, "${1}${2}"+path+" $3")
}

// wholePathOf is wholePath, but in tests.
var wholePathOf = wholePath

// wholePath is where this program lies, empty if its name alone is enough.
func wholePath() string {
	self, err := os.Executable()
	if err != nil || filepath.Base(self) != "appliance" || filepath.Dir(self) == "/proc/self" || remote.IsCopy(self) {
		return ""
	}
	found, err := exec.LookPath("appliance")
	if err != nil {
		return self
	}
	a, errA := os.Stat(found)
	b, errB := os.Stat(self)
	if errA == nil && errB == nil && os.SameFile(a, b) {
		return ""
	}
	return self
}

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
