// Package home finds home directories, and resolves ~ in paths as a shell does.
//
// $HOME counts where it is set. Under cloud-init, cron and systemd-run it is not, and then
// the user database does. os/user was refused as the only source: a static binary reads no
// more than /etc/passwd with it, while the users of a site are often in a directory
// service, which getent asks.
package home

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// ErrNone says that a user has no home directory, or does not exist.
var ErrNone = errors.New("no home directory")

// Dir returns the home directory of the calling user. errors.Is(err, ErrNone) when there is none.
func Dir() (string, error) {
	if dir := os.Getenv("HOME"); dir != "" {
		return dir, nil
	}
	dir := lookup(strconv.Itoa(os.Geteuid()), user.LookupId)
	if dir == "" {
		return "", fmt.Errorf("%w: HOME is not set, and the user database does not know user %d", ErrNone, os.Geteuid())
	}
	return dir, nil
}

// Expand resolves ~ and ~user at the beginning of a path, as a shell does, except in --flag=~/path.
func Expand(path string) (string, error) {
	if !strings.HasPrefix(path, "~") {
		return path, nil
	}
	name, rest, _ := strings.Cut(path[1:], "/")
	dir, err := Dir()
	if name != "" {
		if dir, err = lookup(name, user.Lookup), nil; dir == "" {
			err = fmt.Errorf("%w: there is no user %q", ErrNone, name)
		}
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return filepath.Join(dir, rest), nil
}

// lookup asks for a user by its name or number.
func lookup(key string, local func(string) (*user.User, error)) string {
	if u, err := local(key); err == nil {
		return u.HomeDir
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	line, err := exec.CommandContext(ctx, "getent", "passwd", "--", key).Output()
	fields := strings.Split(strings.TrimSpace(string(line)), ":")
	if err != nil || len(fields) != 7 {
		return ""
	}
	return fields[5]
}
