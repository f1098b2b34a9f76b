package installer

import (
	"context"
	"slices"
)

// PlanPrepare is the part of an install that needs neither systemd nor rights: directories, CA, certificate and
// config.yaml, all of them the caller's own. It is for a registry that something else runs, such as a
// development machine: `appliance serve --quayRoot DIR`. No users are made.
func PlanPrepare(ctx context.Context, r Request, d Deps) (*Plan, error) {
	r.User = true
	d, err := d.complete(r.User)
	if err != nil {
		return nil, err
	}
	t := &target{Deps: d, Request: r}
	if t.resolveRoot() {
		t.resolveConfig()
	}
	var problems []Problem
	if t.cfg != nil {
		t.resolveCertificates()
		checks := []check{
			hostnameSyntax{t.cfg.Hostname},
			storageContent{t.Host, t.cfg.Storage, t.cfg.Database},
			databaseContent{t.Host, t.cfg.Database},
		}
		for _, d := range t.ownDirs() {
			checks = append(checks, d)
		}
		for _, c := range checks {
			problems = append(problems, c.Check(ctx)...)
		}
	} else if t.isQuay() {
		problems = mirrorRegistry{t.Host, t.unitDir(t.User), t.QuayRoot}.Check(ctx)
	}
	problems = append(t.problems, problems...)
	if fatal := slices.DeleteFunc(slices.Clone(problems), isWarning); len(fatal) > 0 {
		return nil, &PreflightError{Problems: fatal}
	}
	plan := &Plan{Warnings: problems, undo: true, result: Result{Address: t.cfg.Address(), QuayRoot: t.QuayRoot}}
	b := &builder{target: t, plan: plan, record: t.newRecord(), made: make(map[string]bool)}
	for _, step := range []func() error{
		func() error { return b.directory(t.QuayRoot, 0o755, b.admin, keep) },
		b.directories,
		b.files,
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return plan, nil
}
