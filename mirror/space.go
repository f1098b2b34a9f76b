package mirror

import (
	"context"
	"errors"
	"fmt"

	"github.com/dustin/go-humanize"

	"github.com/mirror-appliance/appliance/internal/diskspace"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror/plan"
)

// roomy is a destination that knows how many bytes it takes, how many more its file system has that are
// to stay free, and which one that is. An archive checks its own, see planner.
type roomy interface {
	Room(ctx context.Context) (free, kept int64, where string, err error)
}

// margin is for documents that are not in a plan.
const margin = 1 << 20

// fits returns an error if what is missing of a plan does not fit into the destination, or what a
// run writes besides into the workspace. It adds what it has found to the plan.
func (e *engine) fits(ctx context.Context, p *plan.Plan, dst Destination) error {
	if d, ok := dst.(roomy); ok {
		free, kept, where, err := d.Room(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			e.o.Log.Warn("the destination does not say how much it can take", "error", err)
		default:
			p.Space = append(p.Space, plan.Space{Where: e.o.Registry + ":" + where, Needs: p.Missing + e.o.Beside, Free: free, Kept: kept,
				Remedy: "delete images that are no longer needed and run `appliance gc` there, or enlarge that file system"})
		}
	}
	if err := e.workspaceFits(p); err != nil {
		return err
	}
	var short []error
	for _, s := range p.Space {
		if s.Needs > s.Free {
			short = append(short, tooSmall(s))
		}
	}
	return errors.Join(short...)
}

// tooSmall returns the error of a file system that is too small for a plan.
func tooSmall(s plan.Space) error {
	free, remedy := humanize.IBytes(uint64(max(s.Free+s.Kept, 0)))+" are free", s.Remedy
	if s.Kept > 0 {
		free += ", of which " + humanize.IBytes(uint64(s.Kept)) + " are kept free (minFree in the registry's config.yaml)"
		remedy += ", or lower minFree if it is set"
	}
	return hint.New(fmt.Errorf("the plan needs %s at %s, where %s: nothing is copied", humanize.IBytes(uint64(s.Needs)), s.Where, free), remedy)
}

// workspaceFits adds the workspace to the plan: reports and lists are about as large as the
// manifests.
func (e *engine) workspaceFits(p *plan.Plan) error {
	needs := int64(margin)
	for _, i := range p.Images {
		for _, m := range i.All() {
			needs += int64(len(m.Body))
		}
	}
	dir := e.workspace.path("")
	free, _, err := diskspace.Bytes(dir)
	if err == nil {
		p.Space = append(p.Space, plan.Space{Where: dir, Needs: needs, Free: free,
			Remedy: "free space on that file system, or name a workspace elsewhere with --workspace"})
	}
	return err
}
