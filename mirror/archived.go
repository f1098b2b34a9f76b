package mirror

import (
	"context"
	"errors"
	"io/fs"
	"sync"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/mirror-appliance/appliance/mirror/plan"
)

// planner is a destination that sees the plan after it was compared, before anything is put: it may
// not fit.
type planner interface {
	Planned(ctx context.Context, p *plan.Plan) error
}

// lister is a destination that lists what it lacks of the plan, before it commits the rest.
type lister interface{ Lacks(all []plan.Failure) }

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

// files are the documents of a run: those of an archive that is mirrored from, then those of the
// workspace.
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

// copyWhatIsHere copies those blobs of an image that the archive has, and then fails if there are
// others: they may come on another medium, and what was copied is not needed again then. Over a
// network an image fails at its first blob instead.
func (x *execution) copyWhatIsHere(ctx context.Context, image *plan.Image,
	blobs []ocispec.Descriptor, there map[place]bool) error {
	var g errgroup.Group
	g.SetLimit(x.o.ParallelLayers)
	var mu sync.Mutex // guards absent
	var absent error
	for _, b := range blobs {
		if there[place{image.Repository, b.Digest}] {
			continue
		}
		g.Go(func() error {
			err := x.copyBlob(ctx, image, b)
			if !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			absent = err
			return nil
		})
	}
	if err := errors.Join(g.Wait(), absent); err != nil {
		return err
	}
	for _, b := range blobs {
		there[place{image.Repository, b.Digest}] = true
	}
	return nil
}
