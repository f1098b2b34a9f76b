package registry

import (
	"context"
	"errors"
	"time"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/jobs"
	"github.com/mirror-appliance/appliance/registry/ready"
)

// verdicts judges releases, and keeps the last verdict of those that no caller waits for.
type verdicts struct {
	judge  *ready.Judge
	runner *jobs.Runner[api.ReadyRequest, api.ReadyProgress, api.Verdict]
	board  *board[api.ReadyRun, api.ReadyAnswer]
}

func newVerdicts(d *daemon) *verdicts {
	v := &verdicts{judge: ready.New(ready.Options{Store: d.store, Registry: d.cfg.Address(), Version: d.version,
		Updates: d.updates, Upstreams: d.cfg.Routes(), Dir: d.cfg.Database + ".ready", Log: d.log})}
	v.board = newBoard[api.ReadyRun, api.ReadyAnswer](d, "verdict", func(r *api.ReadyRun, host string) { r.Host = host })
	v.runner = jobs.New(jobs.Kind[api.ReadyRequest, api.ReadyProgress, api.Verdict]{
		Name: "verdict", Waits: true, Alone: d.alone("verdict"), Run: v.run, Drain: d.draining, Log: d.log,
		DryRun: func(api.ReadyRequest) bool { return true }, // it changes nothing
	})
	return v
}

func (v *verdicts) run(ctx context.Context, q api.ReadyRequest, progress func(api.ReadyProgress)) (api.Verdict, error) {
	if !q.Detach {
		return v.judge.Judge(ctx, q, progress)
	}
	asked := api.ReadyAsked{To: q.To, From: q.From, Channel: q.Channel, Architectures: q.Architectures, Content: q.Content, Keys: len(q.Keys) > 0}
	if q.Cluster != nil {
		asked.Cluster = q.Cluster.ID
	}
	tell, end := v.board.during(func() { v.runner.Stop() })
	defer end()
	tell(api.ReadyRun{Asked: asked})
	verdict, err := v.judge.Judge(ctx, q, func(p api.ReadyProgress) {
		tell(api.ReadyRun{Asked: asked, Progress: p})
		progress(p)
	})
	if ctx.Err() != nil {
		return verdict, err
	}
	answer := &api.ReadyAnswer{Asked: asked, Error: troubleOf(err), Ended: time.Now().UTC()}
	if err == nil {
		answer.Verdict = &verdict
	}
	v.board.keep(answer)
	return verdict, err
}

// State implements admin.Verdicts.
func (v *verdicts) State(ctx context.Context) api.ReadyState {
	running, last := v.board.look(ctx)
	return api.ReadyState{Running: running, Last: last}
}

// Stop implements admin.Verdicts. It leaves the verdict alone that another caller waits for.
func (v *verdicts) Stop(ctx context.Context) (running bool) {
	return v.board.stop(ctx, func() bool { return v.board.here() != nil && v.runner.Stop() })
}

// ImageSet implements admin.Verdicts.
func (v *verdicts) ImageSet(ctx context.Context) (string, error) {
	_, last := v.board.look(ctx)
	if last == nil || last.Verdict == nil {
		return "", hint.New(errors.New("there is no verdict, since the registry was started or, of several daemons, in the last week"), "ask for one first")
	}
	text, err := ready.ImageSet(*last.Verdict)
	return string(text), err
}
