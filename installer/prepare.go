package installer

import (
	"context"
	"path/filepath"
)

// PlanPrepare plans the part of an install that needs neither systemd nor rights: directories, CA, certificate and
// config.yaml, all of them the caller's. It is for a registry that another program runs, such as a development machine:
// `appliance serve --quayRoot DIR`. It makes no users.
func PlanPrepare(ctx context.Context, r Request, d Deps) (*Plan, error) {
	r.User = true
	s, err := newSite(r, d)
	if err != nil {
		return nil, err
	}
	if s.look() {
		s.resume(true)
	}
	s.want()
	switch {
	case s.cfg != nil:
		s.check(ctx, hostnameSyntax{s.cfg.Hostname}, storageContent{s.Host, s.cfg.Storage, s.cfg.Database}, databaseContent{s.Host, s.cfg.Database})
		for _, dir := range s.ownDirs() {
			s.check(ctx, dir)
		}
	case filepath.IsAbs(s.QuayRoot) && s.isQuay():
		s.check(ctx, mirrorRegistry{s.Host, s.unitDir(), s.QuayRoot})
	}
	plan, err := s.newPlan()
	if err != nil {
		return nil, err
	}
	plan.install = true
	plan.result.Address = s.cfg.Address()
	if s.record == nil && s.kept {
		s.record = s.guess()
	}
	b := &builder{site: s, Plan: plan, made: make(map[string]bool)}
	return plan, b.all(b.rootDirs, b.directories, b.files)
}
