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
	return e.compare(ctx, p, dst)
}

func (e *engine) Execute(ctx context.Context, p *plan.Plan, dst Destination) (*Report, error) {
	return e.execute(ctx, p, dst)
}

func (e *engine) WriteResults(r *Report) error { return e.writeResults(r) }

func (e *engine) WriteMapping(p *plan.Plan) (string, error) { return e.writeDryRun(p, nil) }
