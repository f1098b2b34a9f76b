package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/home"
)

// setHome gives HOME to a process that has none, as under cloud-init, cron and systemd-run:
// libraries and child processes look there too. A user without a home directory is not an error
// until a command needs one.
func setHome() error {
	if os.Getenv("HOME") != "" {
		return nil
	}
	dir, err := home.Dir()
	if errors.Is(err, home.ErrNone) {
		return nil
	}
	return errors.Join(err, os.Setenv("HOME", dir))
}

// pathValue is a flag that takes a path, or file:// and a path.
type pathValue struct{ path *string }

func (v pathValue) String() string {
	if v.path == nil {
		return ""
	}
	return *v.path
}
func (v pathValue) Type() string { return "string" }

func (v pathValue) Set(s string) (err error) {
	*v.path, err = expandPath(s)
	return err
}

// countValue is a flag that takes a number that is not negative.
type countValue struct{ n *int }

func (v countValue) String() string {
	if v.n == nil {
		return "0"
	}
	return strconv.Itoa(*v.n)
}
func (v countValue) Type() string { return "int" }

func (v countValue) Set(s string) error {
	n, err := strconv.Atoi(s)
	if err == nil && n < 0 {
		return hint.New(errors.New("it must not be negative"), "0 is not at all")
	}
	*v.n = n
	return err
}

// onceValue is a pathValue of which one is meant, since a second one would silently be the only one. A
// path - is standard input.
type onceValue struct {
	pathValue
	given bool
}

func (v *onceValue) Set(s string) error {
	before := *v.path
	if s == "-" {
		s = "/dev/stdin"
	}
	if err := v.pathValue.Set(s); err != nil {
		return err
	}
	if v.given && strings.TrimPrefix(*v.path, "file://") != strings.TrimPrefix(before, "file://") {
		return hint.New(fmt.Errorf("it is %s already", before), "name one, and run the command again with the other")
	}
	v.given = true
	return nil
}

// pathVar declares a flag that takes a path. Each path on a command line goes through it or through
// expandPath, so that ~ means the same everywhere.
func pathVar(f *pflag.FlagSet, p *string, name, shorthand, usage string) {
	f.VarP(pathValue{p}, name, shorthand, usage)
}

// noEmptyValue rejects flags that are given without a value, as by an unset variable of a script.
func noEmptyValue(c *cobra.Command, names ...string) error {
	for _, name := range names {
		if f := c.Flags().Lookup(name); f.Changed && f.Value.String() == "" {
			return hint.New(fmt.Errorf("--%s is empty", name), "name a value, or leave the flag out for its default")
		}
	}
	return nil
}

// errEmptyPath is for an unset variable of a script: it means neither the default
// nor this directory.
var errEmptyPath = hint.New(errors.New("the path is empty"), "name a path, or leave the flag out for its default")

// expandPath resolves ~ and ~user, which a shell does not in --flag=~/path and in file://~/path.
func expandPath(path string) (string, error) {
	if strings.TrimSpace(path) == "" {
		return "", errEmptyPath
	}
	const file = "file://"
	rest, scheme := strings.CutPrefix(path, file)
	rest, err := home.Expand(rest)
	if err != nil {
		return "", hint.New(err, "write the whole path, beginning with /")
	}
	if scheme {
		return file + rest, nil
	}
	return rest, nil
}
