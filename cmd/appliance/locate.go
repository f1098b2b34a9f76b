package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/pflag"

	"github.com/mirror-appliance/appliance/installer"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/home"
	"github.com/mirror-appliance/appliance/registry/config"
)

// locateOptions say which appliance of this host a command is about.
type locateOptions struct {
	config   string
	quayRoot string
	held     bool // the command is about what is held, and does not make a database
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
	inRoot := ""
	if o.quayRoot != "" {
		root, err := filepath.Abs(o.quayRoot)
		if err != nil {
			return "", err
		}
		inRoot = config.Path(root)
	}
	switch {
	case o.config == "" && inRoot != "":
		return inRoot, nil
	case o.config != "" && inRoot != "":
		if path, err := filepath.Abs(o.config); err != nil || path != inRoot {
			return "", hint.New(fmt.Errorf("--config is %s, and that of --quayRoot is %s", o.config, inRoot), "give one of the two")
		}
		return inRoot, nil
	case o.config != "":
		return o.config, nil
	}
	if found, err := installer.Find(installerDeps(), os.Geteuid() != 0); err == nil {
		return found.Config, nil
	}
	dir, err := home.Dir()
	if err != nil {
		return "", hint.New(err, "name the appliance's directory with --quayRoot, or set HOME")
	}
	return config.Path(filepath.Join(dir, "quay-install")), nil
}

// load reads that file, and finds out as whom to act on what it names.
func (o *locateOptions) load() (*installer.Identity, error) {
	path, err := o.path()
	if err != nil {
		return nil, err
	}
	id, err := installer.Identify(installerDeps(), path)
	if errors.Is(err, fs.ErrNotExist) {
		next := "name its directory with --quayRoot, or put one on this host with: appliance install --quayHostname HOST"
		if os.Geteuid() != 0 && o.config == "" && o.quayRoot == "" {
			next = "run the command as root if root installed it; else " + next
		}
		return nil, hint.New(fmt.Errorf("no appliance found: there is no %s", path), next)
	}
	return id, err
}
