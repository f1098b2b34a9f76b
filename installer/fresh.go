package installer

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/mirror-appliance/appliance/ansible-free/host"
)

// fresh takes back what a first install's daemon wrote into directories that existed before. Where a
// database exists, it does nothing: what the daemon wrote belongs to that database.
type fresh struct {
	host     *host.Host
	database string
	dirs     []string

	before map[string][]string // names in each directory; nil: not a first install
}

func (s *fresh) String() string { return "" }

func (s *fresh) Apply(context.Context) (bool, error) {
	known, err := s.host.Exists(s.database)
	if err != nil || known {
		return false, err
	}
	before := make(map[string][]string)
	for _, dir := range s.dirs {
		if before[dir], err = s.host.Names(dir); err != nil {
			return false, err
		}
	}
	s.before = before
	return false, nil
}

func (s *fresh) Undo(ctx context.Context) error {
	var errs []error
	for dir, before := range s.before {
		names, err := s.host.Names(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		errs = append(errs, err)
		for _, name := range names {
			if !slices.Contains(before, name) {
				errs = append(errs, s.host.RemoveTree(ctx, filepath.Join(dir, name)))
			}
		}
	}
	return errors.Join(errs...)
}

func sameFile(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}
