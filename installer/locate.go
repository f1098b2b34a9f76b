package installer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/home"
	"github.com/mirror-appliance/appliance/registry/config"
)

// Locate returns the identity to act with on an appliance of this host: that of the configuration
// file file, of the install directory root, or, if both are empty, of the installed service, or of
// the directory where install puts one by default.
func Locate(d Deps, file, root string) (*Identity, error) {
	path, err := locate(d, file, root)
	if err != nil {
		return nil, err
	}
	id, err := identify(d, path)
	if errors.Is(err, fs.ErrNotExist) {
		next := "name its directory with --quayRoot, or put one on this host with: appliance install --quayHostname HOST"
		if os.Geteuid() != 0 && file == "" && root == "" {
			next = "run the command as root if root installed it; else " + next
		}
		return nil, hint.New(fmt.Errorf("no appliance found: there is no %s", path), next)
	}
	return id, err
}

func locate(d Deps, file, root string) (string, error) {
	inRoot := ""
	if root != "" {
		root, err := filepath.Abs(root)
		if err != nil {
			return "", err
		}
		inRoot = config.Path(root)
	}
	switch {
	case file == "" && inRoot != "":
		return inRoot, nil
	case file != "" && inRoot != "":
		if path, err := filepath.Abs(file); err != nil || path != inRoot {
			return "", hint.New(fmt.Errorf("--config is %s, and that of --quayRoot is %s", file, inRoot), "give one of the two")
		}
		return inRoot, nil
	case file != "":
		return file, nil
	}
	if found, err := find(d, os.Geteuid() != 0); err == nil {
		return found.Config, nil
	}
	dir, err := home.Dir()
	if err != nil {
		return "", hint.New(err, "name the appliance's directory with --quayRoot, or set HOME")
	}
	return config.Path(filepath.Join(dir, "quay-install")), nil
}
