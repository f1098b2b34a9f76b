package mirror

import (
	"context"

	"github.com/mirror-appliance/appliance/mirror/plan"
)

// Engine is the engine of Run, for tests that look between its steps.
type Engine = engine

func New(o Options) (*Engine, error) { return newEngine(o) }

func (e *engine) Plan(ctx context.Context) (*plan.Plan, error) { return e.collect(ctx) }

func (e *engine) Compare(ctx context.Context, p *plan.Plan, dst Destination) error {
	_, err := e.compare(ctx, p, dst)
	return err
}

func (e *engine) Execute(ctx context.Context, p *plan.Plan, dst Destination) (*Report, error) {
	return e.execute(ctx, p, dst, nil)
}

// CompareAndExecute compares, and executes with what the destination has answered, as Run does.
func (e *engine) CompareAndExecute(ctx context.Context, p *plan.Plan, dst Destination) (*Report, error) {
	has, err := e.compare(ctx, p, dst)
	if err != nil {
		return nil, err
	}
	return e.execute(ctx, p, dst, has)
}

func (e *engine) WriteResults(r *Report) error { return e.writeResults(r) }

func (e *engine) WriteMapping(p *plan.Plan) (string, error) { return e.writeDryRun(p, nil) }
