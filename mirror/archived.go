package mirror

import (
	"context"
	"errors"
	"io/fs"

	"github.com/mirror-appliance/appliance/mirror/plan"
)

// planner is a destination that sees the plan after it was compared, before anything is put: it may not fit.
type planner interface {
	Planned(ctx context.Context, p *plan.Plan) error
}

func announce(ctx context.Context, p *plan.Plan, dst Destination) error {
	if d, ok := dst.(planner); ok {
		return d.Planned(ctx, p)
	}
	return nil
}

// documents are read by their names in working-dir.
type documents interface {
	Read(name string) ([]byte, error)
	List(dir string) ([]string, error)
}

// files are the documents of a run: those of an archive that is mirrored from, then those of the workspace.
type files struct {
	workspace
	archive documents // nil: none
}

// List returns the names of the documents in a directory, those of the archive first.
func (f files) List(dir string) ([]string, error) {
	here, err := f.workspace.List(dir)
	if err != nil || f.archive == nil {
		return here, err
	}
	there, err := f.archive.List(dir)
	return append(there, here...), err
}

func (f files) Read(name string) ([]byte, error) {
	if f.archive == nil {
		return f.workspace.Read(name)
	}
	data, err := f.archive.Read(name)
	if errors.Is(err, fs.ErrNotExist) {
		if data, err := f.workspace.Read(name); err == nil {
			return data, nil
		}
	}
	return data, err
}
