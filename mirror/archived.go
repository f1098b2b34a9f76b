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
}

// files are the documents of a run: those of an archive that is mirrored from, then those of the workspace.
type files struct {
	workspace
	archive documents // nil: none
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
